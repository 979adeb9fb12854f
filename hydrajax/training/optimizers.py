"""Optimizers of the heads and of what all users share."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

Scalar = Any  # a number or a traced float32 scalar: a sweep over learning rates compiles once


def update(tx: optax.GradientTransformation, grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
    """`tx.update`, also where mixed types raise: optax's Adam takes powers of a float by an integer count."""
    with jax.numpy_dtype_promotion("standard"):
        return tx.update(grads, state, params)


def adamw(learning_rate: Scalar, weight_decay: Scalar, *, clip: float = 1.0, total: Scalar | None = None) -> Any:
    """AdamW after a clip of the gradient's norm, as HYDRA trains (arXiv 2406.02888, appendix).

    For heads it is vmapped over users, so that the clip, the moments and the count are each user's own.

    Args:
      learning_rate: at the first step.
      weight_decay: decoupled.
      clip: largest norm of the gradient.
      total: steps over which the learning rate falls to 0 in a line; None keeps it.
    """
    return optax.chain(
        optax.clip_by_global_norm(clip),
        optax.scale_by_adam(),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(_linear(learning_rate, total)),
    )


def _linear(learning_rate: Scalar, total: Scalar | None) -> Any:
    if total is None:
        return lambda count: jnp.asarray(learning_rate, jnp.float32)
    return lambda count: learning_rate * jnp.maximum(1.0 - count.astype(jnp.float32) / total, 0.0)
