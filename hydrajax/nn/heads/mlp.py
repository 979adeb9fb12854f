"""HYDRA's head: a two-layer perceptron of each user's own.

    h = W2' drop(tanh(W1' drop(x) + b1)) + b2,    score = h_1 - h_0

with W1 [D + X, D] and W2 [D, 2]. The sigmoid of the score is the softmax of the two logits, so the binary
cross-entropy of the score is the cross-entropy of the softmax. Zhuang et al. (NeurIPS 2024, arXiv 2406.02888),
section 3 and public code.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hydrajax.nn import draws, heads


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mlp(heads.Family):
    """The family; see the module.

    Attributes:
      dropout: rate before each of the two layers.
      width: hidden units; D where None, as HYDRA has it.
    """

    dropout: float = 0.1
    width: int | None = None

    def __post_init__(self):
        heads.within(self, 1, math.inf, "width")
        heads.within(self, 0, 1, "dropout")

    def init_user(self, key: Array, dims: heads.Dims) -> heads.User:
        return init(key, dims.inputs, self.width or dims.features)

    def units(self, dims: heads.Dims) -> heads.Units:
        w1 = heads.of_weights(dims).scale[:, None]
        scale = {"w1": w1, "b1": dims.inputs**-0.5, "w2": (self.width or dims.features) ** -0.5, "b2": 1.0}
        return heads.Units(scale=scale, offset={"w1": 0.0, "b1": 0.0, "w2": 0.0, "b2": heads.INTERCEPT})

    def score(
        self, shared: heads.Shared, user: heads.User, x: Float[Array, " I"], key: Array | None = None
    ) -> Float[Array, ""]:
        return apply(user, x, self.dropout, key)


FAMILY = Mlp


def init(key: Array, inputs: int, width: int) -> dict[str, Array]:
    """One head: weights and biases uniform in +-1/sqrt(fan in), PyTorch's default for a linear layer.

    A stack of heads is `jax.vmap(init, ...)` over keys: an initialiser that is given the stacked shape takes the
    number of users for a part of the fan in, and the weights come out far too small.
    """
    shapes = {"w1": ((inputs, width), inputs), "b1": ((width,), inputs), "w2": ((width, 2), width), "b2": ((2,), width)}
    sizes = [math.prod(shape) for shape, _ in shapes.values()]
    # One draw for all four: each draw is compiled anew.
    uniform = jnp.split(jax.random.uniform(key, (sum(sizes),), jnp.float32, -1.0, 1.0), np.cumsum(sizes[:-1]))
    return {
        name: draw.reshape(shape) * fan_in**-0.5
        for draw, (name, (shape, fan_in)) in zip(uniform, shapes.items(), strict=True)
    }


def apply(user: dict[str, Array], x: Float[Array, " I"], rate: draws.Rate, key: Array | None) -> Float[Array, ""]:
    """The score of one example."""
    keep = draws.kept(key, x.shape[0] + user["w2"].shape[0], rate)
    if keep is not None:
        x = draws.drop(x, keep[: x.shape[0]], rate)
    h = jnp.tanh(x @ user["w1"] + user["b1"])
    if keep is not None:
        h = draws.drop(h, keep[x.shape[0] :], rate)
    out = h @ user["w2"] + user["b2"]
    return out[1] - out[0]
