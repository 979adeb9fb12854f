"""Longformer, the base of HYDRA: BERT's layers with attention to what is near, and to the first token of each text.

    a token sees the w tokens on each side of it, and the tokens of global attention
    a token of global attention sees all of its text, through queries, keys and values of its own

Beltagy et al. (arXiv 2004.05150), sections 3.1 and 3.2. Time and memory are linear in the length of the text: see
`attention.attend_nearby`. A text that is not longer than three windows is computed densely, which is the smaller form
then; nothing is padded to the window.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hydrajax.nn import bases
from hydrajax.nn.bases import attention, bert, blocks, roberta
from hydrajax.types import DataError

MODEL_TYPES = ("longformer",)
PREFIXES = ("longformer.",)
GLOBALS = ("first", "none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(roberta.Config):
    """The shape of the encoder; see `roberta.Config`.

    Attributes:
      attention_window: tokens that a token sees, both sides together, of each layer.
      global_attention: `first`: the first token of every text has global attention, as in the classifiers; `none`:
        no token has, which is what the bare encoder of transformers does.
    """

    attention_window: tuple[int, ...]
    global_attention: str = "first"


def read_config(raw: Mapping[str, Any]) -> Config:
    """The shape from `config.json`.

    Raises:
      DataError: an entry is missing, or asks for what is not done here.
    """
    bases.expect(raw, hidden_act=("gelu",), position_embedding_type=("absolute", None), global_attention=GLOBALS)
    shape = bases.fields(raw, Config, layer_norm_eps=1e-12)
    layers, window = shape["num_hidden_layers"], raw.get("attention_window", 512)
    windows = tuple(window) if isinstance(window, list) else (window,) * layers
    if len(windows) != layers or not all(type(w) is int and w > 0 and w % 2 == 0 for w in windows):
        raise DataError(f"attention_window is {window!r:.80}, expected an even number for each of the {layers} layers")
    return Config(**shape, attention_window=windows, global_attention=raw.get("global_attention", GLOBALS[0]))


class WindowAttention(nn.Module):
    """Attention to what is near, and to and from the tokens of global attention.

    Attributes:
      num_heads: H.
      window: w, tokens on each side.
      rate: of dropout of the weights.
      train: dropout is on.
    """

    num_heads: int
    window: int
    compute: blocks.Compute
    rate: float = 0.0
    train: bool = False

    @nn.compact
    def __call__(self, x_BxTxD: Float[Array, "B T D"], where: attention.Layout) -> Float[Array, "B T D"]:
        d, s = x_BxTxD.shape[-1], self.compute
        q, k, v = attention.heads_of(blocks.dense(s, 3 * d, "qkv")(x_BxTxD), 3, self.num_heads)
        drop, lead_drop = (blocks.dropped(self, self.rate, train=self.train) for _ in range(2))
        out = attention.attend_within(q, k, v, where, window=self.window, drop=drop, fused=s.fused)
        # Made also where no token is global, so that the tree does not depend on it.
        from_lead = blocks.dense(s, d, "global_query")
        of_all = blocks.dense(s, 2 * d, "global_key_value")
        if where.leads is not None or self.is_initializing():
            leads = jnp.zeros((x_BxTxD.shape[0], 1), jnp.int32) if where.leads is None else where.leads
            (lead_q,) = attention.heads_of(from_lead(attention.rows_at(x_BxTxD, leads)), 1, self.num_heads)
            k, v = attention.heads_of(of_all(x_BxTxD), 2, self.num_heads)
            lead = attention.attend_from(lead_q, k, v, dataclasses.replace(where, leads=leads), drop=lead_drop)
            put = jax.vmap(lambda heads, places, new: heads.at[:, places].set(new, mode="drop"))
            out = put(out, leads, lead.astype(out.dtype))
        return blocks.dense(s, d, "out")(attention.joined(out))


class Encoder(blocks.Encoder):
    """The encoder; see `blocks.Encoder`."""

    def encode(self, ids: Array, types: Array, where: attention.Layout, *, texts: int, train: bool) -> Array:
        c, s = self.config, self.compute
        if c.global_attention == "first":
            where = dataclasses.replace(where, leads=first_tokens(where, texts))
        x_BxTxD = bert.embedded(self, c, ids, types, where, train=train)
        attending = [
            functools.partial(
                WindowAttention, c.num_attention_heads, window // 2, s, c.attention_probs_dropout_prob, train
            )
            for window in c.attention_window
        ]
        return bert.layers(c, s, x_BxTxD, where, train=train, attending=attending)


def first_tokens(where: attention.Layout, texts: int) -> Int[Array, "B G"]:
    """Where the first token of each text stands; T where a row has fewer texts."""
    t = where.mask.shape[1]
    first = where.mask & (where.counted() == 0)
    places = jnp.where(first, jnp.arange(t, dtype=jnp.int32)[None], t)
    return jnp.sort(places, axis=1)[:, :texts]


def tensors(c: Config) -> dict[str, bases.Tensor]:
    """The tensors of `model.safetensors`."""
    d = c.hidden_size
    table = dict(bert.tensors(c))
    for i in range(c.num_hidden_layers):
        name, place = f"encoder.layer.{i}.attention.self", f"layer_{i}.attention"
        table |= bases.linear(f"{name}.query_global", f"{place}.global_query", d, d)
        for part in ("key", "value"):
            table |= bases.linear(f"{name}.{part}_global", f"{place}.global_key_value", d, d)
    return table
