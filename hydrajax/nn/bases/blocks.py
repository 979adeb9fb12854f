"""What the base encoders share: attention in three forms, the feed-forward part, the post-normalised layer.

Parameters are float32 whatever the products are computed in; softmax and norms are float32.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from hydrajax.types import DataError

Attention = Literal["auto", "batched", "fused"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How a base computes; none of it changes its parameters.

    Attributes:
      dtype: of products: `float32`, or `bfloat16`, which accelerators are twice as fast in and CPUs are not.
      remat: layers are computed again in the backward pass, in place of keeping what is between them.
      attention: `batched` products; `fused`, `jax.nn.dot_product_attention`; `auto`: fused on GPU and TPU.
    """

    dtype: str = "float32"
    remat: bool = False
    attention: Attention = "auto"

    def __post_init__(self):
        valid = {"dtype": ("float32", "bfloat16"), "attention": ("auto", "batched", "fused")}
        for name, choices in valid.items():
            if getattr(self, name) not in choices:
                raise DataError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(choices)}")

    @property
    def fused(self) -> bool:
        """Whether attention is one operation of the backend."""
        return self.attention == "fused" or (self.attention == "auto" and jax.default_backend() in ("gpu", "tpu"))


USUAL = Settings()
LOGIT_BYTES = 5 * 2**19  # of attention's logits that are computed at once on a CPU


@flax.struct.dataclass
class Layout:
    """Where tokens stand.

    Attributes:
      mask: bool [B, T], true = a real token.
      positions: int32 [B, T], counted from 0 in every text.
      segments: int32 [B, T], the text's number in its row where several are packed into one, 0 = padding; None: one
        text a row.
      leads: int32 [B, G], where tokens of global attention stand, T = nowhere; None: there are none.
    """

    mask: Any
    positions: Any
    segments: Any = None
    leads: Any = None


def layout(mask: Bool[Array, "B T"], positions: Int[Array, "B T"] | None, segments: Int[Array, "B T"] | None) -> Layout:
    """A layout; without positions tokens are counted from the row's beginning."""
    if positions is None:
        positions = jnp.broadcast_to(jnp.arange(mask.shape[1], dtype=jnp.int32)[None], mask.shape)
    return Layout(mask=mask, positions=positions, segments=segments)


