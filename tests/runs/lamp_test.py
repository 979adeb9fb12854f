"""Whole runs. Only `finished` and what continues it trains anything."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from hydrajax import files, retrieval
from hydrajax.llm import request, scripted, store
from hydrajax.runs import config as config_lib
from hydrajax.runs import invocations, load, saved
from hydrajax.runs import lamp as lamp_lib
from hydrajax.runs import machine as machine_lib
from hydrajax.runs import run as run_lib
from hydrajax.types import DataError
from tests.runs.conftest import SCORER, SETTINGS, Dies, never

pytestmark = pytest.mark.slow  # whole runs
ROOT = pathlib.Path(__file__).parents[2]
FILES = {"config.json", "results.json", "predictions.jsonl", "report.html", "choices.json", "curves.json"}
METHODS = {
    "pooled_reranker", "zero_shot_random", "zero_shot_oracle", "zero_shot_vote",
    "zero_shot", "icl_random", "rag", "pag", "hydra_reranker", "hydra_adapter", "hydra", "random", "oracle",
    "pooled_head", "shuffled_heads", "vote", "nearest_record",
}  # fmt: skip


def whole_files(folder):
    """Every file of a run folder but locks; those of JSON are read, so that half of one would raise."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    for path in files:
        if path.suffix == ".json":
            json.loads(path.read_text())
        if path.suffix == ".jsonl":
            [json.loads(line) for line in path.read_text().splitlines()]
    return {str(path.relative_to(folder)) for path in files}


def test_a_run_folder_holds_everything(finished):
    assert whole_files(finished.out) >= FILES
    assert json.loads((finished.out / "results.json").read_text()) == finished.results
    assert json.loads((finished.out / "config.json").read_text())["command"] == "hydrajax run it"
    assert not [path for path in finished.out.rglob("*") if path.name.startswith(".") or "tmp" in path.suffix]


def test_results_say_who_was_asked_what_and_what_it_cost(finished):
    results = finished.results
    assert (results["experiment"], results["task"], results["split"]) == ("lamp", "LaMP_3", "dev")
    assert (results["users"], results["queries"]) == (3, 3)
    assert set(results["methods"]) == METHODS | {"most_frequent_label"}
    assert results["llm"]["model"] == "scripted" and results["llm"]["calls"] > 0
    with_cost = {"zero_shot", "icl_random", "rag", "pag", "hydra_reranker", "hydra_adapter", "hydra"}
    assert set(results["new_user"]) == with_cost
    assert results["new_user"]["zero_shot"]["calls"] == 1.0
    answers = store.Store(finished.machine.store)
    try:
        assert len(answers) == results["llm"]["calls"]
    finally:
        answers.close()


def test_predictions_are_complete(finished):
    rows = finished.predictions()
    assert sorted(row["query"] for row in rows) == ["dev0", "dev1", "dev2"]
    for row in rows:
        assert set(row["answers"]) == METHODS | {"most_frequent_label"}
        assert set(row["pools"]) == {"zero_shot", "reranked"}
        for pool in row["pools"].values():
            assert sum(candidate["votes"] for candidate in pool) == finished.config.settings.samples + 1
            assert len({candidate["prediction"] for candidate in pool}) == len(pool)
        for own in row["records"].values():
            assert set(own) <= set(row["record_texts"])
        for method, answer in row["answers"].items():
            if answer["candidate"] is not None:
                pool, index = answer["candidate"]
                assert answer["predictions"] == [row["pools"][pool][index]["prediction"]], method


def test_the_candidate_of_the_highest_score_is_the_answer(finished):
    where = {"hydra": "reranked", "pooled_head": "reranked", "hydra_adapter": "zero_shot"}
    for row in finished.predictions():
        for method, pool in where.items():
            scores = [candidate["scores"][method] for candidate in row["pools"][pool]]
            assert row["answers"][method]["candidate"] == [pool, int(np.argmax(scores))]
        best = max(candidate["quality"] for candidate in row["pools"]["reranked"])
        assert row["pools"]["reranked"][row["answers"]["oracle"]["candidate"][1]]["quality"] == best


def test_a_user_without_a_profile_is_answered_by_the_pooled_head_without_records(finished):
    rows = {row["user"]: row for row in finished.predictions()}
    cold = rows.pop("dev2")
    assert cold["records"] == {"hydra": []} and cold["record_texts"] == {}
    for candidate in cold["pools"]["reranked"]:
        assert candidate["scores"]["hydra"] == candidate["scores"]["pooled_head"]
    for row in rows.values():
        assert row["records"]["hydra"]
        assert any(c["scores"]["hydra"] != c["scores"]["pooled_head"] for c in row["pools"]["reranked"])


def test_the_reranker_has_a_say(finished):
    # Else nothing here could tell reranked records from retrieved ones.
    data = load.read(finished.config)
    for row in finished.predictions():
        query = next(query for query in data.dev.queries if query.id == row["query"])
        found = retrieval.retrieve("bm25", data.task, query, data.users[query.user_id], len(row["records"]["hydra"]))
        if [record.id for record in found] != row["records"]["hydra"]:
            return
    raise AssertionError("every query shows the records that the retriever ranks first")


