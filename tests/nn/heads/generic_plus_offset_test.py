import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hydrajax.nn import families, heads

DIMS = heads.Dims(features=4, extras=1)
X = jnp.asarray(np.random.default_rng(0).normal(size=5), jnp.float32)
OTHERS = set(families.names()) - {"generic_plus_offset"}
INNERS = sorted(name for name in OTHERS if heads.stores_users(heads.get(name), DIMS))


@pytest.mark.parametrize("inner", INNERS)
def test_a_user_is_the_generic_one_plus_an_offset(inner):
    family, plain = heads.get("generic_plus_offset", inner=inner), heads.get(inner)
    shared = family.init_shared(jax.random.key(0), DIMS)
    fresh = family.init_user(jax.random.key(1), DIMS)
    rng = np.random.default_rng(1)
    offset = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), fresh)
    whole = jax.tree.map(lambda a, b: a + b, shared["generic"], offset)
    assert family.score(shared, offset, X) == plain.score(shared, whole, X)
    for nobody in (fresh, family.generic(shared)):
        assert family.score(shared, nobody, X) == plain.score(shared, shared["generic"], X)
    jax.tree.map(np.testing.assert_array_equal, heads.units(family, DIMS), heads.units(plain, DIMS))
    assert hasattr(family, "prior") == hasattr(plain, "prior")


def test_half_of_the_loss_is_the_generic_users():
    family = heads.get("generic_plus_offset", alpha=0.25)
    shared = family.init_shared(jax.random.key(0), DIMS)
    user = jax.tree.map(jnp.ones_like, shared["generic"])
    (share, who), (rest, nobody) = family.trained_as(shared, user)
    assert (share, rest) == (0.25, 0.75)
    assert who is user and all(not leaf.any() for leaf in jax.tree.leaves(nobody))


def test_dropout_is_that_of_the_inner_family():
    key = jax.random.key(2)
    family = heads.get("generic_plus_offset", dropout=0.5)
    shared = family.init_shared(jax.random.key(0), DIMS)
    user = family.generic(shared)
    inner = heads.get("mlp", dropout=0.5).score({}, shared["generic"], X, key)
    assert family.score(shared, user, X, key) == inner != family.score(shared, user, X)
