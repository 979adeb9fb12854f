"""What the benchmark `heads` compares with makes the same updates as the step."""

import numpy as np
import pytest

from experiments.benchmarks import heads

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("form", ["InPlace", "Functional"])
def test_the_heads_after_some_batches_are_those_of_the_step(form, monkeypatch):
    from experiments.benchmarks import _heads_torch

    for name, value in {"D": 8, "EXAMPLES": 5, "USERS": 6}.items():
        monkeypatch.setattr(heads, name, value)
    made = heads.batches(heads.Options(smoke=True), 9, users=6)
    bank, everybody = heads.Bank("mlp", 9, made[0]), np.arange(9)
    start = heads._flat(bank, everybody)
    other = _heads_torch.InPlace(start, 8) if form == "InPlace" else _heads_torch.Functional("mlp", start, {})
    for batch in made:
        bank(batch)
        other.step(*_heads_torch.tensors(batch.rows, batch.x, batch.targets.label))
    moved = np.abs(other.bank.numpy() - start).max(axis=1)
    seen = np.unique([batch.rows for batch in made])
    assert (moved[seen] > 5e-4).all() and not moved[np.setdiff1d(everybody, seen)].any()
    # Less than a tenth of what the decay of one update changes in the largest weights.
    np.testing.assert_allclose(heads._flat(bank, everybody), other.bank.numpy(), atol=3e-7, rtol=0)
