"""A BERT-shaped encoder: token ids in, one vector a token out.

    x_0 = LayerNorm(word[id] + position[t] + type[type id])
    x   = LayerNorm(x + W_o attention(x))
    x   = LayerNorm(x + W_2 gelu(W_1 x))

The sum over layers is post-normalised and gelu is the exact one, as in Devlin et al. (NAACL 2019, arXiv 1810.04805).
Used through `init` and `apply` alone, so that the parameters are a plain tree.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The shape of the encoder, by the names that a Hugging Face `config.json` gives it.

    Attributes:
      hidden_dropout_prob: rate of dropout after the embeddings, the attention and the feed-forward part; off unless
        `apply` gets `train=True` and a `dropout` key.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float
    hidden_dropout_prob: float = 0.1


class Bert(nn.Module):
    """The encoder: `Bert(config).apply({"params": params}, ids, types, mask) -> [B, T, D]`."""

    config: Config

    @nn.compact
    def __call__(
        self, ids: Int[Array, "B T"], types: Int[Array, "B T"], mask: Bool[Array, "B T"], *, train: bool = False
    ) -> Float[Array, "B T D"]:
        c = self.config
        init = nn.initializers.normal(0.02)
        word = self.param("word", init, (c.vocab_size, c.hidden_size))
        position = self.param("position", init, (c.max_position_embeddings, c.hidden_size))
        kind = self.param("type", init, (c.type_vocab_size, c.hidden_size))
        x_BxTxD = word[ids] + position[None, : ids.shape[1]] + kind[types]
        x_BxTxD = nn.Dropout(c.hidden_dropout_prob)(_norm(c, "norm")(x_BxTxD), deterministic=not train)
        for i in range(c.num_hidden_layers):
            x_BxTxD = Block(c, name=f"layer_{i}")(x_BxTxD, mask, train=train)
        return x_BxTxD


class Block(nn.Module):
    """One layer: self-attention, then the feed-forward part, each added to its input and normalised."""

    config: Config

    @nn.compact
    def __call__(
        self, x_BxTxD: Float[Array, "B T D"], mask: Bool[Array, "B T"], *, train: bool = False
    ) -> Float[Array, "B T D"]:
        c = self.config
        drop = nn.Dropout(c.hidden_dropout_prob, deterministic=not train)
        qkv = _dense(3 * c.hidden_size, "qkv")(x_BxTxD)
        y = _dense(c.hidden_size, "attention_out")(attend(qkv, mask, c.num_attention_heads))
        x_BxTxD = _norm(c, "attention_norm")(x_BxTxD + drop(y))
        y = nn.gelu(_dense(c.intermediate_size, "widen")(x_BxTxD), approximate=False)
        y = _dense(c.hidden_size, "narrow")(y)
        return _norm(c, "norm")(x_BxTxD + drop(y))


def attend(qkv: Float[Array, "B T _"], mask: Bool[Array, "B T"], num_heads: int) -> Float[Array, "B T D"]:
    """Multi-head attention of fused queries, keys and values: softmax(q k' / sqrt(D/H)) v.

    One batched product over [B*H, T, D/H], the softmax's division after the product with v: on a CPU three times
    faster than an einsum over [B, T, H, D/H]. A text without any token attends to nothing and gets zeros.
    """
    b, t, width = qkv.shape
    d = width // 3
    h = d // num_heads
    split = qkv.reshape(b, t, 3, num_heads, h).transpose(2, 0, 3, 1, 4).reshape(3, b * num_heads, t, h)
    q, k, v = split[0] * h**-0.5, split[1], split[2]
    logits = jnp.matmul(q, k.swapaxes(1, 2)).astype(jnp.float32)
    keep = jnp.repeat(mask, num_heads, axis=0)[:, None, :]
    logits = jnp.where(keep, logits, -jnp.inf)
    top = jnp.max(logits, axis=-1, keepdims=True, initial=jnp.finfo(jnp.float32).min)
    weights = jnp.exp(logits - jax.lax.stop_gradient(top))
    total = jnp.sum(weights, axis=-1, keepdims=True)
    out = jnp.matmul(weights.astype(v.dtype), v) / jnp.where(total > 0, total, 1.0).astype(v.dtype)
    return out.reshape(b, num_heads, t, h).transpose(0, 2, 1, 3).reshape(b, t, d)


def _dense(width: int, name: str) -> nn.Dense:
    return nn.Dense(width, kernel_init=nn.initializers.normal(0.02), name=name)


def _norm(config: Config, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=config.layer_norm_eps, dtype=jnp.float32, use_fast_variance=False, name=name)
