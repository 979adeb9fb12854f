import jax
import jax.numpy as jnp

from hydrajax.nn import heads


def test_the_score_is_its_formula():
    family = heads.get("linear")
    user = {"w": jnp.array([1.0, -2.0, 0.5]), "b": jnp.float32(0.25)}
    assert family.score({}, user, jnp.array([3.0, 1.0, 4.0])) == 1 * 3 - 2 * 1 + 0.5 * 4 + 0.25


def test_a_fresh_head_is_undecided():
    user = heads.get("linear").init_user(jax.random.key(0), heads.Dims(features=3, extras=1))
    assert heads.get("linear").score({}, user, jnp.ones(4)) == 0
