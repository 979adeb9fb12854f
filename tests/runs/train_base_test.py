"""A run that trains the bases of its scorers, with a BERT of two layers."""

import json

import jax
import numpy as np
import pytest

from hydrajax.llm import scripted
from hydrajax.methods import selection
from hydrajax.nn import encode
from hydrajax.runs import answer, finished, saved, workbench
from tests.golden import runs as golden

ENCODERS = workbench.encoders  # before a fixture puts something else in their place


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases") / "base"
    golden.make_base(folder)
    return folder


def leaves(base):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(base.params)])


@pytest.mark.slow
def test_reranker_and_adapter_have_a_base_each_which_answers_use(
    tmp_path, base, lamp, config, machine, run, comparable, monkeypatch
):
    monkeypatch.setattr(workbench, "encoders", ENCODERS)
    given = config(lamp(tmp_path / "data"), base=str(base), train_base=True, micro_batch=24, remat=True)
    here, out = machine(tmp_path), tmp_path / "run"
    results = run(given, out, here)
    trained = {name: encode.load_base(out / "scorers" / name / saved.BASE) for name in ("reranker", "adapter")}
    first = leaves(encode.load_base(base))
    for one in trained.values():
        assert 0 < np.abs(leaves(one) - first).max() < 1e-2  # at a rate of 2e-5
    assert not np.array_equal(*map(leaves, trained.values()))

    for row in map(json.loads, (out / "predictions.jsonl").read_text().splitlines()):
        found = answer.answer(out, row["user"], row["input"], machine=here)
        assert [found.prediction] == row["answers"]["hydra"]["predictions"]
        scores = [candidate["scores"]["hydra"] for candidate in row["pools"]["reranked"]]
        np.testing.assert_allclose(found.scores, scores, atol=1e-4)
    teacher = json.loads((out / "scorers" / "users.json").read_text())["rows"]["adapter"]
    who = next(user_id for user_id in teacher if user_id.startswith("train"))
    assert answer.answer(out, who, "never asked before: lantern copper", machine=here).personal

    # Finished, it needs its checkpoints no more: nothing is trained and nobody asked by the same command.
    assert not (out / finished.CHECKPOINTS).exists()
    with monkeypatch.context() as patch:
        patch.setattr(selection.training, "pretrain", None)
        patch.setattr(scripted.Scripted, "complete", None)
        assert run(given, out, here) == results
    # Once more from the beginning, over what is there.
    (out / finished.FILE).unlink()
    assert comparable(run(given, out, here)) == comparable(results)
    again = {name: encode.load_base(out / "scorers" / name / saved.BASE) for name in trained}
    for name, one in trained.items():
        np.testing.assert_array_equal(leaves(again[name]), leaves(one))
