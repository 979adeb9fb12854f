"""A run with strategies reports the union; a run without is what it was."""

import json

import pytest

from hydrajax.evaluation import roster
from hydrajax.methods import llm_stages
from hydrajax.runs import run as run_lib
from hydrajax.types import DataError

CHOSEN = ("label_histogram", "persona")


@pytest.mark.slow
def test_a_run_with_strategies_reports_the_union_beside_everything_else(tmp_path, lamp, config, settings, machine, run):
    lamp(tmp_path / "data", "LaMP_2M", train=8, dev=3)
    out = tmp_path / "out"
    told = settings(strategies=("zero_shot", *CHOSEN), candidates=3)
    wanted, here = config(tmp_path / "data", "LaMP_2M", settings=told), machine(tmp_path)
    found = run(wanted, out, here)
    assert set(roster.GROUPS["The union"]) <= set(found["methods"])
    assert sum(found["sources"]["union"].values()) == pytest.approx(1)
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    for row in rows:
        variant, index = row["answers"]["union"]["candidate"]
        chosen = row["pools"][variant][index]
        assert chosen["prediction"] == row["answers"]["union"]["predictions"][0]
        assert chosen["scores"]["union"] == max(c["scores"]["union"] for c in row["pools"][variant])
    text = (out / "report.html").read_text()
    chosen = json.loads((out / "choices.json").read_text())["union"]
    assert sum(chosen["candidates"].values()) == pytest.approx(3) and chosen["best_source"] in chosen["sources"]
    assert "The union against every other" in text and "Is the prompt personal?" in text
    # The choice by the LLM costs a call a query more than the union.
    calls = {method: cost["calls"] for method, cost in found["new_user"].items()}
    assert calls["union"] > calls["zero_shot"]
    several = sum(len(row["pools"]["union"]) > 1 for row in rows)
    assert calls["llm_choice"] == pytest.approx(calls["union"] + several / len({row["user"] for row in rows}), abs=2e-3)
    assert [c["b"] for c in found["personal"]] == ["persona_shuffled", "label_histogram_shuffled"]
    union = {c["b"]: c["difference"] for c in found["union"]["comparisons"]}
    assert set(union) == set(found["methods"]) - {"union"} and union["union_oracle"] <= 0
    # Whatever is asked once is known: a second run calls nobody. A plan does not know what the LLM chose among.
    assert run(wanted, out, here)["llm"]["calls"] == 0
    left = {name for name, stage in run_lib.plan(wanted, machine=here)[0].stages.items() if stage.calls}
    assert left <= {llm_stages.LLM_CHOICE}


@pytest.mark.slow
@pytest.mark.parametrize("task", ["LaMP_2M", "LaMP_4"])
def test_a_plan_counts_the_calls_of_a_run_with_the_union(tmp_path, lamp, config, settings, machine, run, task):
    told = settings(strategies=("rag", *CHOSEN[: 1 + (task == "LaMP_2M")]), candidates=3, shown=(2,))
    wanted = config(lamp(tmp_path / "data", task, train=6, dev=3), task, settings=told)
    here = machine(tmp_path)
    planned = run_lib.plan(wanted, machine=here)[0].stages
    sent = run(wanted, tmp_path / "run", here)["llm"]["calls"]
    # Sets of reasoning are counted as if all of it held, of which the scripted LLM writes none.
    counted = sum(stage.calls for name, stage in planned.items() if name != "personas: reasoning tried")
    assert counted == pytest.approx(sent, rel=0.1)
    assert ("personas: reasoning tried" in planned) == (task == "LaMP_2M")
    assert "choice among the candidates" in planned and "rag: candidates to learn from" in planned


@pytest.mark.slow
def test_without_cross_user_what_looks_at_others_is_left_out_and_said(
    tmp_path, lamp, config, settings, machine, untrained
):
    told = settings(strategies=("cfrag", "rag", "peer_difference"), cross_user=False, candidates=3)
    wanted, said = config(lamp(tmp_path / "data", "LaMP_4"), "LaMP_4", settings=told), []
    found = run_lib.run(wanted, tmp_path / "run", command="", machine=machine(tmp_path), say=said.append)
    assert {"cfrag", "peer_difference"} & set(found["methods"]) == set()
    assert [c["a"] for c in found["personal"]] == ["rag"]
    assert [line.split()[1] for line in said if line.startswith("note:")] == ["cfrag", "peer_difference"]


def test_strategies_may_be_joined_by_commas_and_stand_there_once(settings):
    assert settings(strategies=("rag,persona", " pag ,")).strategies == ("rag", "persona", "pag")
    for given in (("rag,rag",), ("rag", "persona,rag")):
        with pytest.raises(DataError, match=r"strategies is rag, .*rag, expected each of them once"):
            settings(strategies=given)
