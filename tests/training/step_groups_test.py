"""The step in groups of users, in place; the evaluation step; frozen base and shared parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hydrajax.training
from hydrajax.nn import heads, scorer
from hydrajax.training import optimizers, step
from hydrajax.types import DataError
from tests.training.conftest import D, X, assert_close, assert_equal, edited, make_batch

pytestmark = pytest.mark.slow

C = 997
LARGE = step.LARGE_BYTES // (4 * D)  # hidden units whose weights are a large row
DIMS = heads.Dims(features=D, extras=X)
TX = optimizers.adamw(0.05, 0.1)


def build(family="linear", users=C, tx=TX, base_tx=None, **settings):
    one = scorer.Scorer(family=heads.get(family, **settings), dims=DIMS)
    head = jax.jit(lambda key: one.family.init_user(key, DIMS))(jax.random.key(1))
    return one, step.init_state(one, base_tx, tx, num_users=users, key=jax.random.key(0), head=head)


@pytest.mark.parametrize(("at_once", "learns", "dropout"), [(1, False, 0.0), (3, False, 0.3), (4, True, 0.0)])
def test_groups_change_nothing(at_once, learns, dropout):
    base_tx = optax.sgd(0.1) if learns else None
    one, state = build("low_rank_mlp", users=9, base_tx=base_tx, dropout=dropout, rank=2)
    batch = make_batch([8, 3, 0, 5, 1], slots=7, capacity=9)
    (whole, seen), (parts, also) = (
        jax.jit(step.make_train_step(one, base_tx, TX, users_at_once=n))(state, batch) for n in (64, at_once)
    )
    assert_close(parts, whole, atol=1e-6)
    assert_close(also, seen, atol=1e-5)  # sums of dozens
    assert not np.array_equal(parts.bank["o"], state.bank["o"])
    assert np.array_equal(parts.shared["w0"], state.shared["w0"]) == (not learns)


@pytest.mark.parametrize(
    ("users", "moments", "width"),
    [(1, jnp.float32, 4), (1, jnp.float32, LARGE), (2, jnp.bfloat16, LARGE), (5, None, LARGE)],
)
def test_the_bank_is_updated_in_place(users, moments, width):
    tx = optax.adamw(0.1) if moments is None else optimizers.adamw(0.1, 0.1, moments=moments)
    one, state = build("mlp", tx=tx, dropout=0.0, width=width)
    update = jax.jit(step.make_train_step(one, None, tx, users_at_once=2), donate_argnums=0)
    batch = make_batch(range(users), slots=users, capacity=C)
    memory = update.lower(state, batch).compile().memory_analysis()
    rows = sum(leaf.nbytes for leaf in jax.tree.leaves((state.bank, state.bank_opt)))
    # One leaf that is copied would be a tenth of the bank.
    assert memory.alias_size_in_bytes >= rows
    assert memory.temp_size_in_bytes < rows / 20


def test_scatter_drops_rows_beyond_the_capacity_and_takes_back_what_gather_read():
    wide = step.LARGE_BYTES // 4
    bank = {"a": jnp.arange(6.0 * wide).reshape(6, wide), "n": jnp.arange(6)}
    rows = jnp.array([5, 6, 0, 99])
    new = {"a": jnp.full((4, wide), -1.0), "n": jnp.arange(4) + 100}
    got = jax.jit(step.scatter)(bank, rows, new)
    np.testing.assert_array_equal(got["n"], [102, 1, 2, 3, 4, 100])
    np.testing.assert_array_equal(got["a"], edited(bank["a"], [0, 5], -1.0))
    read = jax.jit(step.gather)(bank, rows)
    np.testing.assert_array_equal(read["n"], [5, 0, 0, 0])
    assert_equal(jax.jit(step.scatter)(bank, rows, read), bank)


@pytest.mark.parametrize(("row", "users"), [(100, 2**15), (2**20, 4), (2**21, 2), (2**30, 2)])
def test_groups_hold_what_fits_into_the_cache(row, users):
    stored = {"w": jax.ShapeDtypeStruct((10, row // 4), jnp.float32)}
    assert step.group_size(stored) == users


def test_without_an_optimizer_base_and_shared_stay_frozen():
    one, state = build("simplex", users=6)
    assert state.base_opt == ()
    after, _ = jax.jit(step.make_train_step(one, None, TX))(state, make_batch([1, 2]))
    assert_equal(after.shared, state.shared)
    assert not np.array_equal(after.bank["w"], state.bank["w"])


def test_evaluation_is_the_loss_of_the_heads_as_they_are():
    one, state = build("linear", users=6)
    rng = np.random.default_rng(0)
    w = rng.normal(size=(6, D + X)).astype(np.float32)
    state = state.replace(bank={"w": w, "b": np.zeros(6, np.float32)}, anchor={"w": w[0] * 0 + 1, "b": np.float32(2)})
    batch = make_batch([4, 1])
    found = jax.jit(step.make_eval_step(one, users_at_once=2))(state, batch)
    x = np.concatenate([batch.x, batch.extras], axis=-1)
    heads_ = np.stack([w[4], w[1], np.ones(D + X), np.ones(D + X)])
    s = np.einsum("uei,ui->ue", x, heads_) + np.array([0, 0, 2, 2])[:, None]
    np.testing.assert_allclose(found.scores, s, atol=1e-5)
    each = np.logaddexp(0, s) - batch.targets.label * s
    np.testing.assert_allclose(found.loss, (each * batch.targets.mask).sum(axis=1), rtol=1e-4)
    np.testing.assert_array_equal(found.weight, batch.targets.mask.sum(axis=1))
    _, metrics = jax.jit(step.make_train_step(one, None, TX))(state, make_batch([4, 1], slots=2))
    np.testing.assert_allclose(metrics["loss"], losses_of(one, state, make_batch([4, 1], slots=2)), rtol=1e-5)


def losses_of(one, state, batch):
    return np.asarray(jax.jit(step.make_eval_step(one))(state, batch).loss).sum()


def test_families_that_encode_users_are_scored_elsewhere():
    one = scorer.Scorer(family=heads.get("facets"), dims=DIMS)
    with pytest.raises(DataError, match=r"Facets encodes users from profiles: score them with fit.predict"):
        step.make_eval_step(one)


def test_the_functions_are_found_by_their_short_names():
    assert hydrajax.training.make_train_step is step.make_train_step
    assert {name: getattr(hydrajax.training, name).__name__ for name in hydrajax.training.PUBLIC}.keys() >= {
        "init_state",
        "make_eval_step",
    }
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hydrajax.training.nothing
