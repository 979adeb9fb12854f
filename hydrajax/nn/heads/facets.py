"""Facets that all users share, and a user who is encoded as a mixture of few of them; nothing of a user is stored.

    score = sum_f alpha_f psi_f(x)                 psi_f: the perceptron of `mlp`, F of them
    e     = mean of Transformer(examples)          over the user's context, without positions
    s     = relu(We e + be)                        [2 D]
    alpha = softmax over the 3 largest of Wr s + br, 0 for all others
    loss  + 0.5 (mean (Wd s + bd - e)^2 + 8.6e-4 sum |s|)

MoF (arXiv 2610.08330). There the context is the profile's records; here it is what the user's scorer learns from,
candidates or records with the label that the user gave them, so an input of the Transformer is (x, label). An empty
context has e = 0. One forward pass makes a new user: no gradient, nothing but shared parameters.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hydrajax.nn import heads
from hydrajax.nn.heads import mlp
from hydrajax.types import DataError

HIDDEN = -1e30  # of attention to padding; minus infinity would make NaN of a context without any example


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facets(heads.Family):
    """The family; see the module.

    Attributes:
      facets: F.
      active: how many of them a user mixes.
      layers: of the Transformer.
      width: hidden units of a facet; D where None.
      dropout: in the facets, rate before each of their two layers.
      reconstruction: weight of the family's own term of the loss.
      sparsity: weight of |s| in it.
      clusters: of a user's pools, by their features, of which an update takes one after another in training; 0: all.
    """

    facets: int = 7
    active: int = 3
    layers: int = 1
    width: int | None = None
    dropout: float = 0.1
    reconstruction: float = 0.5
    sparsity: float = 8.6e-4
    clusters: int = 10

    def __post_init__(self):
        heads.within(self, 1, math.inf, "facets", "active", "layers", "width")
        heads.within(self, 0, 1, "dropout")
        heads.within(self, 0, math.inf, "reconstruction", "sparsity", "clusters")
        if self.active > self.facets:
            raise DataError(f"active of Facets is {self.active}, expected at most its {self.facets} facets")

    def init_shared(self, key: Array, dims: heads.Dims) -> heads.Shared:
        d = dims.features
        keys = iter(jax.random.split(key, 5 + 4 * self.layers))
        psi = jax.random.split(next(keys), self.facets)
        blocks = {
            str(i): {
                "qkv": _dense(next(keys), d, 3 * d),
                "out": _dense(next(keys), d, d),
                "up": _dense(next(keys), d, 2 * d),
                "down": _dense(next(keys), 2 * d, d),
            }
            for i in range(self.layers)
        }
        return {
            "psi": jax.vmap(lambda facet_key: mlp.init(facet_key, dims.inputs, self.width or d))(psi),
            "embed": _dense(next(keys), dims.inputs + 1, d),
            "blocks": blocks,
            "encode": _dense(next(keys), d, 2 * d),
            "route": _dense(next(keys), 2 * d, self.facets),
            "decode": _dense(next(keys), 2 * d, d),
        }

    def encode_user(self, shared: heads.Shared, context: heads.Context, key: Array | None = None) -> heads.User:
        """alpha [F] of one user's context."""
        _, s = self._summary(shared, context)
        best, which = jax.lax.top_k(_apply(shared["route"], s), self.active)
        return {"alpha": jnp.zeros((self.facets,), jnp.float32).at[which].set(jax.nn.softmax(best))}

    def score(
        self, shared: heads.Shared, user: heads.User, x: Float[Array, " I"], key: Array | None = None
    ) -> Float[Array, ""]:
        # One key, so that all facets drop the same inputs and units: seven draws for an example are slow to compile.
        return user["alpha"] @ jax.vmap(lambda psi: mlp.apply(psi, x, self.dropout, key))(shared["psi"])

    def penalty(
        self, shared: heads.Shared, user: heads.User, context: heads.Context, target: heads.Context
    ) -> Float[Array, ""]:
        """Reconstruction of e from s, and the size of s."""
        e, s = self._summary(shared, context)
        error = jnp.mean((_apply(shared["decode"], s) - e) ** 2)
        return self.reconstruction * (error + self.sparsity * jnp.sum(jnp.abs(s)))

    def generic(self, shared: heads.Shared) -> heads.User:
        inputs = shared["embed"]["w"].shape[0] - 1
        nobody = heads.Context(x=jnp.zeros((1, inputs)), label=jnp.zeros(1), mask=jnp.zeros(1, bool))
        return self.encode_user(shared, nobody)

    def _summary(self, shared: heads.Shared, context: heads.Context) -> tuple[Float[Array, " D"], Float[Array, " D2"]]:
        """(e, s)."""
        h_ExD = _apply(shared["embed"], jnp.concatenate([context.x, context.label[:, None]], axis=1))
        for i in range(self.layers):
            block = shared["blocks"][str(i)]
            h_ExD = h_ExD + _attend(block, _normal(h_ExD), context.mask)
            h_ExD = h_ExD + _apply(block["down"], jax.nn.gelu(_apply(block["up"], _normal(h_ExD))))
        count = jnp.maximum(jnp.sum(context.mask, dtype=jnp.float32), 1.0)
        e_D = jnp.sum(jnp.where(context.mask[:, None], h_ExD, 0.0), axis=0) / count
        return e_D, jax.nn.relu(_apply(shared["encode"], e_D))


FAMILY = Facets


def _dense(key: Array, inputs: int, outputs: int) -> dict[str, Array]:
    """Weights and biases uniform in +-1/sqrt(fan in)."""
    draw = jax.random.uniform(key, (inputs + 1, outputs), jnp.float32, -1.0, 1.0) * inputs**-0.5
    return {"w": draw[:-1], "b": draw[-1]}


def _apply(layer: dict[str, Array], x: Float[Array, "*n I"]) -> Float[Array, "*n O"]:
    out = x @ layer["w"]
    return out + jnp.broadcast_to(layer["b"], out.shape)


def _normal(h_ExD: Float[Array, "E D"]) -> Float[Array, "E D"]:
    """Layer normalisation without parameters: those of the layer that reads it do the same."""
    centred = h_ExD - jnp.mean(h_ExD, axis=1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=1, keepdims=True) + 1e-6)


def _attend(block: dict[str, dict[str, Array]], h_ExD: Float[Array, "E D"], mask: Array) -> Float[Array, "E D"]:
    """Attention among examples, in at most 4 heads of equal width."""
    e, d = h_ExD.shape
    n = math.gcd(4, d)
    q_HxExh, k_HxExh, v_HxExh = jnp.moveaxis(_apply(block["qkv"], h_ExD).reshape(e, 3, n, d // n), (1, 2), (0, 1))
    logits_HxExE = jnp.where(mask[None, None, :], q_HxExh @ k_HxExh.mT * (d // n) ** -0.5, HIDDEN)
    out_HxExh = jax.nn.softmax(logits_HxExE, axis=-1) @ v_HxExh
    return _apply(block["out"], jnp.moveaxis(out_HxExh, 0, 1).reshape(e, d))
