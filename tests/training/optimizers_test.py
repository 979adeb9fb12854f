import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hydrajax.training import optimizers


def test_a_step_is_adamws():
    params, grads = {"w": jnp.array([2.0, -1.0])}, {"w": jnp.array([0.3, -0.4])}
    tx = optimizers.adamw(0.1, 0.5)
    updates, _ = optimizers.update(tx, grads, tx.init(params), params)
    # At the first step Adam's bias-corrected direction is the sign of the gradient.
    np.testing.assert_allclose(updates["w"], -0.1 * (np.array([1.0, -1.0]) + 0.5 * np.array([2.0, -1.0])), rtol=1e-5)


def test_a_long_gradient_is_clipped():
    tx = optimizers.adamw(1.0, 0.0, clip=1.0)
    grads = {"w": jnp.array([300.0, 400.0])}
    _, state = optimizers.update(tx, grads, tx.init(grads), grads)
    adam = next(part for part in state if isinstance(part, optax.ScaleByAdamState))
    np.testing.assert_allclose(adam.mu["w"], 0.1 * np.array([0.6, 0.8]), rtol=1e-5)


@pytest.mark.parametrize(("step", "factor"), [(0, 1.0), (1, 0.75), (3, 0.25), (4, 0.0), (9, 0.0)])
def test_the_rate_falls_in_a_line(step, factor):
    tx = optimizers.adamw(0.1, 0.0, total=4.0)
    params = grads = {"w": jnp.array([1.0])}
    state = tx.init(params)
    for _ in range(step + 1):
        updates, state = optimizers.update(tx, grads, state, params)
    np.testing.assert_allclose(updates["w"], -0.1 * factor, atol=1e-6)