def copied(finished, folder):
    """The finished run and its store, for tests that go on with them."""
    shutil.copytree(finished.out, folder / "run")
    machine = machine_lib.Machine(store=str(folder / "answers.sqlite"), cache=finished.machine.cache)
    shutil.copy(finished.machine.store, machine.store)
    return folder / "run", machine


def test_a_second_run_calls_nobody_and_finds_the_same(finished, tmp_path, run, comparable, monkeypatch):
    monkeypatch.setattr(scripted.Scripted, "complete", never)
    out, machine = copied(finished, tmp_path)
    again = run(finished.config, out, machine)
    assert again["llm"]["calls"] == 0 and again["llm"]["input_tokens"] == 0
    assert again["llm"]["cached"] >= finished.results["llm"]["calls"]
    assert comparable(again) == comparable(finished.results)
    assert json.loads((out / "results.json").read_text()) == again
    assert (out / "predictions.jsonl").read_bytes() == (finished.out / "predictions.jsonl").read_bytes()
    assert (out / "choices.json").read_bytes() == (finished.out / "choices.json").read_bytes()


def test_a_run_whose_llm_goes_away_goes_on_and_ends_the_same(finished, tmp_path, run, comparable, machine):
    here, out = machine(tmp_path), tmp_path / "run"
    answers = 0
    for n in (0, 1, 30, 40):  # in the first request, in a baseline, in trials, in candidates
        with pytest.MonkeyPatch.context() as patch:
            Dies(patch, n)
            with pytest.raises(request.LLMError, match="went away.*run again to go on"):
                run(finished.config, out, here)
        assert not (whole_files(out) & (FILES - {"config.json"}))
        kept = store.Store(here.store)
        assert len(kept) == answers + n
        answers = len(kept)
        kept.close()
    found = run(finished.config, out, here)
    assert found["llm"]["calls"] == finished.results["llm"]["calls"] - answers
    invocations = files.read_lines(out / "invocations.jsonl")
    assert [one["finished"] for one in invocations] == [False] * 4 + [True]
    assert sum(one["calls"] for one in invocations) == finished.results["llm"]["calls"]
    assert comparable(found) == comparable(finished.results)
    assert (out / "predictions.jsonl").read_bytes() == (finished.out / "predictions.jsonl").read_bytes()


@pytest.mark.parametrize("where", ["pretraining", "saving", "report"])
def test_a_run_that_breaks_off_later_goes_on_without_a_call(finished, tmp_path, run, comparable, where, monkeypatch):
    names = {
        "pretraining": (lamp_lib.selection.training, "pretrain"),
        "saving": (saved, "save"),
        "report": (lamp_lib, "write_report"),
    }
    out, machine = tmp_path / "run", copied(finished, tmp_path / "finished")[1]

    def breaks(*args, **rest):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*names[where], breaks)
        with pytest.raises(KeyboardInterrupt):
            run(finished.config, out, machine)
    assert "report.html" not in whole_files(out)
    monkeypatch.setattr(scripted.Scripted, "complete", never)
    assert comparable(run(finished.config, out, machine)) == comparable(finished.results)
    assert whole_files(out) >= FILES


KILLED = """
import asyncio, pathlib, sys
sys.path.insert(0, {root!r})
import jax
import numpy as np
from hydrajax.llm import scripted
from hydrajax.runs import folder, machine, run, workbench

async def slow(self, wanted, complete=scripted.Scripted.complete):
    scripted.Scripted.calls += 1
    if scripted.Scripted.calls > 50:
        print("busy", flush=True)
        await asyncio.sleep(600)
    return await complete(self, wanted)

scripted.Scripted.calls = 0
scripted.Scripted.complete = slow
workbench.encoders = lambda base, cache: (lambda pairs: np.zeros((len(pairs), 8), np.float32), None)
config = folder.read_config(pathlib.Path({config!r}))
here = machine.Machine(store={store!r}, cache={cache!r})
run.run(config, pathlib.Path({out!r}), command="hydrajax run it", machine=here, say=str)
"""


def test_a_killed_process_loses_nothing(finished, tmp_path, run, comparable, machine):
    here, out = machine(tmp_path), tmp_path / "run"
    code = KILLED.format(root=str(ROOT), config=str(finished.out), store=here.store, cache=here.cache, out=str(out))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"}
    )
    try:
        assert process.stdout.readline() == "busy\n"
        time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert whole_files(out) == {"config.json", "invocations.jsonl", "user_models.jsonl"}
    kept = store.Store(here.store)
    answers = len(kept)
    kept.close()
    assert 50 - 8 <= answers <= 50
    found = run(finished.config, out, here)
    assert found["llm"]["calls"] == finished.results["llm"]["calls"] - answers
    assert comparable(found) == comparable(finished.results)
    killed, ended = invocations.read(out)
    assert (killed["calls"], killed["finished"], ended["finished"]) == (answers, False, True)
    assert (out / "choices.json").read_bytes() == (finished.out / "choices.json").read_bytes()


