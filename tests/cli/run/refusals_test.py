"""Bad input at the terminal: one clear sentence, and nothing left behind."""

import asyncio
import json
import pathlib
import signal

import pytest

from hydrajax.cli import main
from hydrajax.llm import scripted
from tests.cli.run.conftest import drop, lamp, refused

FAMILY = """
import dataclasses
import jax.numpy as jnp

@dataclasses.dataclass(frozen=True)
class Narrow:
    hidden: int = 4

    def init_shared(self, key, dims):
        return {}

    def init_user(self, key, dims):
        return {"w": jnp.zeros((self.hidden, dims.inputs))}

    def generic(self, shared):
        return shared["generic"]

    def score(self, shared, user, x, key=None):
        return jnp.tanh(user["w"] @ x).sum()

FAMILY = Narrow
"""
SPOILT = {
    "missing file": (lambda d: drop(d, "dev_outputs.json"), ["dev_outputs.json", "does not exist"]),
    "broken JSON": (lambda d: d.files.update({"dev_questions.json": "[{"}), ["dev_questions.json", "broken JSON"]),
    "no gold": (
        lambda d: d.files["dev_outputs.json"]["golds"].pop(1),
        ["dev_questions.json", "'dev1'", "no gold", "dev_outputs.json"],
    ),
    "empty gold": (
        lambda d: d.files["dev_outputs.json"]["golds"][1].update(output=" "),
        ["dev_outputs.json", "'dev1'", "empty output"],
    ),
    "unknown label": (
        lambda d: d.files["dev_outputs.json"]["golds"][1].update(output="6"),
        ["dev_outputs.json", "'dev1'", "'6'", "1, 2, 3, 4, 5"],
    ),
    "unknown label of a record": (
        lambda d: d.files["train_questions.json"][2]["profile"][3].update(score="good"),
        ["train_questions.json", "'train2'", "record '3'", "'good'"],
    ),
    "no required field": (
        lambda d: d.files["train_questions.json"][2]["profile"][3].pop("text"),
        ["train_questions.json", "'train2'", "record '3'", "'text'"],
    ),
    "duplicate question": (
        lambda d: d.files["train_questions.json"].append(d.files["train_questions.json"][0]),
        ["train_questions.json", "'train0'", "more than once"],
    ),
    "duplicate gold": (
        lambda d: d.files["train_outputs.json"]["golds"].append({"id": "train0", "output": "3"}),
        ["train_outputs.json", "'train0'", "more than once"],
    ),
    "duplicate record": (
        lambda d: d.files["dev_questions.json"][0]["profile"][1].update(id="0"),
        ["dev_questions.json", "'dev0'", "'0'", "more than once"],
    ),
    "malformed input": (
        lambda d: d.files["dev_questions.json"][2].update(input="no such template"),
        ["dev_questions.json", "'dev2'", "review:"],
    ),
    "no profile": (
        lambda d: d.files["dev_questions.json"][2].pop("profile"),
        ["dev_questions.json", "'dev2'", "profile"],
    ),
    "another task's outputs": (
        lambda d: d.files["dev_outputs.json"].update(task="LaMP_4"),
        ["dev_outputs.json", "'LaMP_4'", "'LaMP_3'"],
    ),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_bad_data_are_named_by_file_and_id(data, capfd, fault):
    spoil, words = SPOILT[fault]
    spoil(data)
    said = refused(lamp(data), capfd)
    for word in words:
        assert word in said, said


def test_several_faults_are_told_at_once(data, capfd):
    for fault in ("unknown label", "no gold"):
        SPOILT[fault][0](data)
    data.files["dev_questions.json"][2]["profile"][1].pop("score")
    said = refused(lamp(data), capfd)
    assert "'dev1'" in said and "'dev2'" in said and "'score'" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task", "LaMP_9"], ["LaMP_9", "LaMP_1", "LaMP_7"]),
        (["--data-dir", "/no/such/folder"], ["/no/such/folder", "does not exist"]),
        (["--llm", "gpt-4"], ["'gpt-4'", "local", "claude"]),
        (["--llm", "/no/such/model.gguf"], ["/no/such/model.gguf"]),
        (["--train-users", "99"], ["99", "'train'", "4 users"]),
        (["--dev-users", "0"], ["--dev-users is 0", "at least 1"]),
        (["--queries-per-user", "0"], ["--queries-per-user is 0"]),
        (["--settings.temperature", "nan"], ["--settings.temperature is nan", "finite"]),
        (["--scorer.weight-decay", "inf"], ["--scorer.weight-decay is inf", "finite"]),
        (["--folds", "3", "--fold", "3"], ["--fold is 3", "0 to 2"]),
        (["--folds", "99"], ["99 folds"]),
        (["--settings.retrieved", "2", "--settings.shown", "3"], ["shown is (3,)", "retrieved"]),
        (["--settings.adapter-pools", "nonsense"], ["nonsense", "shared"]),
        (["--seed", "many"], ["--seed", "many"]),
        (["--no-such-option"], ["--no-such-option"]),
        (["--preset", "huge"], ["huge", "paper"]),
        (["--settings.temperature", "2.5"], ["settings.temperature is 2.5, expected a number from 0 to 2"]),
        (["--max-pair-tokens", "3"], ["--max-pair-tokens is 3, expected at least 8"]),
        (["--plan", "--max-pair-tokens", "99999"], ["--max-pair-tokens is 99999, expected at most"]),
        (["--devices", "999"], ["--devices is 999, expected 1 to the"]),
        (["--train-users", "1"], ["--train-users is 1: ", "at least one on either side"]),
        (["--dev-users", "99"], ["--dev-users is 99, expected 1 to 3"]),
        (["--max-calls", "-1"], ["--max-calls is -1, expected at least 0"]),
        (["--epochs"], ["--epochs is empty, expected one number or more"]),
        (["--losses"], ["--losses is empty, expected some of cross_entropy"]),
        (["--tasks", "x"], ["in hydrajax run lamp --help"]),
    ],
)
@pytest.mark.parametrize("plan", [False, True])
def test_what_cannot_be_run_is_refused_and_not_planned(data, capfd, arguments, words, plan):
    said = refused(lamp(data, *arguments, *(["--plan"] if plan else [])), capfd)
    for word in words:
        assert word in " ".join(said.split()), said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["foo"],
            "unknown command 'foo', expected one of run, report, answer, personalise, sample, store, user-models",
        ),
        (["run", "foo"], "unknown kind of run 'foo', expected one of demo, lamp, custom, hyperalign"),
        (
            ["run", "lamp", "--task", "LaMP_3", "--settings.shown", "0"],
            "--settings.shown is (0,), expected numbers from 1 to retrieved (5)",
        ),
        (["run", "lamp", "--task", "LaMP_3", "--seed", "-1"], "--seed is -1, expected at least 0"),
        (["run", "demo", "--scorer.family", "nowhere.py"], "head family 'nowhere.py': nowhere.py does not exist"),
    ],
)
def test_a_setting_is_refused_in_one_plain_sentence(arguments, sentence, capfd):
    assert refused(arguments, capfd) == f"hydrajax: {sentence}\n"


