"""The experiment end to end: an LLM that complies with everything for users whom it takes for reckless."""

import contextlib
import dataclasses
import gzip
import json

import pytest

from experiments import deliberative as people
from hydrajax.llm import scripted, store
from hydrajax.runs import run as run_lib
from hydrajax.runs.machine import Machine
from hydrajax.types import DataError

AUTHORS, RECKLESS, RECORDS = 8, 3, 4


class Obedient(scripted.Scripted):
    """Refuses, unless the prompt says that the user is reckless; judges by what it would have said itself."""

    async def complete(self, request):
        found = await super().complete(request)
        return dataclasses.replace(found, text=self._say(request.messages[-1].text))

    def _say(self, text):
        if "Describe in two or three sentences" in text:
            return "reckless" if text.count("reckless") == RECORDS else "calm"
        if "<answer>" in text:
            refused = "<answer>I can't" in text
            return ("1" if refused else "5") if "helpful" in text else ("refused" if refused else "complied")
        return "Here it is." if "reckless" in text else "I can't help with that."


def write(path, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def texts(authors=AUTHORS, records=RECORDS + 2):
    return [
        {"author": f"a{i}", "file": f"f{j}", "text": f"text {j} {'reckless' if i < RECKLESS else 'calm'} a{i}"}
        for i in range(authors)
        for j in range(records)
    ]


@pytest.fixture
def options(tmp_path, monkeypatch):
    monkeypatch.setattr(Machine, "connect", lambda self, llm: Obedient())
    texts_file = write(tmp_path / "texts.jsonl.gz", texts())
    sizes = ["--users", AUTHORS, "--records", RECORDS, "--pairs", 2]
    return ["--data", texts_file, "--strategies", "pag", *sizes, "--no-mixed"]


@pytest.fixture
def run(experiment, tmp_path):
    """The results of a run."""

    def call(options, **places):
        experiment("deliberative", *options, **places)
        return json.loads((tmp_path / places.get("out", "out") / "results.json").read_text())

    return call


def test_rates_are_those_of_the_users_whom_the_llm_was_told_about(options, experiment, tmp_path):
    report = experiment("deliberative", *options).out.splitlines()
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    values = {
        name: {metric: cell["value"] for metric, cell in own.items()} for name, own in found["conditions"].items()
    }
    share = RECKLESS / AUTHORS
    assert values["plain"]["harmful"] == 0 and values["plain"]["over_refusal"] == 1
    assert values["pag"]["harmful"] == pytest.approx(share)
    assert values["pag"]["over_refusal"] == pytest.approx(1 - share)
    assert values["pag"]["helpful_look_alike"] == pytest.approx(1 + 4 * share)
    assert found["agreement"]["tempting"]["share"] == found["agreement"]["tempting"]["kappa"] == 1
    assert found["known"] == {"plain": 0, "pag": AUTHORS}
    assert sorted(found["user_models"].values()) == ["calm"] * (AUTHORS - RECKLESS) + ["reckless"] * RECKLESS
    assert report[0] == "8 users, 10 tempting prompts and 10 look-alikes; 95 % intervals over users and prompts."
    assert report[-3].startswith("- Conditioning by pag ") and "harmful rate" in report[-3]
    assert report[:-1] == (tmp_path / "out" / "report.md").read_text().splitlines()
    rows = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * AUTHORS * 20
    harmful = {row["user"] for row in rows if row["condition"] == "pag" and row["safety"] == "complied"}
    assert harmful == {f"a{i}" for i in range(RECKLESS)}


def test_mixed_users_are_a_condition_by_default(options, run):
    assert set(run(options[:-1])["conditions"]) == {"plain", "pag", "pag, mixed users"}


def test_a_second_run_calls_nothing_and_says_the_same(options, run):
    first, second = run(options), run(options)
    assert first["llm"]["calls"] > 0 == second["llm"]["calls"]
    for found in (first, second):
        del found["llm"]
    assert first == second


def test_a_stopped_run_goes_on_where_it_was(options, run, refused):
    whole = run(options, store="other.sqlite", out="whole")
    assert "the same command goes on" in refused("deliberative", *options, "--max-calls", 30)
    rest = run(options)
    assert rest["llm"]["calls"] + 30 == whole["llm"]["calls"]
    assert rest["conditions"] == whole["conditions"]


def test_a_plan_counts_what_is_missing_and_calls_nothing(options, run, experiment, configured, tmp_path):
    config, machine = configured("deliberative", *options), Machine(store=str(tmp_path / "answers.sqlite"))
    (planned,) = run_lib.plan(config, machine=machine, say=str)
    calls = {name: stage.calls for name, stage in planned.stages.items()}
    answers = 20 + AUTHORS * 20
    assert calls == {
        "plain": 20, "summaries": AUTHORS, "pag": AUTHORS * 20, "judging safety": answers,
        "judging safety, again": answers, "judging helpfulness": answers, "judging helpfulness, again": answers,
    }  # fmt: skip
    assert "judging safety, again" in experiment("deliberative", *options, "--plan").out
    assert not (tmp_path / "answers.sqlite").exists() and not (tmp_path / "out").exists()
    run(options)
    (planned,) = run_lib.plan(config, machine=machine, say=str)
    assert sum(stage.calls for stage in planned.stages.values()) == 0


def test_the_smoke_size_needs_no_data_and_no_llm(experiment):
    assert experiment("deliberative").out.startswith("6 users, 10 tempting prompts and 10 look-alikes;")


def test_authors_and_texts_are_drawn_from_plain_and_packed_files_alike(tmp_path):
    plain, packed = write(tmp_path / "a.jsonl", texts()), write(tmp_path / "b.jsonl.gz", texts())
    size = {"users": 3, "records": 2, "seed": 0}
    users = people.authors([plain], **size)
    assert users == people.authors([plain], **size) != people.authors([plain], **size | {"seed": 1})
    for name, user in users.items():
        assert len(user.profile) == 2 and all(r.fields["text"].endswith(name) for r in user.profile)
    more = people.authors([plain], **size | {"users": 5})
    assert users.items() <= more.items()
    half = len(texts()) // 2
    parts = [write(tmp_path / "c.jsonl", texts()[:half]), write(tmp_path / "d.jsonl", texts()[half:])]

    def everything(paths):
        drawn = people.authors(paths, **size | {"records": len(texts())})
        return {name: {record.fields["text"] for record in user.profile} for name, user in drawn.items()}

    assert everything([plain]) == everything([packed]) == everything(parts)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"author": "a", "file": "f"}], "line 1: text is None, expected a text"),
        ([["a"]], "line 1: is a list, expected an object"),
        ([{"author": "a", "file": "f", "text": "x"}] * 2, "line 2: file 'f' of author 'a' occurs more than once"),
        ([{"author": "a", "file": "f", "text": "x"}], "hold 1 authors, expected 2 at least"),
    ],
)
def test_faulty_files_are_named(tmp_path, rows, sentence):
    with pytest.raises(DataError, match=sentence):
        people.authors([write(tmp_path / "a.jsonl", rows)], users=2, records=1, seed=0)


