"""A finished run is shown, not computed again, as long as it would be the same; its checkpoints go."""

import dataclasses
import json

import pytest

from hydrajax.runs import finished
from hydrajax.types import Query, Split, User

DATA = Split(name="train", users={"a": User(id="a")}, queries=(Query(id="q", user_id="a", inputs={"text": "?"}),))


@pytest.fixture
def out(tmp_path):
    (tmp_path / "checkpoints" / "adapter").mkdir(parents=True)
    for name in ("results.json", "invocations.jsonl", "report.html", "user_models.jsonl"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "scorers").mkdir()
    (tmp_path / "scorers" / "users.json").write_text("{}")
    return tmp_path


def test_checkpoints_go_when_all_is_done_and_nothing_else(out):
    before = {path for path in out.rglob("*") if "checkpoints" not in path.parts}
    assert not finished.still(out, DATA)
    finished.keep(out, DATA)
    assert {*out.rglob("*")} == before | {out / finished.FILE}
    assert finished.still(out, DATA)


def test_a_run_without_checkpoints_is_computed_again_as_ever(out):
    (out / "checkpoints" / "adapter").rmdir()
    (out / "checkpoints").rmdir()
    finished.keep(out, DATA)
    assert not finished.still(out, DATA) and finished.why_anew(out, DATA) == ""


@pytest.mark.parametrize("name", ["invocations.jsonl", "report.html", "added/user.safetensors"])
def test_what_comes_later_changes_nothing(out, name):
    finished.keep(out, DATA)
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("something else")
    assert finished.still(out, DATA)


@pytest.mark.parametrize(
    "change",
    [
        lambda out: (out / "user_models.jsonl").write_text("[]"),  # as long as it was
        lambda out: (out / "results.json").unlink(),
        lambda out: (out / "scorers" / "users.json").unlink(),
        lambda out: (out / finished.FILE).write_text("{"),
        finished.begin_anew,
    ],
)
def test_what_would_be_another_run_is_computed(out, change):
    finished.keep(out, DATA)
    change(out)
    assert not finished.still(out, DATA)


OTHERS = dataclasses.replace(DATA, users={"a": User(id="a", attributes={"age": "3"})})


def test_other_data_are_another_run(out):
    finished.keep(out, DATA)
    assert not finished.still(out, OTHERS)


@pytest.mark.parametrize("long", [True, False])
@pytest.mark.parametrize(
    ("change", "data", "reason"),
    [
        (lambda out: None, OTHERS, "(its data)"),
        (lambda out: (out / "user_models.jsonl").write_text("[]"), DATA, "(its user models)"),
        (lambda out: (out / "user_models.jsonl").write_text("[1]"), DATA, "(its user models)"),
        (lambda out: (out / "results.json").write_text("{,}"), DATA, "(results.json in its folder)"),
        (lambda out: (out / "scorers" / "users.json").unlink(), OTHERS, "(its data; scorers/users.json in its folder)"),
        (lambda out: (out / finished.FILE).write_text("{"), DATA, "since finished.json is damaged"),
    ],
)
def test_what_differs_is_named(out, change, data, reason, long):
    if not long:
        (out / "checkpoints" / "adapter").rmdir()
        (out / "checkpoints").rmdir()
    finished.keep(out, DATA)
    assert finished.why_anew(out, DATA) == ""
    change(out)
    assert finished.why_anew(out, data).endswith(reason)


def test_a_folder_says_that_its_results_are_of_before_until_they_are_not(out):
    finished.keep(out, DATA)
    assert finished.of_before(out) == ""
    why = finished.why_anew(out, OTHERS)
    finished.begin_anew(out, why)
    assert why in finished.of_before(out) and "what is shown is of before" in finished.of_before(out)
    assert finished.why_anew(out, OTHERS) == why  # after an interruption
    finished.keep(out, OTHERS)
    assert finished.of_before(out) == "" == finished.why_anew(out, OTHERS)


def test_a_run_that_has_no_results_yet_has_none_of_before(out):
    (out / "results.json").unlink()
    finished.begin_anew(out)
    assert finished.of_before(out) == ""


def test_what_an_older_version_kept_is_still_finished(out):
    finished.keep(out, DATA)
    kept = json.loads((out / finished.FILE).read_text())
    del kept[finished.LONG]
    (out / finished.FILE).write_text(json.dumps(kept))
    assert finished.still(out, DATA)


def test_a_finished_run_whose_results_are_gone_is_of_before_while_it_is_computed_anew(out):
    finished.keep(out, DATA)
    (out / "results.json").unlink()
    why = finished.why_anew(out, DATA)
    assert "results.json in its folder" in why
    finished.begin_anew(out, why)
    assert "what is shown is of before" in finished.of_before(out) and why in finished.of_before(out)
