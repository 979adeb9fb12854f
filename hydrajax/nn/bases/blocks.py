"""What the base encoders share: how they compute, linear layers and norms, the post-normalised layer.

Parameters are float32 whatever the products are computed in; softmax and norms are float32.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import ad_checkpoint
from jaxtyping import Array, Bool, Float, Int

from hydrajax.nn.bases import attention
from hydrajax.types import DataError

Attention = Literal["auto", "batched", "fused"]
Given = Array | np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compute:
    """How a base computes; none of it changes its parameters.

    Attributes:
      dtype: of products: `float32`, or `bfloat16`, which accelerators are twice as fast in and CPUs are not.
      remat: layers are computed again in the backward pass, in place of keeping what is between them.
      attention: `batched` products; `fused`, `jax.nn.dot_product_attention`; `auto`: fused on GPU and TPU. Products are
        batched all the same where attention drops out, and in local layers where a row is longer than three windows.
    """

    dtype: str = "float32"
    remat: bool = False
    attention: Attention = "auto"

    def __post_init__(self):
        valid: dict[str, tuple[Any, ...]] = {
            "dtype": ("float32", "bfloat16"), "remat": (False, True), "attention": ("auto", "batched", "fused")
        }  # fmt: skip
        for name, choices in valid.items():
            if getattr(self, name) not in choices:
                raise DataError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(map(str, choices))}")

    @property
    def fused(self) -> bool:
        """Whether attention is one operation of the backend."""
        return self.attention == "fused" or (self.attention == "auto" and jax.default_backend() in ("gpu", "tpu"))


_ACTIVATED = "activated"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """What every encoder's shape has, by the names of `config.json`."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int

    @property
    def max_tokens(self) -> int:
        """Longest text."""
        return self.max_position_embeddings - self.first_position

    @property
    def types(self) -> int:
        """How many type ids there are; 0: they are not looked at."""
        return 0

    @property
    def first_position(self) -> int:
        """The row of the first token in the table of positions."""
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class PostNormShape(Shape):
    """What the shapes of BERT and its relatives have in common.

    Attributes:
      hidden_dropout_prob: rate of dropout after the embeddings, the attention and the feed-forward part; off unless
        `apply` gets `train=True` and a `dropout` key.
      attention_probs_dropout_prob: rate of dropout of the attention's weights.
    """

    layer_norm_eps: float
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1


class Encoder(nn.Module):
    """A base encoder; an architecture writes `encode`.

    Attributes:
      config: its shape, a `Shape`.
    """

    config: Any
    compute: Compute = Compute()

    @nn.compact
    def __call__(
        self,
        ids: Int[Given, "B T"],
        types: Int[Given, "B T"],
        mask: Bool[Given, "B T"],
        *,
        positions: Int[Given, "B T"] | None = None,
        segments: Int[Given, "B T"] | None = None,
        texts: int = 1,
        train: bool = False,
    ) -> Float[Array, "B T D"]:
        """One vector a token, float32.

        Args:
          ids: of tokens, below `config.vocab_size`, made of texts by `tokens.tokenize` and `tokens.pack`. What is out
            of range, here and in `types`, gives numbers that mean nothing: traced code cannot see it, and
            `encode.compute` and `encode.token_features` refuse it.
          types: of tokens, below `config.types` where that is more than 0.
          mask: true = a real token. Padding stands on the right alone: a text begins at the row's beginning and has
            no gaps.
          positions: counted from 0 in every text; None: from the row's beginning. Given together with `segments`.
          segments: the text's number in a row that holds several, from 1; 0 = padding. See `tokens.Tokens`.
          texts: most texts in a row.
          train: dropout is on, and `apply` needs a key of `dropout`.

        Raises:
          DataError: a row is longer than the encoder has positions, or a position is none of them (seen where it is
            not traced), or one of `positions` and `segments` is missing.
        """
        if (positions is None) != (segments is None):
            missing, given = ("positions", "segments") if positions is None else ("segments", "positions")
            raise DataError(f"{missing} are missing, expected together with {given}: tokens.side_by_side makes both")
        if positions is None and ids.shape[1] > self.config.max_tokens:
            raise DataError(f"ids are {ids.shape[1]} long, expected at most the {self.config.max_tokens} positions")
        if positions is not None and not isinstance(positions, jax.core.Tracer):
            longest = int(np.max(positions, initial=-1)) + 1
            if longest > self.config.max_tokens:
                raise DataError(f"a text is {longest} long, expected at most the {self.config.max_tokens} positions")
        where = attention.Layout(mask=mask, positions=positions, segments=segments)
        # The gradients' loops index these by numbers that are traced.
        on_device = jax.tree.map(jnp.asarray, (ids, types, where))
        return jnp.asarray(self.encode(*on_device, texts=texts, train=train), jnp.float32)

    def encode(self, ids: Array, types: Array, where: attention.Layout, *, texts: int, train: bool) -> Array:
        """What `__call__` returns, of tokens that stand so."""
        raise NotImplementedError


@jax.custom_vjp
def looked_up(table: Array, ids: Int[Array, "B T"]) -> Float[Array, "B T D"]:
    """table[ids], with a gradient that adds row after row: on a CPU XLA's own scatters number after number."""
    return jnp.asarray(table)[ids]


def _looked_up_forward(table: Array, ids: Array) -> tuple[Array, tuple[Array, Array]]:
    return looked_up(table, ids), (ids, jnp.zeros((table.shape[0], 0), table.dtype))


