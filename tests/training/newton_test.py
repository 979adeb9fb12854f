import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hydrajax.nn import heads
from hydrajax.training import losses, newton
from hydrajax.types import DataError

N, D = 24, 5


def problem():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, D)).astype(np.float32)
    score = (x @ rng.normal(size=D)).astype(np.float32)
    return jnp.asarray(x), losses.Targets(
        label=jnp.asarray(score > 0, jnp.float32),
        score=jnp.asarray(score),
        pool=jnp.asarray(np.arange(N) // 4, jnp.int32),
        mask=jnp.ones(N, bool),
    )


@functools.cache
def program(loss, size):
    x, targets = problem()
    family = heads.get("linear")

    def run(anchor, strength, scale):
        def chunk(index):
            rows = index * size + jnp.arange(size)
            design = jax.vmap(lambda row: family.design({}, row))(scale * x[rows])
            return design, jax.tree.map(lambda leaf: leaf[rows], targets)

        return newton.minimise(losses.get(loss), chunk, 0, N // size, anchor, strength)

    return jax.jit(run)


def solve(loss, anchor, strength, size=N, scale=1.0):
    return program(loss, size)(anchor, jnp.float32(strength), jnp.float32(scale))


def anchor(value=0.0):
    return {"w": jnp.full(D, value), "b": jnp.float32(value)}


@pytest.mark.parametrize("loss", losses.LOSSES)
@pytest.mark.parametrize("strength", [0.1, 10.0])
def test_the_gradient_vanishes_at_the_minimum(loss, strength):
    x, targets = problem()
    user, values = solve(loss, anchor(0.5), strength)

    def objective(user):
        away = jax.tree.map(jnp.subtract, user, anchor(0.5))
        prior = 0.5 * strength * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(away))
        return losses.get(loss)(x @ user["w"] + user["b"], targets)[0] + prior

    grads = jax.tree.leaves(jax.jit(jax.grad(objective))(user))
    assert max(float(jnp.abs(leaf).max()) for leaf in grads) < 5e-3
    assert float(objective(user)) < float(objective(anchor(0.5)))
    np.testing.assert_allclose(values[0], losses.get(loss)(x @ anchor(0.5)["w"] + 0.5, targets), rtol=1e-5)
    np.testing.assert_allclose(values[1], losses.get(loss)(x @ user["w"] + user["b"], targets), rtol=1e-5)


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_chunks_do_not_change_the_minimum(loss):
    whole, _ = solve(loss, anchor(), 1.0)
    parts, _ = solve(loss, anchor(), 1.0, size=8)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4), whole, parts)


def test_a_strong_prior_holds_and_a_weak_one_lets_go():
    held, _ = solve("cross_entropy", anchor(0.5), 1e6)
    np.testing.assert_allclose(held["w"], 0.5, atol=1e-3)
    free, values = solve("cross_entropy", anchor(0.5), 1e-3)
    assert float(jnp.abs(free["w"]).max()) > 3
    assert values[1, 0] / values[1, 1] < 0.05  # separable


def test_steps_that_are_too_long_are_halved():
    user, values = solve("cross_entropy", anchor(8.0), 1e-2, scale=30.0)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(user))
    assert values[1, 0] < 1e-2 * values[0, 0]


def test_a_prior_without_strength_is_refused():
    for strength in (0.0, -1.0, float("nan")):
        with pytest.raises(DataError, match="expected more than 0: Linear heads"):
            newton.check(heads.get("linear"), strength)
