"""Attention in three forms: at once, in groups of heads, and to what is near in blocks.

Softmax is float32 whatever the products are computed in.
"""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from hydrajax.nn import draws

LOGIT_BYTES = 5 * 2**19  # of logits that are computed at once on a CPU


@flax.struct.dataclass
class Layout:
    """Where tokens stand.

    Attributes:
      mask: bool [B, T], true = a real token.
      positions: int32 [B, T], counted from 0 in every text; None: from the row's beginning.
      segments: int32 [B, T], the text's number in its row where several are packed into one, 0 = padding; None: one
        text a row.
      leads: int32 [B, G], where tokens of global attention stand, T = nowhere; None: there are none.
    """

    mask: Any
    positions: Any = None
    segments: Any = None
    leads: Any = None

    def counted(self) -> Int[Array, "B T"]:
        """The positions, also where they are not given."""
        if self.positions is not None:
            return self.positions
        return jnp.broadcast_to(jnp.arange(self.mask.shape[1], dtype=jnp.int32)[None], self.mask.shape)

    def numbered(self) -> Int[Array, "B T"]:
        """The segments, also where they are not given: 1 for a row's one text."""
        return self.mask.astype(jnp.int32) if self.segments is None else self.segments


def heads_of(x: Float[Array, "B T _"], parts: int, num_heads: int) -> tuple[Float[Array, "B H T h"], ...]:
    """A fused product cut into its parts, [B, H, T, h] each."""
    b, t, width = x.shape
    split = x.reshape(b, t, parts, num_heads, width // (parts * num_heads)).transpose(2, 0, 3, 1, 4)
    return tuple(split[i] for i in range(parts))


def joined(x: Float[Array, "B H T h"]) -> Float[Array, "B T D"]:
    """All heads side by side again."""
    b, h, t, d = x.shape
    return x.transpose(0, 2, 1, 3).reshape(b, t, h * d)


@flax.struct.dataclass
class Dropout:
    """Dropout of attention's weights: a typed key, or several, and the rate."""

    key: Any
    rate: float = flax.struct.field(pytree_node=False)

    def __call__(self, weights: Array) -> Array:
        keep = draws.kept(self.key, weights.size, self.rate)
        return weights if keep is None else draws.drop(weights, keep.reshape(weights.shape), self.rate)

    def split(self, count: int) -> "Dropout":
        """One for each of so many parts."""
        return Dropout(key=jax.random.split(self.key, count), rate=self.rate)


def attend(
    q: Float[Array, "B H T h"],
    k: Float[Array, "B H T h"],
    v: Float[Array, "B H T h"],
    where: Layout,
    *,
    bias: Float[Array, "B H T T"] | Float[Array, "1 H T T"] | None = None,
    window: int | None = None,
    drop: Dropout | None = None,
    fused: bool = False,
) -> Float[Array, "B H T h"]:
    """softmax(q k' / sqrt(h) + bias) v over the tokens that a token may see.

    On a CPU heads are taken in groups whose logits fit into the cache, and the logits are computed again in the
    backward pass: to write and to read them would take longer.

    Args:
      q, k, v: queries, keys and values; k and v of padding are not looked at.
      where: who is real, and of which text.
      bias: added to the logits.
      window: a token sees those at most this far away, and those of global attention; None: all.
      drop: dropout of the weights.
      fused: one operation of the backend; see `blocks.Compute`.

    Returns:
      [B, H, T, h]; zeros for a token that sees nobody.
    """
    keep = visible(where, window)
    if fused and drop is None:
        q, k, v = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
        full = jnp.broadcast_to(keep, (q.shape[0], 1, q.shape[1], q.shape[1]))
        out = jax.nn.dot_product_attention(q, k, v, bias=bias, mask=full)
        sees = jnp.any(full, axis=-1)[..., None]
        return jnp.where(sees, out.transpose(0, 2, 1, 3), jnp.zeros((), out.dtype))

    def some(part: tuple[Array, Array, Array, Array], bias: Array | None, drop: Dropout | None) -> Array:
        q, k, v, keep = part
        logits = _scores(q, k)
        (weights,), total, _ = _softmax([(logits if bias is None else logits + bias.astype(jnp.float32), keep)], drop)
        return _weighted(weights, v, total)

    size = _heads_at_once(q, 4 * q.shape[2] ** 2)
    if size == 0:
        return some((q, k, v, keep), bias, drop)
    b, h, t, d = q.shape
    count = b * h // size

    def cut(x: Array) -> Array:
        """Every head of every text, in groups: [groups, size, 1, ...]."""
        return jnp.broadcast_to(x, (b, h, *x.shape[2:])).reshape(count, size, 1, *x.shape[2:])

    groups = (cut(q), cut(k), cut(v), cut(keep))
    if bias is None and drop is None:
        return _in_groups(*groups).reshape(b, h, t, d)
    rest = (None if bias is None else cut(bias), None if drop is None else drop.split(count))
    return jax.lax.map(jax.checkpoint(lambda x: some(*x)), (groups, *rest)).reshape(b, h, t, d)


@jax.custom_vjp
def _in_groups(q: Array, k: Array, v: Array, keep: Array) -> Float[Array, "G N 1 T h"]:
    """Attention of G groups of N heads one after another, [G, N, 1, T, h]; keep is [G, N, 1, 1 or T, T]."""
    return _in_groups_forward(q, k, v, keep)[0]


def _in_groups_forward(q: Array, k: Array, v: Array, keep: Array) -> tuple[Array, tuple[Array, ...]]:
    def group(part: tuple[Array, ...]) -> tuple[Array, Array]:
        q, k, v, keep = part
        (weights,), total, top = _softmax([(_scores(q, k), keep)], None)
        return _weighted(weights, v, total), top + jnp.log(total)

    out, norm = jax.lax.map(group, (q, k, v, keep))
    return out, (q, k, v, keep, out, norm)


def _in_groups_backward(saved: tuple[Array, ...], grad: Array) -> tuple[Array, Array, Array, Any]:
    """With p = softmax(s), o = p v: ds = p (do v' - sum(do o)), dq = ds k, dk = ds' q, dv = p' do.

    Dao et al. (NeurIPS 2022, arXiv 2205.14135), appendix B.
    """

    def group(part: tuple[Array, ...]) -> tuple[Array, Array, Array]:
        q, k, v, keep, out, norm, grad = part
        weights = jnp.where(keep, jnp.exp(_scores(q, k) - norm), 0.0)
        inner = jnp.sum(grad.astype(jnp.float32) * out.astype(jnp.float32), axis=-1, keepdims=True)
        through = _product(grad, v.swapaxes(2, 3)).astype(jnp.float32)
        slope = (weights * (through - inner) * q.shape[3] ** -0.5).astype(q.dtype)
        back = weights.astype(v.dtype).swapaxes(2, 3)
        return _product(slope, k), _product(slope.swapaxes(2, 3), q), _product(back, grad)

    grads = jax.lax.map(group, (*saved, grad))
    return (*grads, np.zeros(saved[3].shape, jax.dtypes.float0))


_in_groups.defvjp(_in_groups_forward, _in_groups_backward)


def attend_within(
    q: Float[Array, "B H T h"],
    k: Float[Array, "B H T h"],
    v: Float[Array, "B H T h"],
    where: Layout,
    *,
    window: int | None,
    drop: Dropout | None = None,
    fused: bool = False,
) -> Float[Array, "B H T h"]:
    """`attend` in the form that is the smallest at this length; arguments as there."""
    t = q.shape[2]
    if window is not None and t > 3 * window:
        return attend_nearby(q, k, v, where, window=window, drop=drop)
    narrow = window is not None and t > window + 1
    return attend(q, k, v, where, window=window if narrow else None, drop=drop, fused=fused)


def attend_nearby(
    q: Float[Array, "B H T h"],
    k: Float[Array, "B H T h"],
    v: Float[Array, "B H T h"],
    where: Layout,
    *,
    window: int,
    drop: Dropout | None = None,
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
    if size == 0:
        return _nearby(q, k, v, where, window, drop)

    def cut(x: Array) -> Array:
        return x.reshape(b * h // size, size, 1, t, d)

    rows = jax.tree.map(lambda x: jnp.repeat(x, h, axis=0).reshape(-1, size, *x.shape[1:]), where)

    def some(group: tuple[Array, Array, Array, Layout, Dropout | None]) -> Array:
        q, k, v, where, drop = group
        return _nearby(q, k, v, where, window, drop)

    drops = None if drop is None else drop.split(b * h // size)
    out = jax.lax.map(some, (cut(q), cut(k), cut(v), rows, drops))
    return out.reshape(b, h, t, d)


def _nearby(q: Array, k: Array, v: Array, where: Layout, window: int, drop: Dropout | None) -> Array:
    b, h, t, d = q.shape
    blocks = -(-t // window)
    pad = blocks * window - t
    segments = where.numbered()
    near = segments
    leads = where.leads
    if leads is not None:
        near = jnp.where(_is_lead(where), 0, segments)  # seen by its own column alone
        lead_k, lead_v = (rows_at(x.swapaxes(1, 2), leads).swapaxes(1, 2) for x in (k, v))
        lead_segments = rows_at(segments, leads)

    def cut(x: Array, axis: int, beside: int) -> Array:
        """[..., blocks, window, ...], with room for so many blocks on either side."""
        widths = [(0, 0)] * x.ndim
        widths[axis] = (beside * window, pad + beside * window)
        return jnp.pad(x, widths).reshape(*x.shape[:axis], -1, window, *x.shape[axis + 1 :])

    def beside(x: Array, axis: int) -> Array:
        """[..., blocks, 3 window, ...], blocks first."""
        x = cut(x, axis, 1)
        pieces = [jax.lax.slice_in_dim(x, i, i + blocks, axis=axis) for i in range(3)]
        return jnp.moveaxis(jnp.concatenate(pieces, axis=axis + 1), axis, 0)

    def own(x: Array, axis: int) -> Array:
        """[..., blocks, window, ...], blocks first."""
        return jnp.moveaxis(cut(x, axis, 0), axis, 0)

    offsets = jnp.arange(3 * window)[None, :] - jnp.arange(window)[:, None] - window
    band = jnp.abs(offsets) <= window

    def block(part: tuple[Array, Array, Array, Array, Array, Dropout | None]) -> Array:
        q, k, v, mine, theirs, drop = part
        parts = [(_scores(q, k), _of_one_text(mine, theirs) & band[None, None])]
        if leads is not None:
            parts.append((_scores(q, lead_k), _of_one_text(mine, lead_segments)))
        weights, total, _ = _softmax(parts, drop)
        out = _weighted(weights[0], v, total)
        return out if leads is None else out + _weighted(weights[1], lead_v, total)

    drops = None if drop is None else drop.split(blocks)
    divided = (own(q, 2), beside(k, 2), beside(v, 2), own(segments, 1), beside(near, 1), drops)
    # One block after another on a CPU, where its logits then stay in the cache; computed again in the backward pass,
    # which would otherwise keep the logits of all of them.
    over = functools.partial(jax.lax.map, jax.checkpoint(block)) if jax.default_backend() == "cpu" else jax.vmap(block)
    out = over(divided)
    return jnp.moveaxis(out, 0, 2).reshape(b, h, blocks * window, d)[:, :, :t]


def attend_from(
    q: Float[Array, "B H G h"],
    k: Float[Array, "B H T h"],
    v: Float[Array, "B H T h"],
    where: Layout,
    *,
    drop: Dropout | None = None,
) -> Float[Array, "B H G h"]:
    """What the tokens of global attention see: all of their text."""
    segments = where.numbered()
    keep = _of_one_text(rows_at(segments, where.leads), segments)
    (weights,), total, _ = _softmax([(_scores(q, k), keep)], drop)
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


def visible(where: Layout, window: int | None) -> Bool[Array, "B 1 _ T"]:
    """Which column each row may see; [B, 1, 1, T] where all rows see the same."""
    keep = where.mask[:, None, None, :] if where.segments is None else _of_one_text(where.segments, where.segments)
    if window is None:
        return keep
    place = jnp.arange(where.mask.shape[1], dtype=jnp.int32)
    near = (jnp.abs(place[:, None] - place[None, :]) <= window)[None]
    if where.leads is not None:
        near = near | _is_lead(where)[:, None, :]
    return keep & near[:, None]


def _of_one_text(mine: Int[Array, "B _"], theirs: Int[Array, "B T"]) -> Bool[Array, "B 1 _ T"]:
    """Which tokens, by their segments, are of the same text."""
    return ((mine[:, :, None] == theirs[:, None, :]) & (theirs[:, None, :] > 0))[:, None]


def _is_lead(where: Layout) -> Bool[Array, "B T"]:
    place = jnp.arange(where.mask.shape[1], dtype=jnp.int32)
    return jnp.any(where.leads[:, :, None] == place[None, None, :], axis=1)


def _scores(q: Array, k: Array) -> Float[Array, "B H Q K"]:
    """q k' / sqrt(h), float32, as one batched product over [B*H, T, h].

    On a CPU three times as fast as an einsum over [B, T, H, h].
    """
    return _product(q * jnp.asarray(q.shape[3] ** -0.5, q.dtype), k.swapaxes(2, 3)).astype(jnp.float32)


def _softmax(parts: list[tuple[Array, Array]], drop: Dropout | None) -> tuple[list[Array], Array, Array]:
    """exp(logits - max) of parts that share one softmax; their sum, by which the result is divided at the end; the max.

    Sum and max are [B, H, Q, 1]. A division of the weights would touch T numbers where that of the result touches h.
    """
    masked = [jnp.where(keep, logits, -jnp.inf) for logits, keep in parts]
    floor = jnp.finfo(jnp.float32).min
    top = functools.reduce(jnp.maximum, [jnp.max(x, axis=-1, keepdims=True, initial=floor) for x in masked])
    weights = [jnp.exp(x - jax.lax.stop_gradient(top)) for x in masked]
    total = functools.reduce(jnp.add, [jnp.sum(w, axis=-1, keepdims=True) for w in weights])
    if drop is not None:
        keys = jax.random.split(drop.key, len(weights))
        weights = [Dropout(key=keys[i], rate=drop.rate)(w) for i, w in enumerate(weights)]
    return weights, jnp.where(total > 0, total, 1.0), top


def _weighted(weights: Array, v: Array, total: Array) -> Array:
    return _product(weights.astype(v.dtype), v) / total.astype(v.dtype)


def _product(a: Float[Array, "B H Q _"], b: Array) -> Array:
    """A matrix product for each head of each text, as one batched product."""
    n = a.shape[0] * a.shape[1]
    out = jnp.matmul(a.reshape(n, *a.shape[2:]), b.reshape(n, *b.shape[2:]))
    return out.reshape(*a.shape[:3], b.shape[3])


def rows_at(x: Shaped[Array, "B T *D"], places: Int[Array, "B G"]) -> Shaped[Array, "B G *D"]:
    """What stands at these places of each row; zeros at T."""
    return jax.vmap(lambda row, at: row.at[at].get(mode="fill", fill_value=0))(x, places)