def _looked_up_backward(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Any]:
    ids, like = saved
    rows, flat = grad.reshape(-1, grad.shape[-1]).astype(like.dtype), ids.reshape(-1)
    table = jnp.zeros((like.shape[0], rows.shape[1]), like.dtype)
    none = np.zeros(ids.shape, jax.dtypes.float0)
    if jax.default_backend() != "cpu":
        return table.at[flat].add(rows), none

    def add(i: Array, table: Array) -> Array:
        row = jax.lax.dynamic_index_in_dim(table, flat[i]) + jax.lax.dynamic_index_in_dim(rows, i)
        return jax.lax.dynamic_update_slice_in_dim(table, row, flat[i], axis=0)

    return jax.lax.fori_loop(0, len(rows), add, table), none


looked_up.defvjp(_looked_up_forward, _looked_up_backward)


def dense(compute: Compute, width: int, name: str, *, bias: bool = True) -> Callable[[Array], Array]:
    """A linear layer, computed in the type that is asked for."""
    init = nn.initializers.normal(0.02)
    made = nn.Dense(width, use_bias=bias, kernel_init=init, dtype=jnp.dtype(compute.dtype), name=name)

    def call(x: Float[Array, "*N _"]) -> Float[Array, "*N _"]:
        # As one matrix: a CPU takes twice as long for the gradient of three axes.
        return made(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], width)

    return call


@jax.custom_vjp
def gelu(x: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """x Phi(x), the exact one (Hendrycks and Gimpel, arXiv 1606.08415)."""
    return x * _normal_cdf(x)


def _gelu_forward(x: Array) -> tuple[Array, Array]:
    return gelu(x), x


def _gelu_backward(x: Array, grad: Array) -> tuple[Array]:
    """Phi(x) + x phi(x). The barrier: XLA would compute it anew for each of the sums and products that it goes into."""
    density = jnp.exp(-0.5 * x * x) * jnp.asarray((2.0 * np.pi) ** -0.5, x.dtype)
    return (jax.lax.optimization_barrier(grad * (_normal_cdf(x) + x * density)),)


gelu.defvjp(_gelu_forward, _gelu_backward)


def _normal_cdf(x: Array) -> Array:
    return 0.5 * (1.0 + jax.lax.erf(x * jnp.asarray(0.5**0.5, x.dtype)))


def norm(eps: float, name: str, *, bias: bool = True) -> nn.LayerNorm:
    """A layer norm, float32; its variance in two passes, as PyTorch computes it."""
    return nn.LayerNorm(epsilon=eps, use_bias=bias, dtype=jnp.float32, use_fast_variance=False, name=name)


def dropped(module: nn.Module, rate: float, *, train: bool) -> attention.Dropout | None:
    """Dropout of attention's weights by a module's `dropout` key; None where nothing is dropped."""
    return attention.Dropout(key=module.make_rng("dropout"), rate=rate) if train and rate > 0.0 else None


class SelfAttention(nn.Module):
    """Every token sees every other of its text: q, k and v in one product.

    Attributes:
      num_heads: H.
      rate: of dropout of the weights.
      train: dropout is on.
    """

    num_heads: int
    compute: Compute
    rate: float = 0.0
    train: bool = False

    @nn.compact
    def __call__(
        self, x_BxTxD: Float[Array, "B T D"], where: attention.Layout, bias: Float[Array, "1 H T T"] | None = None
    ) -> Float[Array, "B T D"]:
        d = x_BxTxD.shape[-1]
        q, k, v = attention.heads_of(dense(self.compute, 3 * d, "qkv")(x_BxTxD), 3, self.num_heads)
        drop = dropped(self, self.rate, train=self.train)
        out = attention.attend(q, k, v, where, bias=bias, drop=drop, fused=self.compute.fused)
        return dense(self.compute, d, "out")(attention.joined(out))


class PostNorm(nn.Module):
    """One layer of BERT and its relatives, x [B, T, D]:

        x = LayerNorm(x + attention(x)),    x = LayerNorm(x + W2 gelu(W1 x))

    Devlin et al. (NAACL 2019, arXiv 1810.04805); gelu is the exact one.

    Attributes:
      attending: makes the attention, a module called as `attending(name=...)(x, where, ...)`.
      width: of W1 x.
      eps: of the norms.
      rate: of dropout after both parts.
      train: dropout is on.
    """

    attending: Callable[..., nn.Module]
    width: int
    eps: float
    rate: float
    compute: Compute
    train: bool = False

    @nn.compact
    def __call__(self, x_BxTxD: Float[Array, "B T D"], *context: Any) -> Float[Array, "B T D"]:
        drop = nn.Dropout(self.rate, deterministic=not self.train)
        y = self.attending(name="attention")(x_BxTxD, *context)
        x_BxTxD = norm(self.eps, "attention_norm")(x_BxTxD + drop(y).astype(jnp.float32))
        y = activated(dense(self.compute, self.width, "widen")(x_BxTxD))
        y = dense(self.compute, x_BxTxD.shape[-1], "narrow")(y)
        return norm(self.eps, "norm")(x_BxTxD + drop(y).astype(jnp.float32))


def layer(kind: type[nn.Module], compute: Compute) -> Callable[..., nn.Module]:
    """The class of a layer: what it keeps for the backward pass is everything but `activated`, with `remat` its input.

    To compute gelu again costs less than to write and to read what comes of it, the largest array of a layer.
    """
    # The one lifted transform: it leaves the tree of parameters as it is.
    policy = None if compute.remat else jax.checkpoint_policies.save_anything_except_these_names(_ACTIVATED)
    return nn.remat(kind, policy=policy)


def activated(x: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """gelu(x), which layers compute again in the backward pass."""
    return ad_checkpoint.checkpoint_name(gelu(x), _ACTIVATED)
