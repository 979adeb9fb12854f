import numpy as np
import pytest

from hydrajax.methods import hydra, scorers
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


def test_without_scorers_the_run_is_not_finished(tmp_path):
    with pytest.raises(DataError, match="holds no trained run"):
        saved.load(tmp_path / "scorers", features)
