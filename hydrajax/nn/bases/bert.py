"""BERT: Devlin et al. (NAACL 2019, arXiv 1810.04805). MiniLM, BGE and E5 have its shape.

x_0 = LayerNorm(word[id] + position[t] + type[type id]),    then layers of `blocks.PostNorm`
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from hydrajax.nn import bases
from hydrajax.nn.bases import attention, blocks

MODEL_TYPES = ("bert",)
PREFIXES = ("bert.",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(blocks.PostNormShape):
    """The shape of the encoder; see `blocks.PostNormShape`."""

    type_vocab_size: int

    @property
    def types(self) -> int:
        return self.type_vocab_size


def read_config(raw: Mapping[str, Any], kind: type[Config] = Config) -> Config:
    """The shape from `config.json`.

    Args:
      raw: what the file holds.
      kind: of an architecture that has the same entries.

    Raises:
      DataError: an entry is missing, or asks for what is not done here.
    """
    bases.expect(raw, hidden_act=("gelu",), position_embedding_type=("absolute", None), is_decoder=(False, None))
    return kind(**bases.fields(raw, kind, layer_norm_eps=1e-12))


class Encoder(blocks.Encoder):
    """The encoder; see `blocks.Encoder`."""

    def encode(self, ids: Array, types: Array, where: attention.Layout, *, texts: int, train: bool) -> Array:
        c, s = self.config, self.compute
        x_BxTxD = embedded(self, c, ids, types, where, train=train)
        return layers(c, s, x_BxTxD, where, train=train)


def embedded(
    module: nn.Module, c: Any, ids: Array, types: Array | None, where: attention.Layout, *, train: bool
) -> Array:
    """x_0; without type ids where the architecture has none."""
    init = nn.initializers.normal(0.02)
    word = module.param("word", init, (c.vocab_size, c.hidden_size))
    position = module.param("position", init, (c.max_position_embeddings, c.hidden_size))
    x_BxTxD = blocks.looked_up(jnp.asarray(word), ids)
    if where.positions is None:  # the same rows for all texts: to add them up costs a scatter in the backward pass
        rows = jnp.asarray(position)[c.first_position : c.first_position + ids.shape[1]]
        x_BxTxD = x_BxTxD + rows[None]
    else:
        x_BxTxD = x_BxTxD + blocks.looked_up(jnp.asarray(position), where.positions + c.first_position)
    if types is not None:
        kinds = module.param("type", init, (c.type_vocab_size, c.hidden_size))
        x_BxTxD = x_BxTxD + jnp.matmul(jax.nn.one_hot(types, c.type_vocab_size, dtype=jnp.float32), kinds)
    x_BxTxD = blocks.norm(c.layer_norm_eps, "norm")(jnp.asarray(x_BxTxD, jnp.float32))
    return nn.Dropout(c.hidden_dropout_prob, deterministic=not train)(x_BxTxD)


def layers(
    c: Any,
    s: blocks.Compute,
    x_BxTxD: Array,
    *where: Any,
    train: bool,
    attending: Sequence[Callable[..., nn.Module]] | None = None,
) -> Array:
    """All layers, each with an attention that is made so; `where` is what it is called with besides x."""
    full = functools.partial(blocks.SelfAttention, c.num_attention_heads, s, c.attention_probs_dropout_prob, train)
    kind = blocks.layer(blocks.PostNorm, s)
    for i, made in enumerate(attending or [full] * c.num_hidden_layers):
        layer = kind(made, c.intermediate_size, c.layer_norm_eps, c.hidden_dropout_prob, s, train, name=f"layer_{i}")
        x_BxTxD = layer(x_BxTxD, *where)
    return x_BxTxD


def tensors(c: Config) -> dict[str, bases.Tensor]:
    """The tensors of `model.safetensors`."""
    kinds = bases.Tensor(place="type", shape=(c.type_vocab_size, c.hidden_size))
    parts = ("self.query", "self.key", "self.value", "output.dense", "output.LayerNorm")
    return {**shared_tensors(c, *parts), "embeddings.token_type_embeddings.weight": kinds}


def shared_tensors(
    c: blocks.PostNormShape, query: str, key: str, value: str, out: str, norm: str
) -> dict[str, bases.Tensor]:
    """The tensors of all of BERT's relatives, which name the parts of their attention each in their own way."""
    d, wide = c.hidden_size, c.intermediate_size
    table = {
        "embeddings.word_embeddings.weight": bases.Tensor(place="word", shape=(c.vocab_size, d)),
        "embeddings.position_embeddings.weight": bases.Tensor(place="position", shape=(c.max_position_embeddings, d)),
        **bases.layer_norm("embeddings.LayerNorm", "norm", d),
    }
    for i in range(c.num_hidden_layers):
        name, place = f"encoder.layer.{i}", f"layer_{i}"
        for part in (query, key, value):
            table |= bases.linear(f"{name}.attention.{part}", f"{place}.attention.qkv", d, d)
        table |= bases.linear(f"{name}.attention.{out}", f"{place}.attention.out", d, d)
        table |= bases.layer_norm(f"{name}.attention.{norm}", f"{place}.attention_norm", d)
        table |= bases.linear(f"{name}.intermediate.dense", f"{place}.widen", wide, d)
        table |= bases.linear(f"{name}.output.dense", f"{place}.narrow", d, wide)
        table |= bases.layer_norm(f"{name}.output.LayerNorm", f"{place}.norm", d)
    return table
