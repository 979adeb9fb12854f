"""What a person at the terminal sees: help that teaches, one clear sentence for bad input, and nothing left behind."""

import asyncio
import json
import pathlib
import re
import signal
import sys

import pytest

from hydrajax import retrieval
from hydrajax.cli import main
from hydrajax.cli import run as run_command
from hydrajax.data import tasks
from hydrajax.llm import scripted
from hydrajax.methods import selection
from hydrajax.methods import settings as settings_lib
from hydrajax.nn import families
from hydrajax.prompting import registry
from hydrajax.runs import authorship_config, kinds, run, workbench
from hydrajax.runs import config as config_lib
from hydrajax.training import losses
from tests.runs import conftest as stand_ins

TASK = tasks.LAMP["LaMP_3"]


@pytest.fixture(autouse=True)
def _anywhere(monkeypatch, tmp_path):
    """Every test starts in an empty folder, under `there`; data lie beside it."""
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def untrained(monkeypatch):
    """Runs without base and training."""
    monkeypatch.setattr(selection, "ValidatedLearner", stand_ins.Learner)
    monkeypatch.setattr(workbench, "encoders", stand_ins.encoders)


class Data:
    """LaMP's files as lists that a test may spoil before they are written."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder / "data"
        self.files = {}
        for split, users in (("train", 4), ("dev", 3)):
            questions, golds = [], []
            for i in range(users):
                profile = [
                    {"id": f"{j}", "text": f"review {j} of {split} {i} lantern meadow", "score": str(1 + (i + j) % 5)}
                    for j in range(4)
                ]
                text = TASK.question({"text": f"{split} {i} asks of copper and violin"})
                questions.append({"id": f"{split}{i}", "input": text, "profile": profile})
                golds.append({"id": f"{split}{i}", "output": str(1 + i % 5)})
            self.files[f"{split}_questions.json"] = questions
            self.files[f"{split}_outputs.json"] = {"task": "LaMP_3", "golds": golds}

    def write(self) -> str:
        (self.folder / "LaMP_3").mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (self.folder / "LaMP_3" / name).write_text(text)
        return str(self.folder)


@pytest.fixture
def data(tmp_path):
    return Data(tmp_path)


def lamp(data, *more, llm="scripted"):
    return [
        "run", "lamp", "--task", "LaMP_3", "--data-dir", data.write(), "--train-users", "None", "--dev-users", "None",
        "--llm", llm, *more,
    ]  # fmt: skip


def refused(arguments, capfd):
    """What is said on standard error by a command that exits with 2 and leaves nothing behind."""
    with pytest.raises(SystemExit) as stop:
        main.main(arguments)
    assert stop.value.code == 2
    out, err = capfd.readouterr()
    assert "Traceback" not in err and "hydrajax" in err and out == ""
    assert list(pathlib.Path.cwd().iterdir()) == []
    return err


def drop(data, name):
    data.files[name] = ""
    data.write()
    (data.folder / "LaMP_3" / name).unlink()
    del data.files[name]


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


def test_a_run_prints_its_table_and_where_it_lies(data, capfd, untrained):
    main.main(lamp(data))
    out = capfd.readouterr().out
    for method in ("zero_shot", "hydra", "oracle", "shuffled_heads"):
        assert f"  {method} " in out
    path = pathlib.Path(out.splitlines()[-1])
    assert path.name == "report.html" and path.is_file() and path.parts[0] == "runs"
    command = json.loads((path.parent / "config.json").read_text())["command"]
    assert command.startswith("hydrajax run lamp --task LaMP_3")


@pytest.mark.slow
def test_the_same_command_finds_its_folder_again_and_another_one_its_own(data, capfd, untrained):
    places = []
    for more in ([], [], ["--seed", "1"], ["--settings.samples", "2"]):
        main.main(lamp(data, *more))
        places.append(capfd.readouterr().out.splitlines()[-1])
    assert places[0] == places[1]
    assert len(set(places)) == 3


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (config_lib.Lamp(task="LaMP_3", data_dir="/tmp/d"), "LaMP_3-15f8502e"),
        (config_lib.Lamp(task="LaMP_2M", preset="paper", seed=3, train_users=None), "LaMP_2M-e771c04b"),
        (
            authorship_config.Authorship(data=("/tmp/a", "/tmp/b"), strategies=("hypotheses", "pag")),
            "hyperalign-60e054dd",
        ),
    ],
)
def test_folders_are_called_by_what_the_run_is(config, name):
    assert run_command.default_folder(config) == pathlib.Path("runs") / name


def test_head_families_are_named_for_both_scorers_or_apart(data, capfd, untrained):
    main.main(lamp(data, "--scorer.family", "simplex:bases=4", "--adapter-family", "facets", "--out", "run"))
    config = json.loads(pathlib.Path("run/config.json").read_text())
    assert config["scorer"]["family"] == "simplex:bases=4"
    assert (config["reranker_family"], config["adapter_family"]) == (None, "facets")


@pytest.mark.parametrize("option", ["--scorer.family", "--reranker-family", "--adapter-family"])
def test_an_unknown_head_family_names_the_valid_ones(option, data, capfd):
    said = refused(lamp(data, option, "forest"), capfd)
    assert "unknown head family 'forest', expected one of facets, " in said and "simplex" in said


def test_a_report_is_written_again_from_the_folder_alone(data, capfd, untrained, tmp_path):
    main.main(lamp(data, "--out", "run"))
    said = capfd.readouterr().out
    pathlib.Path("run/report.html").unlink()
    main.main(["report", "run"])
    again = capfd.readouterr().out
    assert pathlib.Path("run/report.html").is_file()
    assert again.splitlines()[:5] == said.splitlines()[:5]


def test_a_plan_refuses_the_folder_of_another_run(data, capfd, untrained, tmp_path):
    run = tmp_path / "run"
    main.main(lamp(data, "--out", str(run)))
    capfd.readouterr()
    said = refused(lamp(data, "--out", str(run), "--seed", "5", "--plan"), capfd)
    assert "holds a run with other settings (seed differ); give another --out" in said
    main.main(lamp(data, "--out", str(run), "--plan"))


def test_damaged_files_of_a_run_are_one_sentence(data, capfd, untrained, tmp_path):
    run = tmp_path / "run"
    main.main(lamp(data, "--out", str(run)))
    capfd.readouterr()
    whole = {name: json.loads((run / name).read_text()) for name in ("config.json", "results.json")}
    damaged = (
        ("results.json", {}, "results.json: has no 'experiment', expected a text"),
        ("results.json", {"experiment": "lamp"}, "results.json: has no 'task', expected a text"),
        ("results.json", {**whole["results.json"], "methods": {"rag": 3}}, "methods.rag is 3, expected an object"),
        ("config.json", {**whole["config.json"], "seed": "x"}, "config.json: does not hold the configuration of a run"),
        ("config.json", {**whole["config.json"], "settings": 3}, "config.json: does not hold the configuration of a"),
    )
    for name, values, sentence in damaged:
        (run / name).write_text(json.dumps(values))
        assert sentence in refused(["report", str(run)], capfd)
        (run / name).write_text(json.dumps(whole[name]))


def test_an_answer_can_be_had_and_explained(data, capfd, untrained):
    main.main(lamp(data, "--out", "run"))
    capfd.readouterr()
    question = ["run", "--user", "dev0", "--input", "lantern and copper"]
    main.main(["answer", *question])
    answered = capfd.readouterr().out.strip()
    assert answered in TASK.labels
    main.main(["answer", *question, "--explain"])
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == answered
    assert any(line.startswith("record ") and "of dev 0" in line for line in lines)
    assert any("1x" in line or "2x" in line for line in lines)


def test_a_stranger_is_answered_without_a_profile(data, capfd, untrained):
    main.main(lamp(data, "--out", "run"))
    capfd.readouterr()
    main.main(["answer", "run", "--user", "nobody we know", "--input", "lantern", "--explain"])
    out, err = capfd.readouterr()
    assert "answer chosen by nobody: nothing was learned" in out and "record " not in out
    assert err.startswith("hydrajax: 'nobody we know' is no user of this run: answered without a profile\n")


ANN = {"user_id": "ann", "profile": [{"id": f"{i}", "text": f"copper {i} of ann", "score": str(i)} for i in (1, 2, 3)]}


@pytest.mark.slow
def test_who_comes_later_is_answered_by_a_head_of_the_own(data, capfd, monkeypatch):
    monkeypatch.setattr(workbench, "encoders", stand_ins.encoders)
    main.main(lamp(data, "--out", "run", "--scorer.family", "linear", "--losses", "pairwise", "--epochs", "1"))
    pathlib.Path("people.jsonl").write_text(json.dumps(ANN) + "\n")
    come = ["personalise", "run", "--profile", "people.jsonl"]
    question = ["answer", "run", "--user", "ann", "--input", "lantern of ann", "--explain"]
    capfd.readouterr()
    main.main([*come, "--plan"])
    planned = capfd.readouterr().out
    assert "nothing was called" in planned and "record trials" in planned
    main.main(question)
    out, err = capfd.readouterr()
    assert "the pooled head" in out and "'ann' is no user of this run" in err
    main.main(come)
    out, err = capfd.readouterr()
    assert "1 user personalised, 0 before (" in out and " 0 calls" not in out and "1 of 1 users" in err
    assert "\nreranker: 1 of 1 got a head of their own\nadapter: 1 of 1 got a head of their own\n" in out
    main.main(question)
    out, err = capfd.readouterr()
    assert "answer chosen by the user's own head\n" in out and "records chosen by the" in out
    assert "of ann | " in out and err == ""
    main.main(come)
    assert capfd.readouterr().out == "personalised before: 1 user; no call was made\n"


def test_where_nobody_has_a_head_who_comes_later_is_known(data, capfd, untrained, tmp_path):
    main.main(lamp(data, "--out", str(tmp_path / "run")))
    path = tmp_path / "people.json"
    path.write_text(json.dumps([ANN]))
    capfd.readouterr()
    main.main(["personalise", str(tmp_path / "run"), "--profile", str(path)])
    out, _ = capfd.readouterr()
    assert "1 user kept, with no head of their own, 0 before (0 calls, 0 answers from the store)\n" in out
    for name in ("reranker", "adapter"):
        assert f"{name}: nobody gets a head of their own: it learned nothing in this run" in out
    path.write_text(json.dumps([ANN | {"user_id": "bob"}]))
    main.main(["personalise", str(tmp_path / "run"), "--profile", str(path), "--plan"])
    out, _ = capfd.readouterr()
    assert "1 user to personalise" in out and "adapter: nobody gets a head of their own" in out
    assert "nothing would be asked: no scorer gives users heads of their own" in out and "nothing was called" not in out
    main.main(["answer", str(tmp_path / "run"), "--user", "ann", "--input", "lantern", "--explain"])
    out, err = capfd.readouterr()
    assert "of ann | " in out and "answer chosen by nobody: nothing was learned" in out
    assert err == "hydrajax: the run's adapter has learned nothing: the first answer is taken\n"
    path.write_text(json.dumps([ANN | {"user_id": "dev0"}]))
    assert "'dev0'" in refused(["personalise", str(tmp_path / "run"), "--profile", str(path)], capfd)


def test_an_empty_question_is_refused(data, capfd, untrained, tmp_path):
    main.main(lamp(data, "--out", str(tmp_path / "run")))
    capfd.readouterr()
    said = refused(["answer", str(tmp_path / "run"), "--user", "dev0", "--input", " "], capfd)
    assert "input is empty" in said


def test_a_plan_writes_nothing_and_calls_nobody(data, capfd, monkeypatch):
    async def never(self, wanted):
        raise AssertionError("the LLM was called")

    monkeypatch.setattr(scripted.Scripted, "complete", never)
    main.main(lamp(data, "--plan", "--out", "run", "--store", "answers.sqlite"))
    out, err = capfd.readouterr()
    assert list(pathlib.Path.cwd().iterdir()) == []
    assert "nothing was called" in out and "record trials" in out and "h of calls" in out
    assert err == ""


def test_a_plan_of_bad_data_is_refused_too(data, capfd):
    SPOILT["no gold"][0](data)
    assert "no gold" in refused(lamp(data, "--plan"), capfd)


def test_presets_follow_the_llm_and_single_settings_override_them(data, capfd, monkeypatch):
    seen = []

    def planned(config, **rest):
        seen.append(config.settings)
        raise ValueError("seen enough")

    monkeypatch.setattr(run, "plan", planned)
    for llm, *more in (
        ("local",),
        ("claude-haiku-4-5",),
        ("local", "--preset", "paper"),
        ("claude-haiku-4-5", "--settings.samples", "3"),
    ):
        refused(lamp(data, "--plan", *more, llm=llm), capfd)
    presets = settings_lib.PRESETS
    assert seen[:3] == [presets["small"], presets["default"], presets["paper"]]
    assert (seen[3].samples, seen[3].retrieved) == (3, presets["default"].retrieved)
    refused(["run", "demo", "--plan"], capfd)
    assert seen[4] == presets["demo"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["run", "report", "answer", "personalise"]),
        (["run", "--help"], ["demo", "lamp", "custom"]),
        (["run", "demo", "--help"], ["--plan", "--llm", "--seed"]),
        (["run", "lamp", "--help"], ["--task", "--data-dir", "--train-users", "--skip-bad", "--settings.retrieved"]),
        (["run", "custom", "--help"], ["--task", "TOML"]),
        (["report", "--help"], ["report.html"]),
        (["answer", "--help"], ["--user", "--input", "--explain"]),
        (["personalise", "--help"], ["--profile", "JSON lines", "--plan", "--llm", "--store"]),
    ],
)
def test_help_teaches(capfd, arguments, words):
    with pytest.raises(SystemExit) as stop:
        main.main(arguments)
    assert stop.value.code == 0
    out = capfd.readouterr().out
    for word in words:
        assert word in out


def help_of(capfd, *arguments):
    with pytest.raises(SystemExit):
        main.main([*arguments, "--help"])
    return capfd.readouterr().out


def test_help_lists_what_there_is_to_choose_from_with_a_line_each(capfd):
    out = help_of(capfd, "run", "lamp")
    for name in (*registry.names(), *families.names(), *retrieval.names()):
        line = next((line for line in out.splitlines() if line.strip("│ ").startswith(f"{name}: ")), "")
        assert len(line.strip("│ ")) > len(name) + 10, name
    assert all(f"`{loss}`" in out for loss in losses.LOSSES)
    assert all(f"`{preset}`" in out for preset in ("auto", "small", "default", "paper"))
    assert "hypotheses: " in (own := help_of(capfd, "run", "hyperalign")) and "head families" not in own


def test_all_kinds_together_list_what_there_is_to_choose_from_once(capfd):
    out = help_of(capfd, "run")
    for name in (*registry.names(), *families.names(), *retrieval.names()):
        assert sum(line.strip("│ ").startswith(f"{name}: ") for line in out.splitlines()) == 1, name


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_help_is_written_for_users(kind, capfd):
    out = help_of(capfd, "run", kind)
    assert not re.search(r"hydrajax/\w+|`[a-z_]+\.[A-Za-z_.]+(\(\))?`|LOSSES", out.replace("`FILE.py", ""))
    assert kind == "hyperalign" or "{chat,one_prompt}" in out


def test_a_subcommands_help_is_its_own(capfd):
    custom, demo = help_of(capfd, "run", "custom"), help_of(capfd, "run", "demo")
    assert "train.jsonl" in custom and "train_questions.json" not in custom and "LaMP_2N" not in custom
    assert "--task" not in demo and "--data-dir" not in demo and "--folds" not in demo


@pytest.mark.parametrize("written", [["--strategies", "rag,persona"], ["--strategies", "rag", "persona"]])
def test_strategies_of_the_union_are_options_of_the_run(written, monkeypatch):
    seen = []
    monkeypatch.setattr(run, "plan", lambda config, **rest: seen.append(config) or sys.exit(0))
    with pytest.raises(SystemExit):
        main.main(["run", "lamp", "--task", "LaMP_3", *written, "--candidates", "5", "--no-cross-user", "--plan"])
    chosen = seen[0].settings
    assert (chosen.strategies, chosen.candidates, chosen.cross_user) == (("rag", "persona"), 5, False)
