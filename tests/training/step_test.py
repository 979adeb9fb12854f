"""Whom a step changes: the users of the batch, by their own examples alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hydrajax.nn import heads, scorer
from hydrajax.training import optimizers, rows, step
from hydrajax.training import state as states
from tests.training.conftest import D, assert_close, assert_equal, edited, make_batch
from tests.training.steps import DIMS, HEAD_TX, MANY, C, build, many, rows_of, run

LARGE = rows.LARGE_BYTES // (4 * D)  # hidden units whose weights are a large row


@pytest.fixture
def plain():
    return build(dropout=0.0)


def test_absent_users_stay_bit_identical_with_their_optimizer_state(plain):
    _, state, update = plain
    after = run(update, state, make_batch([1, 4]), make_batch([4, 1], seed=1))
    assert_equal(rows_of(after, [0, 2, 3, 5]), rows_of(state, [0, 2, 3, 5]))
    for leaf, new in zip(*(jax.tree.leaves(rows_of(s, [1, 4])) for s in (state, after)), strict=True):
        assert not np.array_equal(leaf, new)


def test_padding_slots_touch_nothing(plain):
    _, state, update = plain
    batch = make_batch([2, C, 3, C])
    after = run(update, state, batch)
    assert_equal(rows_of(after, [0, 1, 4, 5]), rows_of(state, [0, 1, 4, 5]))
    other = batch.replace(x=edited(batch.x, 1, 9.0), rows=np.array([2, C + 5, 3, C], np.int32))
    assert_equal(run(update, state, other).bank, after.bank)


def test_a_user_whose_examples_are_all_padding_is_left_alone(plain):
    _, state, update = plain
    batch = make_batch([2, 3])
    mask = edited(batch.targets.mask, 0, False)
    after = run(update, state, batch.replace(targets=batch.targets.replace(mask=mask)))
    assert_equal(rows_of(after, [2]), rows_of(state, [2]))
    assert not np.array_equal(np.asarray(after.bank["w1"])[3], np.asarray(state.bank["w1"])[3])


def test_a_pool_without_a_difference_leaves_its_user_alone():
    _, state, update = build("linear", loss="pairwise")
    batch = make_batch([2, 3])
    score = edited(batch.targets.score, 0, 1.0)
    after = run(update, state, batch.replace(targets=batch.targets.replace(score=score)))
    assert_equal(rows_of(after, [2]), rows_of(state, [2]))


def test_users_are_independent(plain):
    _, state, update = plain
    batch = make_batch([0, 1, 2])
    wild = batch.replace(x=edited(batch.x, slice(1, None), 1000.0))
    assert_close(rows_of(run(update, state, wild), [0]), rows_of(run(update, state, batch), [0]), atol=1e-7)


def test_permuting_users_permutes_the_result():
    """Of a batch; users who change rows change their draws of dropout, too."""
    _, state, update = build(dropout=0.5)
    batches = [make_batch([0, 1, 2, 5], seed=seed) for seed in range(5)]
    order = np.array([2, 0, 3, 1])
    permuted = [jax.tree.map(lambda leaf: leaf[order], batch) for batch in batches]
    assert_equal(run(update, state, *permuted).bank, run(update, state, *batches).bank)
    _, state, update = build(dropout=0.0)
    moved_to = np.array([3, 5, 0, 4, 2, 1])  # the new row of each
    before = np.argsort(moved_to)
    moved = state.replace(bank=jax.tree.map(lambda leaf: np.asarray(leaf)[before], state.bank))
    batches = [make_batch([0, 1, 2, 5], seed=seed) for seed in range(5)]
    elsewhere = [batch.replace(rows=moved_to[batch.rows].astype(np.int32)) for batch in batches]
    assert_equal(
        run(update, moved, *elsewhere).bank,
        jax.tree.map(lambda leaf: np.asarray(leaf)[before], run(update, state, *batches).bank),
    )


def test_the_mask_hides(plain):
    _, state, update = plain
    batch = make_batch([0, 1])
    x = edited(batch.x, ~batch.targets.mask, 77.0)
    targets = batch.targets.replace(label=edited(batch.targets.label, ~batch.targets.mask, 0.5))
    changed = run(update, state, batch.replace(x=x, targets=targets))
    assert_equal(changed.bank, run(update, state, batch).bank)


def test_negative_rows_are_slots_without_a_user(plain):
    one, state, update = plain
    batch = make_batch([2, -1, -C, 3])
    after = run(update, state, batch)
    assert_equal(rows_of(after, [0, 1, 4, 5]), rows_of(state, [0, 1, 4, 5]))
    evaluate = jax.jit(step.make_eval_step(one))
    negative, beyond = (
        evaluate(state, batch.replace(rows=np.array(r, np.int32))) for r in ([2, -1, -C, 3], [2, C, C, 3])
    )
    assert_equal(negative, beyond)


def test_negative_rows_are_not_written_where_rows_are_large():
    _, state, update = build(dropout=0.0, width=1000)
    after = run(update, state, make_batch([2, -1, 0, -3]))
    assert_equal(rows_of(after, [1, 3, 4, 5]), rows_of(state, [1, 3, 4, 5]))


def test_dropout_differs_by_step_and_by_user():
    _, state, update = build(dropout=0.5)
    state = state.replace(bank=jax.tree.map(lambda leaf: np.stack([np.asarray(leaf)[0]] * C), state.bank))
    batch = jax.tree.map(lambda leaf: np.stack([leaf[0]] * 4), make_batch([0]))
    batch = batch.replace(rows=np.array([0, 1, C, C], np.int32))
    first = run(update, state, batch)
    assert not np.array_equal(*np.asarray(first.bank["w1"])[:2])
    later = run(update, state.replace(step=state.step + 1), batch)
    assert not np.array_equal(np.asarray(first.bank["w1"])[0], np.asarray(later.bank["w1"])[0])
    assert_equal(first.bank, run(update, state, batch).bank)


def test_the_step_is_traced_once_a_shape():
    one = scorer.Scorer(family=heads.get("linear"), dims=DIMS)
    tx = optax.sgd(0.1)
    state = states.init_state(one, tx, tx, num_users=C, key=jax.random.key(0))
    traces = 0
    pure = step.make_train_step(one, tx, tx)

    def counted(state, batch):
        nonlocal traces
        traces += 1
        return pure(state, batch)

    update = jax.jit(counted, donate_argnums=0)
    for seed in range(3):
        state, _ = update(state, make_batch([seed, 5], seed=seed))
    assert traces == 1
    update(state, make_batch([0, 1], size=9))
    assert traces == 2


@pytest.mark.slow
@pytest.mark.parametrize(("at_once", "learns", "dropout"), [(1, False, 0.0), (3, False, 0.3), (4, True, 0.0)])
def test_groups_change_nothing(monkeypatch, at_once, learns, dropout):
    base_tx = optax.sgd(0.1) if learns else None
    one, state = many("low_rank_mlp", users=9, base_tx=base_tx, dropout=dropout, rank=2)
    batch = make_batch([8, 3, 0, 5, 1], slots=7, capacity=9)
    results = []
    for n in (64, at_once):
        monkeypatch.setattr(step.rows, "group_size", lambda stored, n=n: n)
        results.append(jax.jit(step.make_train_step(one, base_tx, HEAD_TX))(state, batch))
    (whole, seen), (parts, also) = results
    assert_close(parts, whole, atol=1e-6)
    assert_close(also, seen, atol=1e-5)  # sums of dozens
    assert not np.array_equal(parts.bank["o"], state.bank["o"])
    assert np.array_equal(parts.shared["w0"], state.shared["w0"]) == (not learns)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("users", "moments", "width"),
    [(1, jnp.float32, 4), (1, jnp.float32, LARGE), (2, jnp.bfloat16, LARGE), (5, None, LARGE)],
)
def test_the_bank_is_updated_in_place(monkeypatch, users, moments, width):
    monkeypatch.setattr(step.rows, "group_size", lambda stored: 2)
    tx = optax.adamw(0.1) if moments is None else optimizers.adamw(0.1, 0.1, moments=moments)
    one, state = many("mlp", tx=tx, dropout=0.0, width=width)
    update = jax.jit(step.make_train_step(one, None, tx), donate_argnums=0)
    batch = make_batch(range(users), slots=users, capacity=MANY)
    memory = update.lower(state, batch).compile().memory_analysis()
    rows = sum(leaf.nbytes for leaf in jax.tree.leaves((state.bank, state.bank_opt)))
    # One leaf that is copied would be a tenth of the bank.
    assert memory.alias_size_in_bytes >= rows
    assert memory.temp_size_in_bytes < rows / 20
