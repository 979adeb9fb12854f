import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hydrajax.nn import heads

DIMS = heads.Dims(features=200, extras=3)


def test_the_score_is_its_formula():
    family = heads.get("mlp")
    user = family.init_user(jax.random.key(0), DIMS)
    x = np.random.default_rng(0).normal(size=203).astype(np.float32)
    u = jax.tree.map(np.asarray, user)
    out = u["w2"].T @ np.tanh(u["w1"].T @ x + u["b1"]) + u["b2"]
    np.testing.assert_allclose(family.score({}, user, jnp.asarray(x)), out[1] - out[0], rtol=1e-5)


def test_a_head_of_hydra_has_592130_parameters():
    user = jax.eval_shape(lambda: heads.get("mlp").init_user(jax.random.key(0), heads.Dims(features=768)))
    assert sum(leaf.size for leaf in jax.tree.leaves(user)) == 592_130


@pytest.mark.parametrize("users", [1, 30])
def test_the_scale_of_the_weights_does_not_depend_on_the_number_of_users(users):
    keys = jax.random.split(jax.random.key(0), users)
    stack = jax.vmap(lambda key: heads.get("mlp").init_user(key, DIMS))(keys)
    assert stack["w1"].shape == (users, 203, 200)
    for name, fan_in in (("w1", 203), ("w2", 200)):
        assert float(jnp.abs(stack[name]).max()) <= fan_in**-0.5
        np.testing.assert_allclose(stack[name].std(), (3 * fan_in) ** -0.5, rtol=0.1)
    if users > 1:
        assert not np.allclose(stack["w1"][0], stack["w1"][1])


def test_dropout_needs_a_key_and_keeps_the_mean():
    family = heads.get("mlp", dropout=0.2)
    user = jax.tree.map(lambda leaf: leaf * 0.05, family.init_user(jax.random.key(0), DIMS))  # tanh is almost a line
    x = jnp.ones(203)
    plain = family.score({}, user, x)
    assert plain == family.score({}, user, x)
    dropped = jax.vmap(lambda key: family.score({}, user, x, key))(jax.random.split(jax.random.key(1), 4000))
    assert float(dropped.std()) > 0
    assert abs(float(dropped.mean() - plain)) < 4 * float(dropped.std()) / 4000**0.5
    assert plain == heads.get("mlp", dropout=0.0).score({}, user, x, jax.random.key(2))


def test_both_layers_are_dropped():
    family = heads.get("mlp", dropout=0.5)
    user = family.init_user(jax.random.key(0), DIMS)
    only_hidden = family.score({}, user, jnp.zeros(203), jax.random.key(1))  # nothing to drop in x
    assert only_hidden != family.score({}, user, jnp.zeros(203))
    flat = {**user, "w2": jnp.zeros_like(user["w2"])}
    assert family.score({}, flat, jnp.ones(203), jax.random.key(1)) == flat["b2"][1] - flat["b2"][0]


def test_width_is_a_setting():
    assert heads.get("mlp", width=16).init_user(jax.random.key(0), DIMS)["w1"].shape == (203, 16)
