import numpy as np
import pytest

from hydrajax import training
from hydrajax.methods import hydra, scorers
from hydrajax.methods.rows import Row
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


def test_scorers_come_back_with_everybodys_head(finished):
    there = saved.load(finished.out / "scorers", features)
    assert isinstance(there.adapter, scorers.PersonalScorer)
    # Whoever has a profile, and did not train
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
