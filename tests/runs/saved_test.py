import numpy as np
import pytest

from hydrajax import training
from hydrajax.methods import hydra, scorers
from hydrajax.methods.rows import Row
from hydrajax.nn import heads, scorer
from hydrajax.runs import saved
from hydrajax.types import DataError


def features(pairs):
    return np.zeros((len(pairs), 8), np.float32)


def test_scorers_that_learned_nothing_are_kept_as_such(tmp_path):
    untrained = scorers.Untrained()
    saved.save(tmp_path / "run" / "scorers", hydra.System(reranker=untrained, adapter=untrained, k=4))
    there = saved.load(tmp_path / "run" / "scorers", features)
    assert isinstance(there.reranker, scorers.Untrained) and isinstance(there.adapter, scorers.Untrained)
    assert there.k == 4


def test_scorers_come_back_with_everybodys_head(tmp_path):
    rng = np.random.default_rng(0)
    heads_ = {"w": rng.normal(size=(2, 8)).astype(np.float32), "b": rng.normal(size=2).astype(np.float32)}
    fitted = training.Fitted(
        config=training.FitConfig(family="linear"),
        dims=heads.Dims(features=8),
        normaliser=scorer.Normaliser(mean=np.zeros(8, np.float32), scale=np.ones(8, np.float32)),
        shared={"generic": {name: leaf.mean(axis=0) for name, leaf in heads_.items()}},
        bank={},
        base={},
        curves={},
    )
    own = scorers.PersonalScorer(encode=features, fitted=fitted, heads=heads_, user_rows={"n": 1, "m": 0})
    saved.save(tmp_path / "scorers", hydra.System(reranker=own, adapter=own, k=1))
    there = saved.load(tmp_path / "scorers", features).adapter
    assert there.user_rows == own.user_rows
    asked = [Row(user_id=user, query_id="q", pool="q", first="", second="") for user in ("m", "n", "stranger")]
    np.testing.assert_array_equal(there.scores(asked), own.scores(asked))
    np.testing.assert_allclose(there.scores(asked), [*heads_["b"], heads_["b"].mean()], atol=1e-6)  # no features


@pytest.mark.slow
def test_a_run_keeps_the_heads_of_all_who_have_a_profile_and_did_not_train(finished):
    there = saved.load(finished.out / "scorers", features)
    assert isinstance(there.adapter, scorers.PersonalScorer)
    assert {"dev0", "dev1"} <= set(there.adapter.user_rows) <= {"dev0", "dev1", *(f"train{i}" for i in range(6))}
    assert "dev2" not in there.adapter.user_rows


@pytest.mark.slow
def test_a_scorer_of_cumulative_logits_comes_back_as_such(tmp_path):
    levels = (1.0, 2.0, 3.0)

    def row(user_id, query, text, rating=None):
        return Row(user_id=user_id, query_id=query, pool=query, first="", second=text, levels=levels, rating=rating)

    config = training.FitConfig(family="linear", loss="ordinal", fit_bank=False)
    told = [row(user, f"{user}{i}", "2", rating=rating) for user in "tu" for i, rating in enumerate((3.0, 3.0, 1.0))]
    pooled = scorers.pretrain(config, features, *scorers.examples_of(scorers.taught(told, "ordinal"), features))
    own = scorers.personalise(pooled, config, [row("n", f"n{i}", "2", rating=1.0) for i in range(9)], epochs=1)
    saved.save(tmp_path / "scorers", hydra.System(reranker=scorers.Untrained(), adapter=own, k=1))
    there = saved.load(tmp_path / "scorers", features).adapter
    asked = [row(user, f"asked {user}", text) for user in "nz" for text in ("1", "3", "none")]
    np.testing.assert_array_equal(there.scores(asked), own.scores(asked))
    low, high, none = there.scores(asked)[:3]
    assert low > high > none == -2.0 and there.scores(asked)[4] > there.scores(asked)[3]


def test_without_scorers_the_run_is_not_finished(tmp_path):
    with pytest.raises(DataError, match="holds no trained run"):
        saved.load(tmp_path / "scorers", features)
