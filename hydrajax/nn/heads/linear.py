"""A linear head of each user's own: score = w' x + b.

With cross-entropy this is logistic regression per user, under a Gaussian prior centred at the pooled head: a user's
few records against 384 features are always separable, and without a prior the weights would have no finite optimum.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from hydrajax.nn import heads


@dataclasses.dataclass(frozen=True, kw_only=True)
class Linear(heads.Family):
    """The family; convex, so it is fitted by Newton's method."""

    def init_user(self, key: Array, dims: heads.Dims) -> heads.User:
        return {"w": jnp.zeros((dims.inputs,), jnp.float32), "b": jnp.zeros((), jnp.float32)}

    def units(self, dims: heads.Dims) -> heads.Units:
        weights = heads.of_weights(dims)
        return heads.Units(scale={"w": weights.scale, "b": 1.0}, offset={"w": weights.offset, "b": heads.INTERCEPT})

    def score(
        self, shared: heads.Shared, user: heads.User, x: Float[Array, " I"], key: Array | None = None
    ) -> Float[Array, ""]:
        return x @ user["w"] + user["b"]

    def design(self, shared: heads.Shared, x: Float[Array, " I"]) -> heads.User:
        """The gradient of the score by the head."""
        return {"w": x, "b": jnp.ones((), jnp.float32)}


FAMILY = Linear
