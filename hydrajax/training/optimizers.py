"""Optimizers of the heads and of what all users share.

Any optax chain can train heads. This AdamW is optax's chain with the same states; it divides once an element where
optax divides four times, and it can keep its moments in bfloat16.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, UInt16, UInt32

from hydrajax.nn import draws, heads
from hydrajax.types import DataError

Scalar = Any  # a number or a traced float32 scalar: a sweep over learning rates compiles once


def update(tx: optax.GradientTransformation, grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
    """`tx.update`, also where mixed types raise: optax's Adam takes powers of a float by an integer count."""
    with jax.numpy_dtype_promotion("standard"):
        return tx.update(grads, state, params)


def adamw(
    learning_rate: Scalar,
    weight_decay: Scalar,
    *,
    clip: float = 1.0,
    total: Scalar | None = None,
    moments: Any = "float32",
) -> Any:
    """AdamW after a clip of the gradient's norm, as HYDRA trains (arXiv 2406.02888, appendix).

    For heads it is vmapped over users, so that the clip, the moments and the count are each user's own.

    Args:
      learning_rate: at the first step.
      weight_decay: decoupled.
      clip: largest norm of the gradient.
      total: steps over which the learning rate falls to 0 in a line; None keeps it.
      moments: "float32", or "bfloat16": half of their memory, rounded at random; see `bits`.

    Raises:
      DataError: moments of another type, or a number out of its range; of traced numbers nothing is known.
    """
    _check(learning_rate=learning_rate, weight_decay=weight_decay, clip=clip, total=0.0 if total is None else total)
    return optax.chain(
        _clip_by_norm(clip),
        _scale_by_adam(_kept_as(moments)),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(_linear(learning_rate, total)),
    )


def update_head(
    head_tx: optax.GradientTransformation,
    anchor: heads.User,
    user: heads.User,
    opt: Any,
    grad: heads.User,
    weight: Float[Array, ""],
    pull: Float[Array, ""],
    *,
    units: heads.Units,
) -> tuple[heads.User, Any]:
    """One user's head and optimizer state after one update, in units of v = (head - anchor) / scale.

    The gradient that the optimizer sees is scale grad / weight + pull v, where pull is times `units.prior`.

    Args:
      head_tx: optimizer of one head.
      anchor: where decay and prior pull.
      user: the head.
      opt: its optimizer state.
      grad: of the summed loss of the user's examples.
      weight: of that sum.
      pull: strength of the Gaussian prior.
      units: of `heads.units`.
    """
    away = jax.tree.map(lambda p, a, s: (p - a) * (1.0 / s), user, anchor, units.scale)
    share = 1.0 / jnp.maximum(weight, 1.0)  # a division for each parameter would cost as much as Adam's
    mean = jax.tree.map(lambda g, d, s, p: g * (share * s) + (pull * p) * d, grad, away, units.scale, units.prior)
    # Decay sees the distance from the anchor in place of the parameters: it shrinks towards the anchor, not to 0.
    updates, new_opt = update(head_tx, mean, opt, away)
    return optax.apply_updates(user, jax.tree.map(jnp.multiply, updates, units.scale)), new_opt


def bits(x: Float[Array, "*n"], noise: UInt32[Array, "*n"]) -> UInt16[Array, "*n"]:
    """bfloat16 of x as its bits, rounded up or down so that the mean is x; the 16 low bits of `noise` are uniform.

    Rounded to the nearest, a second moment would stand still: a step of Adam changes it by .001 of itself, and
    neighbouring numbers of bfloat16 are .004 apart. Kept as bits, because XLA on a CPU turns a whole array of
    bfloat16 into float32 and back to write one row of it.
    """
    sum_ = jax.lax.bitcast_convert_type(x, jnp.uint32) + (noise & jnp.uint32(0xFFFF))
    return (sum_ >> 16).astype(jnp.uint16)


def value(x: Float[Array, "*n"] | UInt16[Array, "*n"]) -> Float[Array, "*n"]:
    """A moment as float32: x itself, or the number with these bits."""
    if x.dtype != jnp.uint16:
        return x
    return jax.lax.bitcast_convert_type(x.astype(jnp.uint32) << 16, jnp.float32)


def _check(**values: Scalar) -> None:
    for name, value in values.items():
        if not isinstance(value, jax.core.Tracer) and not (np.isfinite(value) and value >= 0):
            raise DataError(f"{name} is {value}, expected a finite number of 0 or more")


def _clip_by_norm(largest: float) -> optax.GradientTransformation:
    def clip(grads: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        factor = largest / jnp.maximum(optax.tree.norm(grads), largest)
        return jax.tree.map(lambda g: g * factor, grads), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), clip)


def _kept_as(moments: Any) -> Any:
    """The type of the arrays that moments are kept in."""
    kinds = {"float32": jnp.float32, "bfloat16": jnp.uint16}
    name = moments if isinstance(moments, str) else jnp.dtype(moments).name
    if name not in kinds:
        raise DataError(f"moments are {name}, expected float32 or bfloat16")
    return kinds[name]


def _scale_by_adam(kept_as: Any, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformation:
    """m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps), the corrections as factors (Kingma and Ba, arXiv 1412.6980)."""

    def init(params: Any) -> optax.ScaleByAdamState:
        def zeros() -> Any:
            return jax.tree.map(lambda p: jnp.zeros(p.shape, kept_as), params)

        # Two trees: a buffer that both shared could not be donated.
        return optax.ScaleByAdamState(count=jnp.zeros((), jnp.int32), mu=zeros(), nu=zeros())

    def scale(grads: Any, state: optax.ScaleByAdamState, params: Any = None) -> tuple[Any, optax.ScaleByAdamState]:
        count = optax.safe_increment(state.count)
        t = count.astype(jnp.float32)
        first, second = 1.0 / (1.0 - b1**t), jax.lax.rsqrt(1.0 - b2**t)
        mu = jax.tree.map(lambda m, g: b1 * value(m) + (1.0 - b1) * g, state.mu, grads)
        nu = jax.tree.map(lambda v, g: b2 * value(v) + (1.0 - b2) * g * g, state.nu, grads)
        scaled = jax.tree.map(lambda m, v: first * m / (second * jnp.sqrt(v) + eps), mu, nu)
        if kept_as == jnp.uint16:
            noise = jax.tree.map(lambda g: _noise(g, count), grads)
            mu = jax.tree.map(bits, mu, noise)
            nu = jax.tree.map(lambda v, n: bits(v, n >> 16), nu, noise)
        return scaled, optax.ScaleByAdamState(count=count, mu=mu, nu=nu)

    return optax.GradientTransformation(init, scale)


def _noise(g: Float[Array, "*n"], count: Any) -> Any:
    """32 bits from the gradient's own and the step's: a random key for each element would cost more than Adam."""
    words = jax.lax.bitcast_convert_type(g, jnp.uint32) + count.astype(jnp.uint32) * jnp.uint32(0x9E3779B9)
    return draws.mixed(words)


def _linear(learning_rate: Scalar, total: Scalar | None) -> Any:
    if total is None:
        return lambda count: jnp.asarray(learning_rate, jnp.float32)
    return lambda count: learning_rate * jnp.maximum(1.0 - count.astype(jnp.float32) / total, 0.0)
