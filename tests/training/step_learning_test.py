"""What a step learns: heads by their own optimizer, and what users share by the mean gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hydrajax.nn import heads, scorer
from hydrajax.training import losses, optimizers, step
from hydrajax.training import state as states
from tests.training.conftest import D, X, assert_close, assert_equal, edited, make_batch, make_tokens
from tests.training.steps import BASE_TX, DIMS, HEAD_TX, C, build, many, rows_of, run


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_the_vmapped_step_equals_a_loop_over_users(loss):
    one, state, update = build(loss=loss, dropout=0.0)
    state = state.replace(anchor=jax.tree.map(lambda leaf: np.asarray(leaf)[5], state.bank))
    batches = [make_batch([4, 0, 2], seed=seed, pull=0.3) for seed in range(20)]
    after = run(update, state, *batches)

    @jax.jit
    def single(user, opt, anchor, x, extras, targets):
        def objective(user):
            s = scorer.logits(one.family, {}, user, jnp.concatenate([x, extras], axis=-1))
            total, weight = losses.get(loss)(s, targets)
            away = jax.tree.map(jnp.subtract, user, anchor)
            return total / weight + 0.3 / 2 * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(away))

        grads = jax.grad(objective)(user)
        with jax.numpy_dtype_promotion("standard"):
            updates, opt = HEAD_TX.update(grads, opt, jax.tree.map(jnp.subtract, user, anchor))
        return optax.apply_updates(user, updates), opt

    for slot, row in enumerate([4, 0, 2]):
        user = jax.tree.map(lambda leaf, row=row: np.asarray(leaf)[row], state.bank)
        opt = jax.jit(HEAD_TX.init)(user)
        for batch in batches:
            own = jax.tree.map(lambda leaf, slot=slot: leaf[slot], (batch.x, batch.extras, batch.targets))
            user, opt = single(user, opt, state.anchor, *own)
        got = jax.tree.map(lambda leaf, row=row: np.asarray(leaf)[row], after.bank)
        if loss == "pairwise":  # a shift of all scores is free: its gradient is rounding errors, which Adam enlarges
            del got["b2"], user["b2"]
        assert_close(got, user, atol=1e-5)


def test_decay_pulls_to_the_anchor_and_to_zero_without_one():
    head = {"w": np.full(D + X, 3, np.float32), "b": np.float32(3)}
    batch = make_batch([1])
    still = batch.replace(x=batch.x * 0.0, extras=batch.extras * 0.0)
    tx = optax.chain(optax.add_decayed_weights(1.0), optax.scale(-0.5))
    one = scorer.Scorer(family=heads.get("linear"), dims=DIMS)
    update = jax.jit(step.make_train_step(one, BASE_TX, tx))

    anchored = states.init_state(one, BASE_TX, tx, num_users=C, key=jax.random.key(0), head=head)
    np.testing.assert_array_equal(np.asarray(run(update, anchored, still).bank["w"])[1], 3.0)
    moved = anchored.replace(bank=jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(2), anchored.bank))
    np.testing.assert_allclose(np.asarray(run(update, moved, still).bank["w"])[1], 4.0)
    free = anchored.replace(anchor=jax.tree.map(np.zeros_like, anchored.anchor))
    np.testing.assert_allclose(np.asarray(run(update, free, still).bank["w"])[1], 1.5)


def test_shared_parameters_learn_the_mean_over_all_examples():
    one, state, _ = build("shared", dropout=0.0)
    tx = optax.sgd(1.0)
    state = state.replace(base_opt=tx.init((state.base, state.shared)))
    batch = make_batch([0, 3])
    targets = batch.targets.replace(
        mask=edited(edited(batch.targets.mask, (1, slice(2, None)), False), slice(2, None), False)
    )
    batch = batch.replace(targets=targets)
    after, metrics = jax.jit(step.make_train_step(one, tx, HEAD_TX))(state, batch)

    def mean(shared):
        x = jnp.concatenate([batch.x, batch.extras], axis=-1).reshape(-1, D + X)
        flat = jax.tree.map(lambda leaf: jnp.asarray(leaf).reshape(-1), targets)
        total, weight = losses.cross_entropy(scorer.logits(one.family, shared, {}, x), flat)
        return total / weight

    value, grads = jax.jit(jax.value_and_grad(mean))(state.shared)
    assert_close(after.shared, jax.tree.map(lambda p, g: p - g, state.shared, grads))
    np.testing.assert_allclose(metrics["loss"] / metrics["weight"], value, rtol=1e-5)
    assert metrics["weight"] == 7


def test_inputs_are_normalised_where_statistics_are_given():
    one, state, plain_step = build("linear")
    batch = make_batch([0, 1])
    normaliser = scorer.Normaliser(mean=np.full(D + X, 0.5, np.float32), scale=np.full(D + X, 2.0, np.float32))
    update = jax.jit(step.make_train_step(one, BASE_TX, HEAD_TX, normaliser=normaliser))
    by_hand = batch.replace(x=(batch.x - 0.5) / 2.0, extras=(batch.extras - 0.5) / 2.0)
    assert_close(run(update, state, batch).bank, run(plain_step, state, by_hand).bank)


@pytest.mark.slow
def test_a_trained_base_learns_and_padding_does_not_teach_it(tiny_base):
    dims = heads.Dims(features=D - 1, extras=X)
    one = scorer.Scorer(family=heads.get("linear"), dims=dims, module=tiny_base.module, pooling="mean")
    head = {"w": np.ones(D - 1 + X, np.float32), "b": np.float32(0)}
    state = states.init_state(
        one, BASE_TX, HEAD_TX, num_users=C, key=jax.random.key(0), base=tiny_base.params, head=head
    )
    update = jax.jit(step.make_train_step(one, BASE_TX, HEAD_TX))
    texts = jax.tree.map(lambda leaf: leaf.reshape(2, 6, -1), make_tokens(12))
    batch = make_batch([1, 3], slots=2).replace(x=texts)
    after = run(update, state, batch)
    moved = jax.tree.map(lambda a, b: np.abs(np.asarray(a) - np.asarray(b)).max(), state.base, after.base)
    assert min(jax.tree.leaves(moved)) > 0
    assert_equal(rows_of(after, [0, 2, 4, 5]), rows_of(state, [0, 2, 4, 5]))

    other = texts.replace(ids=edited(texts.ids, (slice(None), -1), 3))  # the last example of each user is padding
    assert not np.array_equal(other.ids, texts.ids)
    assert_equal(run(update, state, batch.replace(x=other)).base, after.base)


@pytest.mark.slow
def test_permuting_users_changes_a_trained_base_by_rounding_alone(tiny_base):
    """Sums over users are added up in another order. The gradient of the keys' bias is nothing but rounding, which Adam
    makes steps of."""
    base_tx = optimizers.adamw(1e-3, 0.1)
    dims = heads.Dims(features=D - 1, extras=X)
    one = scorer.Scorer(family=heads.get("linear"), dims=dims, module=tiny_base.module, pooling="mean")
    state = states.init_state(one, base_tx, HEAD_TX, num_users=C, key=jax.random.key(0), base=tiny_base.params)
    update = jax.jit(step.make_train_step(one, base_tx, HEAD_TX))
    order = np.array([2, 0, 3, 1])
    batches = []
    for seed in range(20):
        texts = jax.tree.map(lambda leaf: leaf.reshape(4, 6, -1), make_tokens(24, seed))
        batches.append(make_batch([0, 1, 2, 5], seed=seed).replace(x=texts))
    permuted = [jax.tree.map(lambda leaf: np.asarray(leaf)[order], batch) for batch in batches]
    a, b = run(update, state, *batches), run(update, state, *permuted)
    assert_close(a.base, b.base, atol=1e-5)
    assert_close(a.bank, b.bank, atol=1e-5)


def test_permuting_users_changes_a_jointly_trained_part_by_rounding_alone():
    shared = scorer.Scorer(family=heads.get("shared", dropout=0.0), dims=DIMS)
    tx = optax.sgd(0.1)
    state = states.init_state(shared, tx, HEAD_TX, num_users=C, key=jax.random.key(0))
    update = jax.jit(step.make_train_step(shared, tx, HEAD_TX))
    one = two = state
    for seed in range(5):
        batch = make_batch([0, 1, 2, 3], seed=seed)
        one, _ = update(one, batch)
        two, _ = update(two, jax.tree.map(lambda leaf: leaf[np.array([2, 0, 3, 1])], batch))
    assert_close(one.shared, two.shared, atol=1e-6)
    assert not np.array_equal(one.shared["w1"], state.shared["w1"])


@pytest.mark.slow
def test_without_an_optimizer_base_and_shared_stay_frozen():
    one, state = many("simplex", users=6)
    assert state.base_opt == ()
    after, _ = jax.jit(step.make_train_step(one, None, HEAD_TX))(state, make_batch([1, 2]))
    assert_equal(after.shared, state.shared)
    assert not np.array_equal(after.bank["w"], state.bank["w"])


@pytest.mark.slow
def test_evaluation_is_the_loss_of_the_heads_as_they_are(monkeypatch):
    monkeypatch.setattr(step.rows, "group_size", lambda stored: 2)
    one, state = many("linear", users=6)
    rng = np.random.default_rng(0)
    w = rng.normal(size=(6, D + X)).astype(np.float32)
    state = state.replace(bank={"w": w, "b": np.zeros(6, np.float32)}, anchor={"w": w[0] * 0 + 1, "b": np.float32(2)})
    batch = make_batch([4, 1])
    found = jax.jit(step.make_eval_step(one))(state, batch)
    x = np.concatenate([batch.x, batch.extras], axis=-1)
    heads_ = np.stack([w[4], w[1], np.ones(D + X), np.ones(D + X)])
    s = np.einsum("uei,ui->ue", x, heads_) + np.array([0, 0, 2, 2])[:, None]
    np.testing.assert_allclose(found.scores, s, atol=1e-5)
    each = np.logaddexp(0, s) - batch.targets.label * s
    np.testing.assert_allclose(found.loss, (each * batch.targets.mask).sum(axis=1), rtol=1e-4)
    np.testing.assert_array_equal(found.weight, batch.targets.mask.sum(axis=1))
    _, metrics = jax.jit(step.make_train_step(one, None, HEAD_TX))(state, make_batch([4, 1], slots=2))
    np.testing.assert_allclose(metrics["loss"], losses_of(one, state, make_batch([4, 1], slots=2)), rtol=1e-5)


def losses_of(one, state, batch):
    return np.asarray(jax.jit(step.make_eval_step(one))(state, batch).loss).sum()