def heads_of(x: Float[Array, "B T _"], parts: int, num_heads: int) -> tuple[Float[Array, "B H T h"], ...]:
    """A fused product cut into its parts, [B, H, T, h] each."""
    b, t, width = x.shape
    split = x.reshape(b, t, parts, num_heads, width // (parts * num_heads)).transpose(2, 0, 3, 1, 4)
    return tuple(split[i] for i in range(parts))


def joined(x: Float[Array, "B H T h"]) -> Float[Array, "B T D"]:
    """All heads side by side again."""
    b, h, t, d = x.shape
    return x.transpose(0, 2, 1, 3).reshape(b, t, h * d)


Drop = Callable[[Array], Array]


def attend(
    q: Float[Array, "B H T h"],
    k: Float[Array, "B H T h"],
    v: Float[Array, "B H T h"],
    where: Layout,
    *,
    bias: Float[Array, "B H T T"] | Float[Array, "1 H T T"] | None = None,
    window: int | None = None,
    drop: Drop | None = None,
    fused: bool = False,
) -> Float[Array, "B H T h"]:
    """softmax(q k' / sqrt(h) + bias) v over the tokens that a token may see.

    Args:
      q, k, v: queries, keys and values; k and v of padding are not looked at.
      where: who is real, and of which text.
      bias: added to the logits.
      window: a token sees those at most this far away, and those of global attention; None: all.
      drop: dropout of the weights.
      fused: one operation of the backend; see `Settings`.

    Returns:
      [B, H, T, h]; zeros for a token that sees nobody.
    """
    keep = visible(where, where, window=window)
    if fused and drop is None:
        q, k, v = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
        full = jnp.broadcast_to(keep, (q.shape[0], 1, q.shape[1], q.shape[1]))
        out = jax.nn.dot_product_attention(q, k, v, bias=bias, mask=full)
        sees = jnp.any(full, axis=-1)[..., None]
        return jnp.where(sees, out.transpose(0, 2, 1, 3), jnp.zeros((), out.dtype))
    added = jnp.zeros((1, 1, 1, 1), jnp.float32) if bias is None else bias.astype(jnp.float32)

    def some(q: Array, k: Array, v: Array, added: Array, keep: Array) -> Array:
        logits = _scores(q, k)
        (weights,), total = _softmax([(logits if bias is None else logits + added, keep)], drop)
        return _weighted(weights, v, total)

    size = _heads_at_once(q, 4 * q.shape[2] ** 2)
    if size == 0 or drop is not None:
        return some(q, k, v, added, keep)
    b, h, t, d = q.shape

    def cut(x: Array) -> Array:
        """Every head of every text, in groups: [groups, size, 1, ...]; what is alike for all is not repeated."""
        if x.shape[:2] == (1, 1):
            return jnp.broadcast_to(x[None], (b * h // size, *x.shape))
        full = jnp.broadcast_to(x, (b, h, *x.shape[2:]))
        return full.reshape(b * h // size, size, 1, *x.shape[2:])

    groups = tuple(map(cut, (q, k, v, added, keep)))
    # Computed again in the backward pass: cheaper than writing and reading the weights of all heads.
    out = jax.lax.map(jax.checkpoint(lambda group: some(*group)), groups)
    return out.reshape(b, h, t, d)


def attend_nearby(
    q: Float[Array, "B H T h"],
    k: Float[Array, "B H T h"],
    v: Float[Array, "B H T h"],
    where: Layout,
    *,
    window: int,
    drop: Drop | None = None,
) -> Float[Array, "B H T h"]:
    """`attend` with a window, in memory linear in T: blocks of `window` tokens, each with the block on either side.

    Tokens of global attention (`where.leads`) are seen from everywhere in their text, and not twice. What they see
    themselves is not computed here. Beltagy et al. (arXiv 2004.05150), section 3.

    Args:
      q, k, v, where, drop: as in `attend`.
      window: tokens on each side.
    """
    b, h, t, d = q.shape
    size = _heads_at_once(q, 12 * window**2)
    if size == 0 or drop is not None:
        return _nearby(q, k, v, where, window, drop)

    def cut(x: Array) -> Array:
        return x.reshape(b * h // size, size, 1, t, d)

    rows = jax.tree.map(lambda x: jnp.repeat(x, h, axis=0).reshape(-1, size, *x.shape[1:]), where)

    def some(group: tuple[Array, Array, Array, Layout]) -> Array:
        q, k, v, where = group
        return _nearby(q, k, v, where, window, None)

    out = jax.lax.map(some, (cut(q), cut(k), cut(v), rows))
    return out.reshape(b, h, t, d)


def _nearby(q: Array, k: Array, v: Array, where: Layout, window: int, drop: Drop | None) -> Array:
    b, h, t, d = q.shape
    blocks = -(-t // window)
    pad = blocks * window - t
    segments = where.mask.astype(jnp.int32) if where.segments is None else where.segments
    near = segments
    leads = where.leads
    if leads is not None:
        near = jnp.where(_is_lead(where), 0, segments)  # seen by its own column alone
        lead_k, lead_v = (_at(x, leads) for x in (k, v))
        lead_segments = _segments_at(segments, leads)

    def beside(x: Array, axis: int) -> Array:
        """[..., blocks, 3 window, ...], blocks first."""
        widths = [(0, 0)] * x.ndim
        widths[axis] = (window, pad + window)
        x = jnp.pad(x, widths)
        cut = [jax.lax.slice_in_dim(x, i * window, (i + blocks) * window, axis=axis) for i in range(3)]
        shape = (*x.shape[:axis], blocks, window, *x.shape[axis + 1 :])
        return jnp.moveaxis(jnp.concatenate([one.reshape(shape) for one in cut], axis=axis + 1), axis, 0)

    def own(x: Array, axis: int) -> Array:
        """[..., blocks, window, ...], blocks first."""
        widths = [(0, 0)] * x.ndim
        widths[axis] = (0, pad)
        x = jnp.pad(x, widths)
        return jnp.moveaxis(x.reshape(*x.shape[:axis], blocks, window, *x.shape[axis + 1 :]), axis, 0)

    offsets = jnp.arange(3 * window)[None, :] - jnp.arange(window)[:, None] - window
    band = jnp.abs(offsets) <= window

    def block(part: tuple[Array, ...]) -> Array:
        q, k, v, mine, theirs = part
        same = (mine[:, :, None] == theirs[:, None, :]) & (theirs[:, None, :] > 0)
        parts = [(_scores(q, k), (same & band[None])[:, None])]
        if leads is not None:
            seen = (mine[:, :, None] == lead_segments[:, None, :]) & (lead_segments[:, None, :] > 0)
            parts.append((_scores(q, lead_k), seen[:, None]))
        weights, total = _softmax(parts, drop)
        out = _weighted(weights[0], v, total)
        return out if leads is None else out + _weighted(weights[1], lead_v, total)

    divided = (own(q, 2), beside(k, 2), beside(v, 2), own(segments, 1), beside(near, 1))
    # One block after another on a CPU, where its logits then stay in the cache; computed again in the backward pass,
    # which would otherwise keep the logits of all of them.
    if jax.default_backend() == "cpu" and drop is None:
        out = jax.lax.map(jax.checkpoint(block), divided)
    else:
        out = jax.vmap(block)(divided)
    return jnp.moveaxis(out, 0, 2).reshape(b, h, blocks * window, d)[:, :, :t]


def attend_from(
    q: Float[Array, "B H G h"],
    k: Float[Array, "B H T h"],
    v: Float[Array, "B H T h"],
    where: Layout,
    *,
    drop: Drop | None = None,
) -> Float[Array, "B H G h"]:
    """What the tokens of global attention see: all of their text."""
    segments = where.mask.astype(jnp.int32) if where.segments is None else where.segments
    mine = _segments_at(segments, where.leads)
    keep = (mine[:, :, None] == segments[:, None, :]) & (segments[:, None, :] > 0)
    (weights,), total = _softmax([(_scores(q, k), keep[:, None])], drop)
    return _weighted(weights, v, total)


def _heads_at_once(q: Float[Array, "B H T h"], logits: int) -> int:
    """Heads, of all texts, whose logits fit into a processor's cache together; 0: all at once, no groups.

    Args:
      q: queries.
      logits: bytes of a head's, of one block where there are blocks.

    Measured on 2 cores (L2 of 1 MB each), ms for 4,096 tokens in 12 heads of 32, all at once and in groups: 73 and 26
    at 128 tokens a text, 168 and 45 at 256, 350 and 86 at 512.
    """
    b, h, _, _ = q.shape
    if jax.default_backend() != "cpu" or b * h * logits <= 2 * LOGIT_BYTES:
        return 0
    most = max(1, LOGIT_BYTES // logits)
    return max(size for size in range(1, min(most, b * h) + 1) if b * h % size == 0)


def visible(rows: Layout, columns: Layout, *, window: int | None = None) -> Bool[Array, "B 1 _ T"]:
    """Which column each row may see; [B, 1, 1, T] where all rows see the same."""
    if columns.segments is None:
        keep = columns.mask[:, None, None, :]
    else:
        same = rows.segments[:, :, None] == columns.segments[:, None, :]
        keep = (same & (columns.segments[:, None, :] > 0))[:, None]
    if window is None:
        return keep
    place = jnp.arange(columns.mask.shape[1], dtype=jnp.int32)
    near = (jnp.abs(jnp.arange(rows.mask.shape[1])[:, None] - place[None, :]) <= window)[None]
    if columns.leads is not None:
        near = near | _is_lead(columns)[:, None, :]
    return keep & near[:, None]


def _is_lead(where: Layout) -> Bool[Array, "B T"]:
    place = jnp.arange(where.mask.shape[1], dtype=jnp.int32)
    return jnp.any(where.leads[:, :, None] == place[None, None, :], axis=1)


def _scores(q: Array, k: Array) -> Float[Array, "B H Q K"]:
    """q k' / sqrt(h), float32, as one batched product over [B*H, T, h].

    On a CPU three times as fast as an einsum over [B, T, H, h].
    """
    b, h, t, d = q.shape
    flat_q, flat_k = q.reshape(b * h, t, d) * jnp.asarray(d**-0.5, q.dtype), k.reshape(b * h, k.shape[2], d)
    return jnp.matmul(flat_q, flat_k.swapaxes(1, 2)).astype(jnp.float32).reshape(b, h, t, k.shape[2])


def _softmax(parts: list[tuple[Array, Array]], drop: Drop | None) -> tuple[list[Array], Float[Array, "B H Q 1"]]:
    """exp(logits - max) of parts that share one softmax, and their sum, by which the result is divided at the end.

    A division of the weights would touch T numbers where that of the result touches h.
    """
    masked = [jnp.where(keep, logits, -jnp.inf) for logits, keep in parts]
    floor = jnp.finfo(jnp.float32).min
    top = functools.reduce(jnp.maximum, [jnp.max(x, axis=-1, keepdims=True, initial=floor) for x in masked])
    weights = [jnp.exp(x - jax.lax.stop_gradient(top)) for x in masked]
    total = functools.reduce(jnp.add, [jnp.sum(w, axis=-1, keepdims=True) for w in weights])
    if drop is not None:
        weights = [drop(w) for w in weights]
    return weights, jnp.where(total > 0, total, 1.0)


def _weighted(weights: Array, v: Array, total: Array) -> Array:
    b, h, q, t = weights.shape
    flat = weights.astype(v.dtype).reshape(b * h, q, t)
    out = jnp.matmul(flat, v.reshape(b * h, t, v.shape[3]))
    return out.reshape(b, h, q, v.shape[3]) / total.astype(v.dtype)


def _at(x: Float[Array, "B H T h"], places: Int[Array, "B G"]) -> Float[Array, "B H G h"]:
    """Rows of every head at these places; zeros at T."""
    return jax.vmap(lambda one, at: one.at[:, at].get(mode="fill", fill_value=0))(x, places)


def _segments_at(segments: Int[Array, "B T"], places: Int[Array, "B G"]) -> Int[Array, "B G"]:
    return jax.vmap(lambda one, at: one.at[at].get(mode="fill", fill_value=0))(segments, places)


def dense(settings: Settings, width: int, name: str, *, bias: bool = True) -> nn.Dense:
    """A linear layer, computed in the settings' type."""
    init = nn.initializers.normal(0.02)
    return nn.Dense(width, use_bias=bias, kernel_init=init, dtype=jnp.dtype(settings.dtype), name=name)


def norm(eps: float, name: str, *, bias: bool = True) -> nn.LayerNorm:
    """A layer norm, float32; its variance in two passes, as PyTorch computes it."""
    return nn.LayerNorm(epsilon=eps, use_bias=bias, dtype=jnp.float32, use_fast_variance=False, name=name)


def dropped(module: nn.Module, rate: float, *, train: bool) -> Drop | None:
    """Dropout of a module's `dropout` key; None where nothing is dropped."""
    if not train or rate <= 0.0:
        return None
    key = module.make_rng("dropout")

    def drop(x: Array) -> Array:
        keep = jax.random.bernoulli(key, 1.0 - rate, x.shape)
        return jnp.where(keep, x / (1.0 - rate), jnp.zeros((), x.dtype))

    return drop


class SelfAttention(nn.Module):
    """Every token sees every other of its text: q, k and v in one product.

    Attributes:
      num_heads: H.
      settings: how.
      rate: of dropout of the weights.
      train: dropout is on.
    """

    num_heads: int
    settings: Settings
    rate: float = 0.0
    train: bool = False

    @nn.compact
    def __call__(
        self, x_BxTxD: Float[Array, "B T D"], where: Layout, bias: Float[Array, "1 H T T"] | None = None
    ) -> Float[Array, "B T D"]:
        d = x_BxTxD.shape[-1]
        q, k, v = heads_of(dense(self.settings, 3 * d, "qkv")(x_BxTxD), 3, self.num_heads)
        drop = dropped(self, self.rate, train=self.train)
        out = attend(q, k, v, where, bias=bias, drop=drop, fused=self.settings.fused)
        return dense(self.settings, d, "out")(joined(out))


class PostNorm(nn.Module):
    """One layer of BERT and its relatives, x [B, T, D]:

        x = LayerNorm(x + attention(x)),    x = LayerNorm(x + W2 gelu(W1 x))

    Devlin et al. (NAACL 2019, arXiv 1810.04805); gelu is the exact one.

    Attributes:
      attention: makes the attention, a module called as `attention(name=...)(x, where, ...)`.
      width: of W1 x.
      eps: of the norms.
      rate: of dropout after both parts.
      settings: how.
      train: dropout is on.
    """

    attention: Callable[..., nn.Module]
    width: int
    eps: float
    rate: float
    settings: Settings
    train: bool = False

    @nn.compact
    def __call__(self, x_BxTxD: Float[Array, "B T D"], *context: Any) -> Float[Array, "B T D"]:
        drop = nn.Dropout(self.rate, deterministic=not self.train)
        y = self.attention(name="attention")(x_BxTxD, *context)
        x_BxTxD = norm(self.eps, "attention_norm")(x_BxTxD + drop(y).astype(jnp.float32))
        y = nn.gelu(dense(self.settings, self.width, "widen")(x_BxTxD), approximate=False)
        y = dense(self.settings, x_BxTxD.shape[-1], "narrow")(y)
        return norm(self.eps, "norm")(x_BxTxD + drop(y).astype(jnp.float32))


def layer(kind: type[nn.Module], settings: Settings) -> Callable[..., nn.Module]:
    """The class of a layer; with `remat` one that keeps nothing but its input for the backward pass."""
    # The one lifted transform: it leaves the tree of parameters as it is.
    return nn.remat(kind) if settings.remat else kind
