"""MPNet: BERT's layers without type ids, with a bias by distance that all layers share.

    logits[i, j] = q_i k_j / sqrt(h) + bias[bucket(i - j)]

Song et al. (NeurIPS 2020, arXiv 2004.09297); buckets as in T5 (Raffel et al., JMLR 2020), section 2.1: half of them
for each side, of which half are exact and half logarithmic up to a distance of 128.
"""

import dataclasses
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
class Config(blocks.PostNormShape):
    """The shape of the encoder; see `blocks.PostNormShape`.

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
        c, s = self.config, self.compute
        x_BxTxD = bert.embedded(self, c, ids, None, where, train=train)
        shape = (c.relative_attention_num_buckets, c.num_attention_heads)
        by_bucket = self.param("distance", nn.initializers.normal(0.02), shape)
        # In a packed row distances are those of the row: within a text they are the same.
        bias = jnp.asarray(by_bucket)[buckets(ids.shape[1], c.relative_attention_num_buckets)].transpose(2, 0, 1)[None]
        return bert.layers(c, s, x_BxTxD, where, bias, train=train)


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
    shape = (c.relative_attention_num_buckets, c.num_attention_heads)
    distance = bases.Tensor(place="distance", shape=shape)
    parts = bert.shared_tensors(c, "attn.q", "attn.k", "attn.v", "attn.o", "LayerNorm")
    return {**parts, "encoder.relative_attention_bias.weight": distance}
