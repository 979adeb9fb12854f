"""A base that learns beside the heads: micro-batches, what is clipped, kills, and what it is good for."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from hydrajax.evaluation import intervals
from hydrajax.nn import heads, scorer
from hydrajax.nn.bases import blocks
from hydrajax.training import fit, loop, optimizers, step
from hydrajax.training import state as states
from hydrajax.training.config import FitConfig
from tests.training import blurred, trained_base_worker
from tests.training.conftest import assert_close

USERS = 4
EXAMPLES = blurred.texts(range(USERS), 6)
SGD = optax.sgd(1.0)  # Adam makes steps of what is rounding alone


def trained(micro_batch=None, compute=blocks.Compute(), loss="cross_entropy", base_tx=SGD):  # noqa: B008 (frozen)
    """The step, a state and a batch."""
    base = blurred.base(compute)
    dims = heads.Dims(features=base.dim, extras=0)
    one = scorer.Scorer(
        family=heads.get("mlp", dropout=0.0), dims=dims, module=base.module, pooling="mean", micro_batch=micro_batch
    )
    key = jax.random.key(0)
    state = states.init_state(one, base_tx, SGD, num_users=USERS, key=key, base=base.params)
    examples = dataclasses.replace(EXAMPLES, pool=EXAMPLES.user)
    plan = loop.plan(examples, USERS, epochs=1, users_per_batch=USERS, batch_examples=6)
    return step.make_train_step(one, base_tx, SGD, loss=loss), state, plan.batch(plan.epochs[0][0])


@pytest.mark.parametrize("loss", ["cross_entropy", "pairwise"])
@pytest.mark.parametrize("size", [1, 5, 8, 100])
@pytest.mark.slow
def test_an_update_of_micro_batches_is_that_of_the_whole_batch(size, loss):
    update, state, batch = trained(loss=loss)
    whole = jax.jit(update)(state, batch)[0]
    moved = jax.tree.map(lambda a, b: np.abs(np.asarray(a) - np.asarray(b)).max(), whole.base, state.base)
    assert max(jax.tree.leaves(moved)) > 1e-2
    in_parts = jax.jit(trained(size, loss=loss)[0])(state, batch)[0]
    assert_close(in_parts.base, whole.base, atol=1e-5)
    assert_close(in_parts.bank, whole.bank, atol=1e-5)


@pytest.mark.slow
def test_layers_that_are_computed_again_give_the_same_update():
    update, state, batch = trained()
    again = trained(compute=blocks.Compute(remat=True))[0]
    assert_close(jax.jit(again)(state, batch)[0].base, jax.jit(update)(state, batch)[0].base, atol=1e-5)


@pytest.mark.slow
def test_micro_batches_take_less_memory():
    def needed(size):
        update, state, batch = trained(size)
        return jax.jit(update).lower(state, batch).compile().memory_analysis().temp_size_in_bytes

    assert needed(4) < needed(None) / 2


@pytest.mark.slow
def test_the_base_is_clipped_as_a_whole_and_each_users_head_apart():
    tx = optax.chain(optimizers._clip_by_norm(1e-3), optax.sgd(1.0))
    update, state, batch = trained(base_tx=tx)
    after = jax.jit(update)(state, batch)[0]
    moved = jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), (after.base, after.shared), (state.base, {}))
    np.testing.assert_allclose(optax.tree.norm(moved), 1e-3, rtol=1e-3)
    plain, begun, _ = trained()
    assert_close(after.bank, jax.jit(plain)(begun, batch)[0].bank)


def accuracy(fitted, base, new, asked, users):
    """Of users' own heads on what they are asked, by user."""
    own = fit.personalise(fitted.config, fitted, blurred.encoded(base, new), users)
    there = blurred.encoded(base, asked)
    right = (fit.predict(fitted, own, there.user, there.x, there.extras) > 0) == (there.label > 0)
    return np.array([right[there.user == user].mean() for user in range(users)])


@pytest.mark.slow
@pytest.mark.parametrize("family", ["linear", "mlp"])
def test_a_trained_base_wins_where_a_frozen_one_blurs_what_users_mind(family):
    base, train, users = blurred.base(), blurred.texts(range(40), 40), 40
    new = blurred.texts(range(100, 100 + users), 24, seed=1)
    asked = blurred.texts(range(100, 100 + users), 40, seed=2)
    config = FitConfig(family=family)
    frozen = fit.pretrain(config, blurred.encoded(base, train), 40)
    learning = dataclasses.replace(config, train_base=True, base_learning_rate=3e-3, base_epochs=6)
    learned = fit.pretrain(learning, train, 40, base=base)
    gain = accuracy(learned, fit.trained_base(base, learned), new, asked, users) - accuracy(
        frozen, base, new, asked, users
    )
    found = intervals.mean_over_users(gain, intervals.resample_weights(users))
    assert found.low is not None and found.low > 0


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path):
    whole = trained_base_worker.undisturbed(tmp_path)
    found, moments = trained_base_worker.killed(tmp_path, 3)
    assert max(moments) > 20
    assert whole.keys() == found.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
