import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hydrajax.nn import heads
from hydrajax.types import DataError

DIMS = heads.Dims(features=6, extras=2)


def test_an_unknown_family_names_the_valid_ones():
    with pytest.raises(DataError, match=r"head family is 'mpl', expected one of linear, mlp, shared"):
        heads.get("mpl")


def test_an_unknown_setting_names_the_valid_ones():
    with pytest.raises(DataError, match=r"mlp has no setting depth, it has dropout, width"):
        heads.get("mlp", depth=3)


@pytest.mark.parametrize("name", heads.names())
def test_every_family_keeps_the_contract(name):
    family = heads.get(name)
    assert isinstance(family, heads.Family)
    hash(family)  # compiled programs are kept by family
    shared, user = family.init_shared(jax.random.key(0), DIMS), family.init_user(jax.random.key(1), DIMS)
    x = jnp.asarray(np.random.default_rng(0).normal(size=8), jnp.float32)
    logit = family.score(shared, user, x)
    assert logit.shape == () and logit.dtype == jnp.float32
    np.testing.assert_array_equal(logit, family.score(shared, user, x))
    stores = heads.stores_users(family, DIMS)
    assert stores == bool(user)
    generic = family.generic({**shared, "generic": user} if stores else shared)
    assert jax.tree.structure(generic) == jax.tree.structure(user)
    if hasattr(family, "design"):
        some = jax.tree.map(lambda leaf: leaf + 0.3, user)
        parts = jax.tree.map(lambda u, d: jnp.sum(u * d), some, family.design(shared, x))
        np.testing.assert_allclose(sum(jax.tree.leaves(parts)), family.score(shared, some, x), rtol=1e-5)
