import jax
import numpy as np
import optax
import pytest

from hydrajax.nn import heads, scorer
from hydrajax.training import checks, step
from hydrajax.training import state as states
from hydrajax.types import DataError
from tests.training.conftest import edited, make_batch
from tests.training.small_bank import DIMS, C


def test_a_batch_that_a_step_would_take_without_a_word_is_refused():
    stray = make_batch([3, 1])
    with pytest.raises(DataError, match=r"examples for row \d+, expected rows from 0 to 5; a slot without"):
        checks.check_batch(stray, C)
    batch = stray.replace(targets=stray.targets.replace(mask=edited(stray.targets.mask, slice(2, None), False)))
    checks.check_batch(batch, C)
    nan = [0, 2]
    with pytest.raises(DataError, match="the batch's x of row 3, example 2, is not finite"):
        checks.check_batch(batch.replace(x=edited(batch.x, (*nan, 1), np.nan)), C)
    with pytest.raises(DataError, match="the batch's score of row 3, example 2, is not finite"):
        score = edited(batch.targets.score, tuple(nan), np.inf)
        checks.check_batch(batch.replace(targets=batch.targets.replace(score=score)), C)
    with pytest.raises(DataError, match="row 3 comes twice, expected once: a head has one update"):
        checks.check_batch(batch.replace(rows=edited(batch.rows, 1, 3)), C)
    with pytest.raises(DataError, match="the batch has row -1, expected 0 to 5, or 6 for no user"):
        checks.check_batch(batch.replace(rows=edited(batch.rows, 1, -1)), C)
    # What the mask hides, and slots without a user, may hold anything; a batch may be without users.
    hidden = edited(edited(batch.x, (0, -1), np.nan), 3, np.nan)
    checks.check_batch(batch.replace(x=hidden), C)
    nobody = batch.replace(targets=batch.targets.replace(mask=batch.targets.mask & False), rows=np.full(4, C, np.int32))
    checks.check_batch(nobody, C)


def test_a_batch_out_of_range_is_refused():
    batch = make_batch([3, 1, 0, 2])
    targets = batch.targets.replace(label=edited(batch.targets.label, (1, 2), 1.5))
    with pytest.raises(DataError, match="the batch's label of row 1, example 2, is out of range"):
        checks.check_batch(batch.replace(targets=targets), C)
    checks.check_batch(batch.replace(targets=targets), C, loss="pairwise")
    for pull, says in ((-1.0, "row 0 is -1.0"), (np.nan, "row 0 is nan")):
        with pytest.raises(DataError, match=f"the batch's pull of {says}, expected a finite number of 0 or more"):
            checks.check_batch(batch.replace(pull=edited(batch.pull, 2, pull)), C)


def test_where_nothing_is_stored_rows_need_only_differ():
    shared, tx = scorer.Scorer(family=heads.get("shared"), dims=DIMS), optax.sgd(0.1)
    state = states.init_state(shared, tx, tx, num_users=C, key=jax.random.key(0))
    assert state.capacity == 0
    batch = make_batch([3, 1, 0, 2])
    checks.check_batch(batch, 0)
    _, metrics = jax.jit(step.make_train_step(shared, tx, tx))(state, batch)
    assert float(metrics["weight"]) == batch.targets.mask.sum()
    with pytest.raises(DataError, match="row 3 comes twice"):
        checks.check_batch(batch.replace(rows=edited(batch.rows, 1, 3)), 0)
    with pytest.raises(DataError, match="the batch has row -1, expected 0 or more"):
        checks.check_batch(batch.replace(rows=edited(batch.rows, 1, -1)), 0)


def test_users_without_examples_are_no_fault():
    batch = make_batch([2, 3], slots=2)
    checks.check_batch(batch.replace(targets=batch.targets.replace(mask=edited(batch.targets.mask, 1, False))), C)
