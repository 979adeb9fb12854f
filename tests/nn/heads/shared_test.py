import jax
import jax.numpy as jnp

from hydrajax.nn import heads

DIMS = heads.Dims(features=5)


def test_it_is_the_perceptron_of_mlp_with_nothing_of_a_users_own():
    shared, mlp = heads.get("shared"), heads.get("mlp")
    weights = shared.init_shared(jax.random.key(0), DIMS)
    assert shared.init_user(jax.random.key(0), DIMS) == {}
    x, key = jnp.arange(5.0), jax.random.key(1)
    assert shared.score(weights, {}, x) == mlp.score({}, weights, x)
    assert shared.score(weights, {}, x, key) == mlp.score({}, weights, x, key)
