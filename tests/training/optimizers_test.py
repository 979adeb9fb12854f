import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hydrajax.training import optimizers
from hydrajax.types import DataError


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


def test_updates_are_those_of_optaxs_chain():
    theirs = optax.chain(
        optax.clip_by_global_norm(1.0), optax.scale_by_adam(), optax.add_decayed_weights(0.1), optax.scale(-0.05)
    )
    ours = optimizers.adamw(0.05, 0.1)
    rng = np.random.default_rng(0)
    params = {"w": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32), "b": jnp.asarray(rng.normal(size=4), jnp.float32)}
    states = ours.init(params), theirs.init(params)
    for size in (0.01, 3.0, 0.2, 100.0):
        grads = jax.tree.map(lambda p, size=size: jnp.asarray(rng.normal(size=p.shape) * size, jnp.float32), params)
        (got, one), (wanted, other) = (
            optimizers.update(tx, grads, state, params) for tx, state in zip((ours, theirs), states, strict=True)
        )
        states = one, other
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-8), got, wanted)


@pytest.mark.parametrize("x", [1.0, 1.0 + 2**-9, -3.3e-7, 12345.678, 0.0])
def test_rounding_at_random_is_right_in_the_mean(x):
    noise = jnp.arange(2**16, dtype=jnp.uint32)
    rounded = np.asarray(optimizers.value(optimizers.bits(jnp.full(2**16, x, jnp.float32), noise)), np.float64)
    np.testing.assert_allclose(rounded.mean(), np.float32(x), rtol=1e-7)
    assert len(np.unique(rounded)) <= 2
    assert np.abs(rounded - x).max() <= 2**-7 * abs(x)


@jax.jit
def _after(grads):
    tx = optimizers.adamw(0.01, 0.0, clip=1e9, moments=jnp.bfloat16)

    def one(carry, g):
        params, state = carry
        updates, state = optimizers.update(tx, g, state, params)
        return (params + updates, state), None

    params = jnp.zeros(grads.shape[1])
    return jax.lax.scan(one, (params, tx.init(params)), grads)[0]


@pytest.mark.slow
def test_moments_in_bfloat16_follow_those_in_float32():
    grads = jnp.asarray(np.random.default_rng(0).normal(2.0, 1.0, size=(1000, 500)), jnp.float32)
    params, state = _after(grads)
    adam = next(part for part in state if isinstance(part, optax.ScaleByAdamState))
    assert {leaf.dtype for leaf in jax.tree.leaves((adam.mu, adam.nu))} == {jnp.dtype(jnp.uint16)}
    weights = 0.001 * 0.999 ** np.arange(999, -1, -1)
    second = weights @ np.asarray(grads, np.float64) ** 2
    # Rounded to the nearest it would stop where a step is less than half of what bfloat16 can tell apart.
    np.testing.assert_allclose(np.asarray(optimizers.value(adam.nu)).mean(), second.mean(), rtol=0.01)
    plain, tx = jnp.zeros(500), optimizers.adamw(0.01, 0.0, clip=1e9)
    kept, update = tx.init(plain), jax.jit(tx.update)
    for g in grads[:100]:
        with jax.numpy_dtype_promotion("standard"):
            updates, kept = update(g, kept, plain)
        plain = plain + updates
    np.testing.assert_allclose(_after(grads[:100])[0], plain, rtol=0.02)


def test_moments_of_another_type_are_refused():
    with pytest.raises(DataError, match="moments are int8, expected float32 or bfloat16"):
        optimizers.adamw(0.1, 0.0, moments=jnp.int8)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", -0.1), ("learning_rate", float("nan")), ("learning_rate", float("inf")),
        ("weight_decay", -1.0), ("weight_decay", float("nan")), ("clip", -1.0), ("total", -3),
    ],
)  # fmt: skip
def test_a_number_out_of_its_range_is_refused(name, value):
    with pytest.raises(DataError, match=rf"^{name} is {value}, expected a finite number of 0 or more"):
        optimizers.adamw(**{"learning_rate": 0.1, "weight_decay": 0.0, name: value})
    jax.eval_shape(lambda rate: optimizers.adamw(rate, rate).init(rate), 0.1)