def test_golds_of_new_users_change_no_choice(finished, tmp_path, run, machine, config, lamp):
    folder = shutil.copytree(finished.config.data_dir, tmp_path / "data")
    golds = folder / "LaMP_3" / "dev_outputs.json"
    outputs = json.loads(golds.read_text())
    for row in outputs["golds"]:
        row["output"] = "1" if row["output"] != "1" else "5"
    golds.write_text(json.dumps(outputs))
    out, here = copied(finished, tmp_path / "other")
    spoilt = run(dataclasses.replace(finished.config, data_dir=str(folder)), tmp_path / "run", here)
    assert spoilt["llm"]["calls"] == 0
    assert spoilt["methods"] != finished.results["methods"]
    assert (tmp_path / "run" / "choices.json").read_bytes() == (out / "choices.json").read_bytes()
    curves = [json.loads((folder / "curves.json").read_text()) for folder in (tmp_path / "run", out)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *curves)
    rows = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    for row, there in zip(rows, finished.predictions(), strict=True):
        assert row["gold"] != there["gold"]
        for method in METHODS - {"oracle", "zero_shot_oracle"}:
            assert row["answers"][method] == there["answers"][method]
        for name, pool in row["pools"].items():
            assert [c["scores"] for c in pool] == [c["scores"] for c in there["pools"][name]]


def test_folds_report_every_user_once(tmp_path, lamp, config, machine, run, comparable, untrained):
    folder = lamp(tmp_path / "data", "LaMP_3", train=5, dev=4)
    wanted, here = config(folder, "LaMP_3", folds=3), machine(tmp_path)
    found = run(wanted, tmp_path / "run", here)
    rows = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    everybody = [f"train{i}" for i in range(5)] + [f"dev{i}" for i in range(4)]
    assert sorted(row["user"] for row in rows) == sorted(everybody)
    assert (found["users"], found["queries"]) == (9, 9)
    assert whole_files(tmp_path / "run") >= FILES
    kept = store.Store(here.store)
    assert found["llm"]["calls"] == len(kept)
    kept.close()
    again = run(wanted, tmp_path / "run", here)
    assert again["llm"]["calls"] == 0
    assert comparable(again) == comparable(found)


def test_one_fold_holds_its_own_users_out(tmp_path, lamp, config, machine, run, untrained):
    folder = lamp(tmp_path / "data", "LaMP_3", train=5, dev=4)
    users = []
    for fold in range(3):
        run(config(folder, "LaMP_3", folds=3, fold=fold), tmp_path / f"run{fold}", machine(tmp_path))
        lines = (tmp_path / f"run{fold}" / "predictions.jsonl").read_text().splitlines()
        users += [json.loads(line)["user"] for line in lines]
    assert len(users) == len(set(users)) == 9


def test_the_demo_is_judged_by_what_its_users_want(tmp_path, config, machine, run, untrained):
    wanted = config_lib.Demo(
        llm="scripted", settings=SETTINGS, scorer=SCORER, train_users=4, dev_users=3, queries_per_user=1
    )
    found = run(wanted, tmp_path / "run", machine(tmp_path))
    assert (found["task"], found["users"]) == ("demo", 3)
    assert all(set(values) == {"reward"} for values in found["methods"].values())
    assert {"zero_shot", "icl_random", "rag", "pag"} <= set(found["methods"])
    assert found["methods"]["nearest_record"]["reward"]["value"] == 0
    assert found["methods"]["oracle"]["reward"]["value"] >= found["methods"]["hydra"]["reward"]["value"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "LaMP_9"}, "LaMP_9"),
        ({"data_dir": "/nowhere"}, "does not exist"),
        ({"llm": "gpt"}, "unknown LLM"),
        ({"train_users": 99}, "train_users is 99, expected 1 to 6"),
        ({"folds": 99}, "99 folds"),
    ],
)
def test_what_cannot_be_run_leaves_no_folder(tmp_path, lamp, config, machine, run, changes, said):
    wanted = config(lamp(tmp_path / "data"), **changes)
    with pytest.raises((DataError, request.LLMError), match=said):
        run(wanted, tmp_path / "run", machine(tmp_path))
    assert not (tmp_path / "run").exists()


def test_what_was_skipped_is_said_and_kept(tmp_path, lamp, config, machine, untrained):
    folder = lamp(tmp_path / "data")
    path = folder / "LaMP_2M" / "dev_outputs.json"
    outputs = json.loads(path.read_text())
    outputs["golds"][0]["output"] = "no such tag"
    path.write_text(json.dumps(outputs))
    said = []
    wanted = config(folder, skip_bad=True)
    found = run_lib.run(wanted, tmp_path / "run", command="c", machine=machine(tmp_path), say=said.append)
    assert found["users"] == 2
    skipped = json.loads((tmp_path / "run" / "choices.json").read_text())["skipped"]
    assert len(skipped) == 1 and "no such tag" in skipped[0] and "dev0" in skipped[0]
    assert any("no such tag" in line for line in said)
