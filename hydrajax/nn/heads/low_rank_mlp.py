"""HYDRA's head with a hidden layer that all users share, and a change of low rank of each user's own.

    score = o' drop(tanh((W0 + A B) drop(x) + b0)) + c

with W0 [m, D + X] and b0 [m] shared; A [m, r], B [r, D + X], o [m] and c a user's own, m = D by default. LoRA's algebra
(Hu et al., arXiv 2106.09685, section 4.1) on the head of HYDRA (arXiv 2406.02888).

A starts at zero, so that a new user's hidden layer is the shared one, and B at random, so that A has a gradient. o
starts at 1/sqrt(m) for everybody: what a hidden unit means is then the same for all users, the shared map is a whole
perceptron (the signs and sizes of an o are those of W0's rows as well), and W0 learns from the first update on. An o
of zeros would leave W0, A and B without any gradient there; one drawn for each user would give W0 as many meanings as
there are users.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hydrajax.nn import draws, heads
from hydrajax.nn.heads import mlp


@dataclasses.dataclass(frozen=True, kw_only=True)
class LowRankMlp(heads.Family):
    """The family; see the module.

    Attributes:
      rank: r.
      width: m, hidden units; D where None.
      dropout: rate before each of the two layers.
    """

    rank: int = 8
    width: int | None = None
    dropout: float = 0.1

    def __post_init__(self):
        heads.within(self, 1, math.inf, "rank", "width")
        heads.within(self, 0, 1, "dropout")

    def init_shared(self, key: Array, dims: heads.Dims) -> heads.Shared:
        whole = mlp.init(key, dims.inputs, self.width or dims.features)
        return {"w0": whole["w1"], "b0": whole["b1"]}

    def init_user(self, key: Array, dims: heads.Dims) -> heads.User:
        width, inputs = self.width or dims.features, dims.inputs
        b = jax.random.uniform(key, (self.rank, inputs), jnp.float32, -1.0, 1.0) * inputs**-0.5
        o = jnp.full((width,), width**-0.5, jnp.float32)
        return {"a": jnp.zeros((width, self.rank), jnp.float32), "b": b, "o": o, "c": jnp.zeros(())}

    def units(self, dims: heads.Dims) -> heads.Units:
        o = (self.width or dims.features) ** -0.5
        scale = {"a": self.rank**-0.5, "b": heads.of_weights(dims).scale, "o": o, "c": 1.0}
        return heads.Units(scale=scale, offset={"a": 0.0, "b": 0.0, "o": 0.0, "c": heads.INTERCEPT})

    def score(
        self, shared: heads.Shared, user: heads.User, x: Float[Array, " I"], key: Array | None = None
    ) -> Float[Array, ""]:
        inputs, width = x.shape[0], user["o"].shape[0]
        keep = draws.kept(key, inputs + width, self.dropout)
        if keep is not None:
            x = draws.drop(x, keep[:inputs], self.dropout)
        # A (B x): the product A B is never formed.
        h = jnp.tanh(x @ shared["w0"] + user["a"] @ (user["b"] @ x) + shared["b0"])
        if keep is not None:
            h = draws.drop(h, keep[inputs:], self.dropout)
        return user["o"] @ h + user["c"]


FAMILY = LowRankMlp
