import dataclasses
import json
import shutil

import numpy as np
import pytest

from hydrajax import files
from hydrajax.cli import main
from hydrajax.evaluation import predictions
from hydrajax.llm import request, scripted
from hydrajax.runs import answer, folder, kinds, run
from hydrajax.runs import config as config_lib
from hydrajax.types import DataError

pytestmark = pytest.mark.slow  # whole runs


@pytest.fixture
def ask(finished, tmp_path):
    """Asks the finished run, or another one, with a copy of its answers."""
    there = shutil.copy(finished.machine.store, tmp_path / "answers.sqlite")
    machine = dataclasses.replace(finished.machine, store=str(there))

    def call(user_id, text, run=None, **rest):
        return answer.answer(run or finished.out, user_id, text, machine=machine, **rest)

    return call


def test_a_finished_run_answers_as_it_did(finished, ask, monkeypatch):
    async def never(self, wanted):
        raise AssertionError("the LLM was called")

    monkeypatch.setattr(scripted.Scripted, "complete", never)
    for row in finished.predictions():
        found = ask(row["user"], row["input"])
        assert [found.prediction] == row["answers"]["hydra"]["predictions"]
        assert [record.id for record in found.records] == row["records"]["hydra"]
        pool = row["pools"]["reranked"]
        assert [(c.text, c.votes) for c in found.candidates] == [(c["text"], c["votes"]) for c in pool]
        np.testing.assert_allclose(found.scores, [c["scores"]["hydra"] for c in pool], atol=1e-5)
        assert found.personal == bool(row["records"]["hydra"])


def test_the_answer_is_the_candidate_of_the_highest_score(ask):
    found = ask("dev0", "something never asked before: lantern meadow copper")
    assert found.text == found.prediction == found.candidates[int(np.argmax(found.scores))].text
    assert sum(c.votes for c in found.candidates) == 3 and found.personal


def test_a_run_with_numbers_among_its_parameters_answers_too(finished, ask, tmp_path):
    config = dataclasses.replace(finished.config, scorer=dataclasses.replace(finished.config.scorer, family="linear"))
    machine = dataclasses.replace(finished.machine, store=str(tmp_path / "s.sqlite"))
    run.run(config, tmp_path / "run", command="c", machine=machine, say=lambda line: None)
    row = predictions.read(tmp_path / "run" / "predictions.jsonl")[0]
    assert [ask(row["user"], row["input"], tmp_path / "run").prediction] == row["answers"]["hydra"]["predictions"]


def test_an_adapter_that_has_learned_nothing_is_said_to(finished, ask, tmp_path, capsys):
    out = shutil.copytree(finished.out, tmp_path / "run")
    kept = files.read_json(out / "scorers" / "users.json")
    files.write_json(out / "scorers" / "users.json", {**kept, "rows": {"reranker": kept["rows"]["reranker"]}})
    row = finished.predictions()[0]
    assert ask(row["user"], row["input"]).taught
    found = ask(row["user"], row["input"], out)
    assert not found.taught and not found.personal and found.text == found.candidates[0].text
    command = ["answer", str(out), "--user", row["user"], "--input", row["input"], "--store", finished.machine.store]
    main.main([*command, "--explain"])
    said = capsys.readouterr()
    assert "the run's adapter has learned nothing: the first answer is taken" in said.err and "by nobody" in said.out


@pytest.mark.parametrize("user_id", ["dev2", "a stranger"])
def test_who_has_no_profile_gets_the_zero_shot_prompt_and_the_pooled_head(ask, user_id, monkeypatch):
    asked = []
    complete = scripted.Scripted.complete

    async def seen(self, wanted):
        asked.append(wanted)
        return await complete(self, wanted)

    monkeypatch.setattr(scripted.Scripted, "complete", seen)
    found = ask(user_id, f"asked by {user_id} alone")
    assert not found.personal and found.records == ()
    assert found.chosen_by == found.ranked_by == "the pooled head (the user has no records)"
    assert asked and all(len(wanted.messages) == 1 for wanted in asked)


def test_an_empty_input_is_refused(ask):
    with pytest.raises(DataError, match="input is empty"):
        ask("dev0", "  \n")


def test_only_a_finished_run_can_be_asked(tmp_path, finished, ask):
    with pytest.raises(DataError, match="holds no run"):
        ask("dev0", "text", run=tmp_path)
    folder.prepare(tmp_path / "begun", finished.config, "command")
    with pytest.raises(DataError, match="begun.*finish"):
        ask("dev0", "text", run=tmp_path / "begun")


def test_another_llm_can_be_named(ask):
    with pytest.raises(request.LLMError, match="unknown LLM 'gpt'"):
        ask("dev0", "text", llm="gpt")


def test_damaged_scorers_are_refused(tmp_path, finished, ask):
    out = shutil.copytree(finished.out, tmp_path / "run")
    path = out / "scorers" / "adapter" / "scorer.safetensors"
    path.write_bytes(path.read_bytes()[:-9] + b"123456789")
    with pytest.raises(DataError, match="scorer.safetensors"):
        ask("dev0", "text", run=out)


def test_several_slots_are_given_as_json(tmp_path, finished, ask):
    questions = {
        "train": [(f"t{i}", f"paper {i}") for i in range(3)],
        "dev": [("d0", "paper of d")],
    }
    for split, users in questions.items():
        lines = [
            {
                "user_id": user,
                "profile": [{"id": "1", "a": f"{text} a", "b": f"{text} b", "output": "4"}],
                "queries": [{"id": f"{user}-q", "inputs": {"a": f"{user} x", "b": f"{user} y"}, "output": "2"}],
            }
            for user, text in users
        ]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    (tmp_path / "two.toml").write_text(
        'name = "two"\nkind = "rating"\ntemplate = "Is {a} like {b}? [{labels}]"\nlabels = ["1", "2", "3", "4", "5"]\n'
    )
    out = shutil.copytree(finished.out, tmp_path / "run")
    (out / "config.json").unlink()
    values = {f.name: getattr(finished.config, f.name) for f in dataclasses.fields(finished.config)}
    config = config_lib.Custom(**values | {"task": str(tmp_path / "two.toml"), "data_dir": str(tmp_path)})
    files.write_json(out / "config.json", {**kinds.to_json(config), "command": "c"})
    assert ask("d0", '{"a": "one", "b": "two"}', run=out).prediction in ("1", "2", "3", "4", "5")
    for text in ("no JSON", '{"a": "one"}', '["a", "b"]'):
        with pytest.raises(DataError, match=r"a, b"):
            ask("d0", text, run=out)
    for text, got in (
        ('{"a": null, "b": "two"}', "None"),
        ('{"a": [1], "b": "two"}', r"\[1\]"),
        ('{"a": " ", "b": "x"}', "' '"),
    ):
        with pytest.raises(DataError, match=f"the input has {got} as 'a', expected a text"):
            ask("d0", text, run=out)
