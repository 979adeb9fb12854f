"""ModernBERT: pre-normalised layers, rotary positions, gated feed-forward, attention that is local in most layers.

    x = x + attention(LayerNorm(x)),    x = x + W2 (gelu(W1 n) * (W3 n)),  n = LayerNorm(x)

The first layer's attention takes x as it is. Every third layer sees the whole text, the others `local_attention`
tokens around each. Warner et al. (arXiv 2412.13663), section 2.1; rotary positions: Su et al. (arXiv 2104.09864).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hydrajax.nn import bases
from hydrajax.nn.bases import attention, blocks
from hydrajax.types import DataError

MODEL_TYPES = ("modernbert",)
PREFIXES = ("model.",)
FULL, LOCAL = "full_attention", "sliding_attention"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(blocks.Shape):
    """The shape of the encoder.

    Attributes:
      layer_types: `full_attention` or `sliding_attention`, of each layer.
      local_attention: tokens that a token of a local layer sees, both sides together.
      thetas: base of the rotary frequencies in full and in local layers.
      norm_bias, attention_bias, mlp_bias: whether norms, attention and feed-forward part have biases.
      embedding_dropout, attention_dropout, mlp_dropout: rates.
    """

    layer_types: tuple[str, ...]
    local_attention: int = 128
    thetas: tuple[float, float] = (160_000.0, 10_000.0)
    norm_eps: float = 1e-5
    norm_bias: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    embedding_dropout: float = 0.0
    attention_dropout: float = 0.0
    mlp_dropout: float = 0.0


def read_config(raw: Mapping[str, Any]) -> Config:
    """The shape from `config.json`, as transformers 4 and 5 write it.

    Raises:
      DataError: an entry is missing, or asks for what is not done here.
    """
    bases.expect(raw, hidden_activation=("gelu",), rope_scaling=(None,))
    shape = bases.fields(raw, Config)
    width, heads = shape["hidden_size"], shape["num_attention_heads"]
    if width // heads % 2:
        raise DataError(f"hidden_size is {width}, expected a multiple of twice the {heads} attention heads")
    layers, kinds = shape["num_hidden_layers"], raw.get("layer_types")
    if kinds is None:
        every = bases.checked("global_attn_every_n_layers", raw.get("global_attn_every_n_layers", 3))
        kinds = [LOCAL if i % every else FULL for i in range(layers)]
    if not isinstance(kinds, list) or len(kinds) != layers or not all(kind in (FULL, LOCAL) for kind in kinds):
        raise DataError(f"layer_types is {kinds!r:.80}, expected {FULL!r} or {LOCAL!r} for each of the {layers} layers")
    return Config(**shape, layer_types=tuple(kinds), thetas=_thetas(raw))


def _thetas(raw: Mapping[str, Any]) -> tuple[float, float]:
    ropes = {} if raw.get("rope_parameters") is None else raw["rope_parameters"]
    if not isinstance(ropes, dict) or set(ropes) - {FULL, LOCAL}:
        raise DataError(f"rope_parameters is {ropes!r:.80}, expected an object of {FULL!r} and {LOCAL!r}")
    thetas = []
    for kind, old, usual in ((FULL, "global_rope_theta", 160_000.0), (LOCAL, "local_rope_theta", 10_000.0)):
        rope = {} if ropes.get(kind) is None else ropes[kind]
        if not isinstance(rope, dict) or set(rope) - {"rope_type", "rope_theta"}:
            raise DataError(f"rope_parameters of {kind} is {rope!r:.80}, expected rope_type and rope_theta alone")
        bases.expect(rope, rope_type=("default",))
        name = "rope_theta" if "rope_theta" in rope else old
        thetas.append(float(bases.checked(name, {old: usual, **raw, **rope}[name])))
    return thetas[0], thetas[1]


class Attention(nn.Module):
    """Attention with rotary positions, to the whole text or to what is near.

    Attributes:
      config: the encoder's.
      full: whether the layer sees the whole text.
      train: dropout is on.
    """

    config: Config
    compute: blocks.Compute
    full: bool
    train: bool = False

    @nn.compact
    def __call__(self, x_BxTxD: Float[Array, "B T D"], where: attention.Layout) -> Float[Array, "B T D"]:
        c, s = self.config, self.compute
        qkv = blocks.dense(s, 3 * c.hidden_size, "qkv", bias=c.attention_bias)(x_BxTxD)
        q, k, v = attention.heads_of(qkv, 3, c.num_attention_heads)
        theta, window = (c.thetas[0], None) if self.full else (c.thetas[1], c.local_attention // 2)
        q, k = (rotated(x, where.counted(), theta) for x in (q, k))
        drop = blocks.dropped(self, c.attention_dropout, train=self.train)
        out = attention.attend_within(q, k, v, where, window=window, drop=drop, fused=s.fused)
        out = blocks.dense(s, c.hidden_size, "out", bias=c.attention_bias)(attention.joined(out))
        return nn.Dropout(c.attention_dropout, deterministic=not self.train)(out)


class Layer(nn.Module):
    """One layer; see the module."""

    config: Config
    compute: blocks.Compute
    number: int
    train: bool = False

    @nn.compact
    def __call__(self, x_BxTxD: Float[Array, "B T D"], where: attention.Layout) -> Float[Array, "B T D"]:
        c, s = self.config, self.compute
        y = blocks.norm(c.norm_eps, "attention_norm", bias=c.norm_bias)(x_BxTxD) if self.number else x_BxTxD
        full = c.layer_types[self.number] == FULL
        y = Attention(c, s, full, self.train, name="attention")(y, where)
        x_BxTxD = x_BxTxD + y.astype(jnp.float32)
        y = blocks.norm(c.norm_eps, "norm", bias=c.norm_bias)(x_BxTxD)
        wide, gate = jnp.split(blocks.dense(s, 2 * c.intermediate_size, "widen", bias=c.mlp_bias)(y), 2, axis=-1)
        y = nn.Dropout(c.mlp_dropout, deterministic=not self.train)(blocks.activated(wide) * gate)
        return x_BxTxD + blocks.dense(s, c.hidden_size, "narrow", bias=c.mlp_bias)(y).astype(jnp.float32)


class Encoder(blocks.Encoder):
    """The encoder; see `blocks.Encoder`. Type ids are not looked at."""

    def encode(self, ids: Array, types: Array, where: attention.Layout, *, texts: int, train: bool) -> Array:
        c, s = self.config, self.compute
        word = self.param("word", nn.initializers.normal(0.02), (c.vocab_size, c.hidden_size))
        x_BxTxD = blocks.norm(c.norm_eps, "embedding_norm", bias=c.norm_bias)(blocks.looked_up(jnp.asarray(word), ids))
        x_BxTxD = nn.Dropout(c.embedding_dropout, deterministic=not train)(x_BxTxD)
        kind = blocks.layer(Layer, s)
        for i in range(c.num_hidden_layers):
            x_BxTxD = kind(c, s, i, train, name=f"layer_{i}")(x_BxTxD, where)
        return blocks.norm(c.norm_eps, "norm", bias=c.norm_bias)(x_BxTxD)


def rotated(x: Float[Array, "B H T h"], positions: Int[Array, "B T"], theta: float) -> Float[Array, "B H T h"]:
    """Each pair (x_i, x_{i + h/2}) turned by position * theta^(-2i/h)."""
    half = x.shape[-1] // 2
    rates = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[:, None, :, None].astype(jnp.float32) * rates[None, None, None, :]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def tensors(c: Config) -> dict[str, bases.Tensor]:
    """The tensors of `model.safetensors`."""
    d = c.hidden_size
    table = {
        "embeddings.tok_embeddings.weight": bases.Tensor(place="word", shape=(c.vocab_size, d)),
        **bases.layer_norm("embeddings.norm", "embedding_norm", d, bias=c.norm_bias),
        **bases.layer_norm("final_norm", "norm", d, bias=c.norm_bias),
    }
    for i in range(c.num_hidden_layers):
        name, place = f"layers.{i}", f"layer_{i}"
        if i:
            table |= bases.layer_norm(f"{name}.attn_norm", f"{place}.attention_norm", d, bias=c.norm_bias)
        table |= bases.linear(f"{name}.attn.Wqkv", f"{place}.attention.qkv", 3 * d, d, bias=c.attention_bias)
        table |= bases.linear(f"{name}.attn.Wo", f"{place}.attention.out", d, d, bias=c.attention_bias)
        table |= bases.layer_norm(f"{name}.mlp_norm", f"{place}.norm", d, bias=c.norm_bias)
        table |= bases.linear(f"{name}.mlp.Wi", f"{place}.widen", 2 * c.intermediate_size, d, bias=c.mlp_bias)
        table |= bases.linear(f"{name}.mlp.Wo", f"{place}.narrow", d, c.intermediate_size, bias=c.mlp_bias)
    return table