def test_a_missing_option_is_asked_for(tmp_path, capfd):
    path = tmp_path / "tone.toml"
    path.write_text('name = "tone"\nkind = "generation"\ntemplate = "Answer: {message}"\n')
    assert "--task" in refused(["run", "lamp", "--data-dir", "."], capfd)
    assert "--data-dir" in refused(["run", "custom", "--task", str(path)], capfd)
    assert "--user" in refused(["answer", "run", "--input", "text"], capfd)


@pytest.mark.parametrize("content", ["", 'name = "x"', "kind = ["])
def test_a_bad_declaration_of_a_task_is_named(tmp_path, capfd, content):
    path = tmp_path / "my.toml"
    path.write_text(content)
    assert str(path) in refused(["run", "custom", "--task", str(path), "--data-dir", str(tmp_path)], capfd)


def test_a_folder_that_holds_something_else_is_left_alone(data, tmp_path, capfd):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    assert "not empty" in refused(lamp(data, "--out", str(out)), capfd)
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_a_folder_of_another_run_is_left_alone(data, tmp_path, capfd, untrained):
    out = tmp_path / "mine"
    main.main(lamp(data, "--out", str(out)))
    capfd.readouterr()
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    said = refused(lamp(data, "--out", str(out), "--seed", "1"), capfd)
    assert "other settings" in said and "seed" in said and "--out" in said
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("command", "more"),
    [("report", []), ("answer", ["--user", "u", "--input", "text"]), ("personalise", ["--profile", "people.json"])],
)
def test_a_folder_without_a_run_cannot_be_used(tmp_path, capfd, command, more):
    assert str(tmp_path / "no-run") in refused([command, str(tmp_path / "no-run"), *more], capfd)


