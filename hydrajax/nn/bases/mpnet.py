"""MPNet: BERT's layers without type ids, with a bias by distance that all layers share.

    logits[i, j] = q_i k_j / sqrt(h) + bias[bucket(i - j)]

Song et al. (NeurIPS 2020, arXiv 2004.09297); buckets as in T5 (Raffel et al., JMLR 2020), section 2.1: half of them
for each side, of which half are exact and half logarithmic up to a distance of 128.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from hydrajax.nn import bases
from hydrajax.nn.bases import attention, bert, blocks
from hydrajax.types import DataError

MODEL_TYPES = ("mpnet",)
PREFIXES = ("mpnet.",)
FARTHEST = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(blocks.Shape):
    """The shape of the encoder; see `blocks.Shape`.

    Attributes:
      relative_attention_num_buckets: of distances.
    """

    relative_attention_num_buckets: int = 32

    @property
    def first_position(self) -> int:
        return 2  # behind the padding, whose id is 1


def read_config(raw: Mapping[str, Any]) -> Config:
    """The shape from `config.json`.

    Raises:
      DataError: an entry is missing, or asks for what is not done here.
    """
    bases.expect(raw, hidden_act=("gelu",))
    config = Config(**bases.fields(raw, Config, layer_norm_eps=1e-12))
    if config.max_tokens < 1:
        least = config.first_position + 1
        raise DataError(f"max_position_embeddings is {config.max_position_embeddings}, expected {least} or more")
    return config


class Encoder(blocks.Encoder):
    """The encoder; see `blocks.Encoder`. Type ids are not looked at."""

    def encode(self, ids: Array, types: Array, where: attention.Layout, *, texts: int, train: bool) -> Array:
        c, s = self.config, self.settings
        x_BxTxD = bert.embedded(self, c, ids, None, where, train=train)
        shape = (c.relative_attention_num_buckets, c.num_attention_heads)
        by_bucket = self.param("distance", nn.initializers.normal(0.02), shape)
        # In a packed row distances are those of the row: within a text they are the same.
        bias = jnp.asarray(by_bucket)[buckets(ids.shape[1], c.relative_attention_num_buckets)].transpose(2, 0, 1)[None]
        attending = functools.partial(
            blocks.SelfAttention, c.num_attention_heads, s, c.attention_probs_dropout_prob, train
        )
        for i in range(c.num_hidden_layers):
            x_BxTxD = bert.post_norm(c, s, attending, i, train=train)(x_BxTxD, where, bias)
        return x_BxTxD


def buckets(length: int, count: int) -> Int[np.ndarray, "T T"]:
    """The bucket of every distance i - j, [i, j]."""
    half = count // 2
    exact = half // 2
    away = np.arange(length)[:, None] - np.arange(length)[None, :]
    far = np.maximum(np.abs(away), 1).astype(np.float32)
    scale = np.float32(math.log(FARTHEST / exact))
    steps = exact + (np.log(far / np.float32(exact)) / scale * np.float32(half - exact)).astype(np.int64)
    steps = np.where(np.abs(away) < exact, np.abs(away), np.minimum(steps, half - 1))
    return (steps + np.where(away < 0, half, 0)).astype(np.int32)


def tensors(c: Config) -> dict[str, bases.Tensor]:
    """The tensors of `model.safetensors`."""
    d = c.hidden_size
    shape = (c.relative_attention_num_buckets, c.num_attention_heads)
    found = {
        "embeddings.word_embeddings.weight": bases.Tensor(place="word", shape=(c.vocab_size, d)),
        "embeddings.position_embeddings.weight": bases.Tensor(place="position", shape=(c.max_position_embeddings, d)),
        **bases.layer_norm("embeddings.LayerNorm", "norm", d),
        "encoder.relative_attention_bias.weight": bases.Tensor(place="distance", shape=shape),
    }
    for i in range(c.num_hidden_layers):
        name, place = f"encoder.layer.{i}", f"layer_{i}"
        for part in ("q", "k", "v"):
            found |= bases.linear(f"{name}.attention.attn.{part}", f"{place}.attention.qkv", d, d)
        found |= bases.linear(f"{name}.attention.attn.o", f"{place}.attention.out", d, d)
        found |= bases.layer_norm(f"{name}.attention.LayerNorm", f"{place}.attention_norm", d)
        found |= bert.feed_forward(name, place, d, c.intermediate_size)
    return found
