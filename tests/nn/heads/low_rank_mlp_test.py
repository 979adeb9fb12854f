import jax
import jax.numpy as jnp
import numpy as np

from hydrajax.nn import heads

DIMS = heads.Dims(features=6, extras=2)
FAMILY = heads.get("low_rank_mlp", rank=3, width=5)
X = jnp.asarray(np.random.default_rng(0).normal(size=8), jnp.float32)


def init(family=FAMILY, seed=0):
    keys = jax.random.split(jax.random.key(seed))
    return family.init_shared(keys[0], DIMS), family.init_user(keys[1], DIMS)


def test_the_score_is_its_formula():
    shared, user = init()
    rng = np.random.default_rng(1)
    user = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), user)
    s, u = jax.tree.map(np.asarray, (shared, user))
    out = u["o"] @ np.tanh((s["w0"].T + u["a"] @ u["b"]) @ np.asarray(X) + s["b0"]) + u["c"]
    np.testing.assert_allclose(FAMILY.score(shared, user, X), out, rtol=1e-5)


def test_users_start_at_the_shared_map_and_it_and_they_can_learn():
    shared, user = init()
    _, other = init(seed=1)
    assert not np.array_equal(user["b"], other["b"])
    hidden = np.tanh(np.asarray(X @ shared["w0"] + shared["b0"]))
    for one in (user, other):
        np.testing.assert_allclose(FAMILY.score(shared, one, X), hidden.sum() / np.sqrt(5), rtol=1e-5)
    by_shared, by_user = jax.grad(FAMILY.score, argnums=(0, 1))(shared, user, X)
    for leaf in (by_shared["w0"], by_shared["b0"], by_user["a"], by_user["o"]):
        assert float(jnp.abs(leaf).max()) > 0
    assert float(jnp.abs(by_user["b"]).max()) == 0  # until A has moved


def test_a_user_stores_two_thin_matrices_the_read_out_and_an_intercept():
    dims = heads.Dims(features=384)
    user = jax.eval_shape(lambda: heads.get("low_rank_mlp").init_user(jax.random.key(0), dims))
    assert sum(leaf.size for leaf in jax.tree.leaves(user)) == 2 * 384 * 8 + 384 + 1


def test_dropout_needs_a_key_and_reaches_both_layers():
    family = heads.get("low_rank_mlp", rank=3, width=5, dropout=0.5)
    shared, user = init(family)
    key = jax.random.key(3)
    assert family.score(shared, user, X) == FAMILY.score(shared, user, X)
    assert family.score(shared, user, X, key) != family.score(shared, user, X)
    # Nothing to drop in an input of zeros, or in a hidden layer that says nothing
    biased = {**shared, "b0": jnp.ones(5)}
    assert family.score(biased, user, jnp.zeros(8), key) != family.score(biased, user, jnp.zeros(8))
    assert family.score(shared, {**user, "o": jnp.zeros(5)}, X, key) == 0