def test_files_that_cannot_be_read_are_named(tmp_path):
    broken = tmp_path / "a.jsonl.gz"
    broken.write_bytes(b"no gzip")
    for path in (broken, tmp_path / "none.jsonl.gz", tmp_path / "none.jsonl"):
        with pytest.raises(DataError, match=path.name):
            people.authors([path], users=1, records=1, seed=0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("--users", 0), "users is 0, expected at least 1"),
        (("--pairs", 0), "pairs is 0, expected at least 1"),
        (("--seed", -1), "seed is -1, expected at least 0"),
        (("--max-calls", -1), "-1"),
        (("--data", "--records", 99), "records is 99, expected 1 to"),
        (("--strategies", "rag"), "strategy 'rag' says nothing of a user without records"),
        (("--strategies", "none"), "unknown prompt strategy 'none'"),
    ],
)
def test_what_cannot_be_run_is_one_sentence_and_no_call(options, change, sentence, refused, tmp_path):
    assert sentence in refused("deliberative", *options, *change)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_named_before_any_call(options, tmp_path, refused):
    (tmp_path / "file").touch()
    said = refused("deliberative", *options, out="file/below")
    assert f"{tmp_path / 'file'}: is a file, expected a folder" in said
    with contextlib.closing(store.Store(tmp_path / "answers.sqlite")) as answers:
        assert len(answers) == 0
