import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hydrajax.training
from hydrajax.nn import heads, scorer
from hydrajax.training import losses, optimizers, rows, step
from hydrajax.training import state as states
from hydrajax.types import DataError
from tests.training.conftest import D, X, assert_close, assert_equal, edited, make_batch, make_tokens

C = 6  # capacity of the bank
MANY = 997  # that of a bank of which copies would show
LARGE = rows.LARGE_BYTES // (4 * D)  # hidden units whose weights are a large row
DIMS = heads.Dims(features=D, extras=X)
HEAD_TX = optimizers.adamw(0.05, 0.1, clip=0.5)
BASE_TX = optimizers.adamw(0.01, 0.1)


@functools.cache
def build(family="mlp", loss="cross_entropy", **settings):
    one = scorer.Scorer(family=heads.get(family, **settings), dims=DIMS)
    state = states.init_state(one, BASE_TX, HEAD_TX, num_users=C, key=jax.random.key(0))
    return one, state, jax.jit(step.make_train_step(one, BASE_TX, HEAD_TX, loss=loss))


@pytest.fixture
def plain():
    """Heads without dropout, so that batches can be compared."""
    return build(dropout=0.0)


def rows_of(state, rows):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[rows], (state.bank, state.bank_opt))


def run(update, state, *batches):
    for batch in batches:
        state, _ = update(state, batch)
    return state


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head_tx": optax.sgd(0.1)}, "the state's bank_opt for this head_tx: have 1/count"),
        ({"head_tx": optimizers.adamw(0.1, 0.1, moments=jnp.bfloat16)}, "bank_opt .* 1/mu/b1 is float32.*uint16"),
        ({"family": "linear"}, "the state's bank: lack b: of another family or optimizer"),
        ({"family": "low_rank_mlp"}, "the state's bank: "),
        ({"width": 3}, r"the state's bank: b1 is float32\[6, 5\], expected float32\[6, 3\]"),
    ],
)
def test_a_state_of_another_kind_is_one_sentence(plain, change, message):
    _, state, _ = plain
    settings = {"width": change["width"]} if "width" in change else {}
    one = scorer.Scorer(family=heads.get(change.get("family", "mlp"), **settings), dims=DIMS)
    update = jax.jit(step.make_train_step(one, BASE_TX, change.get("head_tx", HEAD_TX)))
    with pytest.raises(DataError, match=message):
        update(state, make_batch([0]))


def test_other_shared_parameters_and_their_optimizer_are_one_sentence():
    one, state, _ = build("shared", dropout=0.0)
    with pytest.raises(DataError, match="the state's base_opt for this base_tx: have 1/count"):
        jax.jit(step.make_train_step(one, optax.sgd(0.1), HEAD_TX))(state, make_batch([0]))
    with pytest.raises(DataError, match="the state's shared: lack b1"):
        jax.jit(step.make_train_step(one, BASE_TX, HEAD_TX))(state.replace(shared={}), make_batch([0]))


def test_a_batch_of_another_width_is_one_sentence(plain):
    one, state, update = plain
    batch = make_batch([0])
    for call in (update, jax.jit(step.make_eval_step(one))):
        with pytest.raises(DataError, match=r"x of the batch is \[4, 6, 4\], expected \[U, E, 5\]"):
            call(state, batch.replace(x=batch.x[..., :-1]))
        with pytest.raises(DataError, match=r"extras of the batch is \[4, 6, 0\], expected \[U, E, 2\]"):
            call(state, batch.replace(extras=batch.extras[..., :0]))


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


def many(family="linear", users=MANY, tx=HEAD_TX, base_tx=None, **settings):
    one = scorer.Scorer(family=heads.get(family, **settings), dims=DIMS)
    head = jax.jit(lambda key: one.family.init_user(key, DIMS))(jax.random.key(1))
    return one, states.init_state(one, base_tx, tx, num_users=users, key=jax.random.key(0), head=head)


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


@pytest.mark.slow
def test_families_that_encode_users_are_scored_elsewhere():
    one = scorer.Scorer(family=heads.get("facets"), dims=DIMS)
    with pytest.raises(DataError, match=r"Facets encodes users from profiles: score them with fit.predict"):
        step.make_eval_step(one)


@pytest.mark.slow
def test_the_functions_are_found_by_their_short_names():
    assert hydrajax.training.make_train_step is step.make_train_step
    assert {name: getattr(hydrajax.training, name).__name__ for name in hydrajax.training.PUBLIC}.keys() >= {
        "init_state",
        "make_eval_step",
    }
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hydrajax.training.nothing
