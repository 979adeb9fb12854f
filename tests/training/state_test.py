import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hydrajax.nn import heads, scorer
from hydrajax.training import state as states
from hydrajax.types import DataError
from tests.training.conftest import D, X, assert_equal, make_batch
from tests.training.small_bank import DIMS, FRESH, ONE, POOLED, TX, UPDATE, C, row, trained_state


@pytest.fixture
def trained():
    return trained_state()


def test_a_fresh_bank_has_the_heads_of_single_users():
    one, key = scorer.Scorer(family=heads.get("mlp"), dims=DIMS), jax.random.key(0)
    state = states.init_state(one, TX, TX, num_users=C, key=key)
    own = one.family.init_user(states.user_key(key, 3), DIMS)
    assert_equal(jax.tree.map(lambda leaf: np.asarray(leaf)[3], state.bank), own)
    np.testing.assert_allclose(np.asarray(state.bank["w1"]).std(), (3 * (D + X)) ** -0.5, rtol=0.2)


def test_what_a_state_cannot_start_from_is_one_sentence(trained):
    given = {"num_users": C, "key": jax.random.key(0)}
    for change, message in (
        ({"num_users": 0}, "num_users is 0, expected a whole number, 1 or more"),
        ({"num_users": -1}, "num_users is -1"),
        ({"key": 0}, r"key is 0, expected a typed key: jax.random.key\(0\)"),
        ({"key": jax.random.PRNGKey(0)}, r"key is uint32\[2\], expected a typed key"),
        ({"head": trained.bank}, r"head: b1 is float32\[6, 5\], expected float32\[5\]"),
        ({"head": {"w": np.zeros(D + X, np.float32)}}, "head: lack b1"),
    ):
        with pytest.raises(DataError, match=message):
            states.init_state(ONE, TX, TX, **{**given, **change})


def test_users_come_out_as_they_are_and_go_back(trained):
    users, opt = states.take_users(trained, np.array([3, 1]))
    assert_equal(users, jax.tree.map(lambda leaf: leaf[np.array([3, 1])], trained.bank))
    after = states.put_users(trained, np.array([5, 3]), users, opt)
    assert_equal(row(after, 5), row(trained, 3))
    assert_equal(row(after, 3), row(trained, 1))
    for other in (0, 1, 2, 4):
        assert_equal(row(after, other), row(trained, other))


def test_taken_and_put_in_a_jitted_function(trained):
    @jax.jit
    def swap(state, rows):
        return states.put_users(state, rows[::-1], *states.take_users(state, rows))

    after = swap(trained, jnp.array([0, 2]))
    assert_equal(row(after, 0), row(trained, 2))
    assert_equal(row(after, 2), row(trained, 0))


@pytest.mark.parametrize(
    ("rows", "message"),
    [([0, C], "rows from 0 to 6, expected 0 to 5"), ([-1], "from -1"), ([2, 0, 2], "row 2 comes twice")],
)
def test_faulty_rows_are_one_sentence(trained, rows, message):
    with pytest.raises(DataError, match=message):
        states.take_users(trained, np.array(rows))
    taken = jax.tree.map(lambda leaf: leaf[np.zeros(len(rows), int)], (trained.bank, trained.bank_opt))
    with pytest.raises(DataError, match=message):
        states.put_users(trained, np.array(rows), *taken)
    with pytest.raises(DataError, match=message):
        states.reset(trained, np.array(rows), FRESH)


def test_rows_may_be_lists_and_what_else_they_are_is_one_sentence(trained):
    users = states.take_users(trained, [2, 1])
    assert_equal(users, states.take_users(trained, np.array([2, 1])))
    assert_equal(row(states.put_users(trained, [5, 0], *users), 0), row(trained, 1))
    for bad, says in (
        (1, r"rows have shape \[\]"),
        ([1.0], "rows are float64, expected whole"),
        ([True], "rows are true"),
    ):
        with pytest.raises(DataError, match=says):
            states.take_users(trained, bad)


def test_users_that_do_not_fit_the_bank_are_refused(trained):
    users, opt = states.take_users(trained, np.array([1]))
    one = np.array([4])
    with pytest.raises(DataError, match="the users: 0/b2 is not finite"):
        states.put_users(trained, one, {**users, "b2": users["b2"] * np.nan}, opt)
    with pytest.raises(DataError, match="0/b1 is float16.*expected float32"):
        states.put_users(trained, one, {**users, "b1": users["b1"].astype(jnp.float16)}, opt)
    with pytest.raises(DataError, match=r"0/b1 is float32\[2, 5\], expected float32\[1, 5\]"):
        states.put_users(trained, one, {**users, "b1": jnp.zeros((2, D))}, opt)
    with pytest.raises(DataError, match="the users: lack 1/1/count: of another family or optimizer"):
        states.put_users(trained, one, users, optax.EmptyState())


@pytest.mark.parametrize("start", [{"key": jax.random.key(3)}, {"head": POOLED}])
def test_initial_rows_are_those_of_a_fresh_state(start):
    fresh = states.initial(ONE, TX, **start)
    state = states.init_state(ONE, TX, TX, num_users=C, key=start.get("key", jax.random.key(0)), head=start.get("head"))
    for rows in ([4], [5, 0, 3], []):
        expected = jax.tree.map(lambda leaf, rows=rows: np.asarray(leaf)[rows], (state.bank, state.bank_opt))
        assert_equal(fresh(np.array(rows, np.int32)), expected)


def test_initial_rows_need_a_key_or_a_head():
    for both in ({}, {"key": jax.random.key(0), "head": POOLED}):
        with pytest.raises(DataError, match="exactly one"):
            states.initial(ONE, TX, **both)


def test_a_grown_bank_keeps_its_rows(trained):
    key = jax.random.key(0)
    state = states.init_state(ONE, TX, TX, num_users=C, key=key)
    larger = states.init_state(ONE, TX, TX, num_users=C + 5, key=key)
    assert_equal(states.grow(state, C + 5, states.initial(ONE, TX, key=key)), larger)
    with pytest.raises(DataError, match="has 6 rows, it cannot grow to 5"):
        states.grow(trained, 5, FRESH)


def test_large_rows_are_reset_as_small_ones_are():
    wide = scorer.Scorer(family=heads.get("mlp", width=1000), dims=DIMS)
    state = states.init_state(wide, TX, TX, num_users=3, key=jax.random.key(0))
    fresh = states.initial(wide, TX, key=jax.random.key(0))
    moved = states.put_users(state, [1], *states.take_users(state, [2]))
    assert_equal(states.reset(moved, [1], fresh), state)


def test_permuting_users_permutes_the_heads_exactly(trained):
    """Exactly: also where they stand elsewhere in the bank, over twenty steps."""
    order = np.array([2, 0, 3, 1])
    one = two = trained
    two = states.put_users(two, order, *states.take_users(trained, np.arange(4)))
    for seed in range(20):
        batch = make_batch([0, 1, 2, 3], seed=seed)
        one, _ = UPDATE(one, batch)
        shuffled = jax.tree.map(lambda leaf: leaf[np.argsort(order)], batch)
        two, _ = UPDATE(two, shuffled.replace(rows=batch.rows))
    assert_equal([row(two, to) for to in order], [row(one, n) for n in range(4)])
