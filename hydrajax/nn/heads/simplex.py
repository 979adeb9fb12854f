"""A few tastes that all users share, and a user's mixture of them.

    score = softmax(w)' (V' x + c) + b

with V [D + X, K] and c [K] shared, w [K] and b a user's own. LoRe (Bose et al., arXiv 2504.14439), whose loss is that
of Bradley and Terry over pairs, in which c and b cancel; the cross-entropy needs them: a user who finds everything good
is no mixture of tastes. K = 1 is one linear head for everybody, and an intercept of each user's own.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hydrajax.nn import heads


@dataclasses.dataclass(frozen=True, kw_only=True)
class Simplex(heads.Family):
    """The family; see the module.

    Attributes:
      bases: K, tastes.
      rate: a factor on the learning rate of w. The mixture changes where w changes by numbers of the order of 1, which
        at the rate of weights would take thousands of updates.
    """

    bases: int = 16
    rate: float = 100.0

    def __post_init__(self):
        heads.within(self, 1, math.inf, "bases")
        heads.within(self, 0, math.inf, "rate", above=True)

    def init_shared(self, key: Array, dims: heads.Dims) -> heads.Shared:
        # Tastes must differ at the start: under equal weights equal tastes would stay equal.
        v = jax.random.normal(key, (dims.inputs, self.bases), jnp.float32) * dims.inputs**-0.5
        return {"v": v, "c": jnp.zeros((self.bases,), jnp.float32)}

    def init_user(self, key: Array, dims: heads.Dims) -> heads.User:
        return {"w": jnp.zeros((self.bases,), jnp.float32), "b": jnp.zeros((), jnp.float32)}

    def units(self, dims: heads.Dims) -> heads.Units:
        return heads.Units(scale={"w": 1.0, "b": 1.0}, offset={"w": 0.0, "b": heads.INTERCEPT})

    def score(
        self, shared: heads.Shared, user: heads.User, x: Float[Array, " I"], key: Array | None = None
    ) -> Float[Array, ""]:
        return jax.nn.softmax(user["w"]) @ (x @ shared["v"] + shared["c"]) + user["b"]


FAMILY = Simplex
