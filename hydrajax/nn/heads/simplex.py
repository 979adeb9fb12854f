"""A few tastes that all users share, and a user's mixture of them.

    score = softmax(w)' (V' x + c) + b

with V [D + X, K] and c [K] shared, w [K] and b a user's own. LoRe (Bose et al., arXiv 2504.14439), whose loss is that
of Bradley and Terry over pairs, in which c and b cancel; the cross-entropy needs them: a user who finds everything good
is no mixture of tastes. K = 1 is one linear head for everybody, and an intercept of each user's own.

Tastes are pulled to their mean, the reward of whoever has no taste of their own:

    prior = 1/2 sum_k |(v_k - mean) / scale|^2 + 1/2 sum_k (c_k - mean)^2 + 1/20 |mean / scale|^2

with the scale of `heads.of_weights`. There the pull is to the direction of a reward model, which is not here.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hydrajax.nn import heads

POOLED = 0.1  # strength of the mean's prior, in that of what tastes differ by


@dataclasses.dataclass(frozen=True, kw_only=True)
class Simplex(heads.Family):
    """The family; see the module.

    Attributes:
      bases: K, tastes.
    """

    bases: int = 16

    def __post_init__(self):
        heads.within(self, 1, math.inf, "bases")

    def init_shared(self, key: Array, dims: heads.Dims) -> heads.Shared:
        # Tastes must differ at the start: under equal weights equal tastes would stay equal.
        v = jax.random.normal(key, (dims.inputs, self.bases), jnp.float32) * dims.inputs**-0.5
        return {"v": v, "c": jnp.zeros((self.bases,), jnp.float32)}

    def init_user(self, key: Array, dims: heads.Dims) -> heads.User:
        return {"w": jnp.zeros((self.bases,), jnp.float32), "b": jnp.zeros((), jnp.float32)}

    def units(self, dims: heads.Dims) -> heads.Units:
        return heads.Units(scale={"w": 1.0, "b": 1.0}, offset={"w": 0.0, "b": heads.INTERCEPT})

    def prior(self, shared: heads.Shared, dims: heads.Dims) -> Float[Array, ""]:
        v, c = shared["v"] / heads.of_weights(dims).scale[:, None], shared["c"]
        mean = jnp.mean(v, axis=1)
        apart = jnp.sum((v - mean[:, None]) ** 2) + jnp.sum((c - jnp.mean(c)) ** 2)
        return 0.5 * (apart + POOLED * jnp.sum(mean**2))

    def score(
        self, shared: heads.Shared, user: heads.User, x: Float[Array, " I"], key: Array | None = None
    ) -> Float[Array, ""]:
        return jax.nn.softmax(user["w"]) @ (x @ shared["v"] + shared["c"]) + user["b"]


FAMILY = Simplex