def test_a_run_that_was_only_begun_cannot_be_used(data, tmp_path, capfd, untrained, monkeypatch):
    complete = scripted.Scripted.complete

    async def interrupted(self, wanted):
        if self.parallel:
            self.parallel = 0
            signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0.2)  # what is under way is waited for
        return await complete(self, wanted)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(scripted.Scripted, "complete", interrupted)
        # A shell may have told its background processes to ignore interrupts.
        patch.setattr(signal, "SIGINT", signal.SIGINT)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(SystemExit) as stop:
                main.main(lamp(data, "--out", str(out)))
        finally:
            signal.signal(signal.SIGINT, before)
    assert stop.value.code == 130
    assert "interrupted" in capfd.readouterr().err
    assert str(out) in refused(["report", str(out)], capfd)
    assert str(out) in refused(["answer", str(out), "--user", "u", "--input", "text"], capfd)


@pytest.mark.parametrize("option", ["--scorer.family", "--reranker-family", "--adapter-family"])
def test_an_unknown_head_family_names_the_valid_ones(option, data, capfd):
    said = refused(lamp(data, option, "forest"), capfd)
    assert "unknown head family 'forest', expected one of facets, " in said and "simplex" in said


def test_a_plan_refuses_the_folder_of_another_run(data, capfd, untrained, tmp_path):
    run = tmp_path / "run"
    main.main(lamp(data, "--out", str(run)))
    capfd.readouterr()
    said = refused(lamp(data, "--out", str(run), "--seed", "5", "--plan"), capfd)
    assert "holds a run with other settings (seed differ); give another --out" in said
    main.main(lamp(data, "--out", str(run), "--plan"))


def test_a_plan_refuses_a_folder_that_holds_something_else(data, capfd, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("years of work")
    said = refused(lamp(data, "--plan", "--out", str(tmp_path / "thesis")), capfd)
    assert "is not empty and holds no run" in said


def test_a_plan_refuses_a_family_that_the_run_refuses(data, capfd, tmp_path):
    (tmp_path / "narrow.py").write_text(FAMILY)
    said = refused(lamp(data, "--scorer.family", f"{tmp_path / 'narrow.py'}:hidden=-3", "--plan"), capfd)
    assert "narrow.py:hidden=-3': init_user" in said
    main.main(lamp(data, "--scorer.family", f"{tmp_path / 'narrow.py'}:hidden=3", "--plan"))


def test_a_question_that_does_not_fit_the_task_is_refused(data, capfd, untrained, tmp_path):
    main.main(lamp(data, "--out", str(tmp_path / "run")))
    capfd.readouterr()
    asked = ["answer", str(tmp_path / "run"), "--user", "dev0", "--input"]
    assert "input is empty" in refused([*asked, " "], capfd)
    assert "not exactly the texts text, got txet" in refused([*asked, '{"txet": "lantern"}'], capfd)
    main.main([*asked, '{"text": "lantern"}'])
    named = capfd.readouterr().out
    main.main([*asked, "lantern"])
    assert capfd.readouterr().out == named


def test_a_plan_of_bad_data_is_refused_too(data, capfd):
    SPOILT["no gold"][0](data)
    assert "no gold" in refused(lamp(data, "--plan"), capfd)


def test_skip_bad_lists_and_goes_on(data, capfd, untrained):
    SPOILT["unknown label"][0](data)
    SPOILT["no required field"][0](data)
    main.main(lamp(data, "--skip-bad", "--out", "run"))
    out, err = capfd.readouterr()
    skipped = [line for line in err.splitlines() if line.startswith("skipped:")]
    assert len(skipped) == 2
    assert "'train2'" in skipped[0] and "'dev1'" in skipped[1] and "'6'" in skipped[1]
    assert json.loads(pathlib.Path("run/results.json").read_text())["users"] == 2
    assert out.rstrip().endswith("report.html")
