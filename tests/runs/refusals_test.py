"""What cannot be run leaves nothing behind, and every method is judged by one answer."""

import dataclasses
import json

import pytest

from hydrajax.llm import request, scripted
from hydrajax.runs import workbench
from hydrajax.types import DataError


@pytest.fixture
def no_base(monkeypatch):
    def encoders(base, cache):
        raise DataError("no such base")

    monkeypatch.setattr(workbench, "encoders", encoders)


@pytest.mark.parametrize("folds", [0, 3])
def test_an_unknown_base_leaves_no_folder(tmp_path, lamp, config, machine, run, no_base, folds):
    wanted = config(lamp(tmp_path / "data", "LaMP_3"), "LaMP_3", folds=folds)
    with pytest.raises(DataError, match="no such base"):
        run(wanted, tmp_path / "run", machine(tmp_path))
    assert not (tmp_path / "run").exists()


def test_folds_with_an_unknown_llm_leave_no_folder(tmp_path, lamp, config, machine, run):
    wanted = config(lamp(tmp_path / "data", "LaMP_3"), "LaMP_3", folds=3, llm="gpt")
    with pytest.raises(request.LLMError, match="unknown LLM"):
        run(wanted, tmp_path / "run", machine(tmp_path))
    assert not (tmp_path / "run").exists()


def test_a_family_that_breaks_its_contract_is_refused_before_anybody_is_asked(
    tmp_path, lamp, config, machine, run, monkeypatch
):
    async def never(self, wanted):
        raise AssertionError("the LLM was called")

    monkeypatch.setattr(scripted.Scripted, "complete", never)
    (tmp_path / "mine.py").write_text(
        "from hydrajax.nn.heads import linear\n\n\nclass FAMILY(linear.Linear):\n"
        "    def score(self, shared, user, x, key=None):\n        return user\n"
    )
    wanted = config(lamp(tmp_path / "data", "LaMP_3"), "LaMP_3", adapter_family=str(tmp_path / "mine.py"))
    with pytest.raises(DataError, match=r"head family '.*mine\.py': score gives .*, expected one number"):
        run(wanted, tmp_path / "run", machine(tmp_path))


@pytest.mark.parametrize("below", ["", "x"])
def test_a_file_in_the_way_is_called_by_its_name(tmp_path, lamp, config, machine, run, untrained, below):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="file: is a file"):
        run(config(lamp(tmp_path / "data", "LaMP_3"), "LaMP_3"), tmp_path / "file" / below, machine(tmp_path))
    assert (tmp_path / "file").read_text() == "mine"


def test_an_empty_greedy_answer_stays_one_for_the_reranker_as_for_the_baselines(
    tmp_path, lamp, config, machine, run, untrained, monkeypatch
):
    complete = scripted.Scripted.complete

    async def empty(self, wanted):
        found = await complete(self, wanted)
        return dataclasses.replace(found, text="") if wanted.temperature == 0.0 else found

    monkeypatch.setattr(scripted.Scripted, "complete", empty)
    run(config(lamp(tmp_path / "data", "LaMP_3"), "LaMP_3"), tmp_path / "run", machine(tmp_path))
    for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines():
        answers = json.loads(line)["answers"]
        assert answers["rag"]["predictions"] == answers["hydra_reranker"]["predictions"] == [""]
        assert answers["hydra_reranker"]["candidate"] is None
