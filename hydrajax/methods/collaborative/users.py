"""CFRAG's user encoder: a user is what a transformer makes of the user's records, learned by contrast.

    u = mean_i y_i / |mean_i y_i|,   y = layer(x + position),   x = features of the records, oldest first
    loss = -log softmax(z z' / tau)[its other view],   z = two views of each user of a batch, none compared with itself

A view is the profile with a part cut out, with records hidden, or with records in another order. No label and no
question is looked at. Shi et al. (SIGIR 2025, arXiv 2504.05731), whose numbers these are.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from hydrajax import progress
from hydrajax.data import draws
from hydrajax.training import optimizers

MOST_RECORDS = 100  # the newest ones
LAYER_HEADS = 2
DROPOUT = 0.1
CROPPED, HIDDEN, REORDERED = 0.7, 0.3, 0.3  # shares of a profile that stay, are hidden, are put in another order
TEMPERATURE = 0.1
USERS = 64  # of a batch
UPDATES = 100  # as many as the paper's one epoch over LaMP's users has
RATE, DECAY = 1e-3, 1e-5
_AT_ONCE = 64  # users that are encoded at once
_PADDING = -1

Params = dict[str, Array]


def fit(
    features: Sequence[Float[np.ndarray, "_ D"]],
    *,
    seed: int = 0,
    updates: int = UPDATES,
    advance: progress.Advance = progress.silent,
) -> Params | None:
    """The encoder, learned from users by the features of their records, oldest first.

    Args:
      features: of each user, one record at least.
      updates: of batches of users.
      advance: called with (updates done, updates).

    Returns:
      None where there are no two users to tell apart.
    """
    if len(features) < 2:
        return None
    newest = [of_user[-MOST_RECORDS:] for of_user in features]
    ends = np.cumsum([len(of_user) for of_user in newest])
    table = jnp.asarray(np.concatenate(newest), jnp.float32)
    length = max(map(len, newest))
    rng = np.random.default_rng(draws.number(seed, "views of users"))
    params = init(jax.random.key(draws.number(seed, "user encoder") % 2**31), table.shape[1])
    state = _optimizer().init(params)
    batch = min(USERS, len(newest))
    order: list[int] = []
    for step in range(updates):
        if len(order) < batch:
            order = rng.permutation(len(newest)).tolist()
        chosen, order = order[:batch], order[batch:]
        places = np.full((2, batch, length), _PADDING, np.int32)
        for row, user in enumerate(chosen):
            own = np.arange(ends[user] - len(newest[user]), ends[user])
            for one in range(2):
                seen = view(own, len(table), rng)
                places[one, row, : len(seen)] = seen
        params, state = _update(params, state, table, places, np.int32(step))
        advance(step + 1, updates)
    return params


def view(records: Int[np.ndarray, " N"], hidden: int, rng: np.random.Generator) -> Int[np.ndarray, " M"]:
    """One of three: a stretch of the records; some of them hidden; a stretch of them in another order.

    Args:
      records: numbers of the records, in their order.
      hidden: the number that stands for a record that is hidden.
    """
    if len(records) < 2:
        return records
    kind = rng.integers(3)
    size = math.floor(len(records) * (CROPPED, HIDDEN, REORDERED)[kind])
    if kind == 1:
        return np.where(np.isin(np.arange(len(records)), rng.permutation(len(records))[:size]), hidden, records)
    first = rng.integers(len(records) - size + 1)
    stretch = slice(first, first + size)
    if kind == 0:
        return records[stretch]
    reordered = records.copy()
    reordered[stretch] = rng.permutation(records[stretch])
    return reordered


def encode(params: Params, features: Sequence[Float[np.ndarray, "_ D"]]) -> Float[np.ndarray, "U D"]:
    """Users of length one, by the features of their records, oldest first."""
    made = [np.zeros((0, params["hidden"].shape[0]))]
    for first in range(0, len(features), _AT_ONCE):
        some = [of_user[-MOST_RECORDS:] for of_user in features[first : first + _AT_ONCE]]
        # Few shapes, as each is compiled anew.
        length = min(MOST_RECORDS, 1 << (max(map(len, some)) - 1).bit_length())
        x = np.zeros((_AT_ONCE, length, features[0].shape[1]), np.float32)
        mask = np.zeros((_AT_ONCE, length), bool)
        for row, of_user in enumerate(some):
            x[row, : len(of_user)], mask[row, : len(of_user)] = of_user, True
        made.append(np.asarray(_encode(params, x, mask), np.float64)[: len(some)])
    return np.concatenate(made)


def init(key: Array, width: int) -> Params:
    """As PyTorch initialises a layer; the output of each half is added to its input and normalised."""
    keys = iter(jax.random.split(key, 6))

    def uniform(shape: tuple[int, ...], bound: float) -> Array:
        return jax.random.uniform(next(keys), shape, jnp.float32, -bound, bound)

    zeros, ones = jnp.zeros(width), jnp.ones(width)
    position = jax.random.normal(next(keys), (MOST_RECORDS, width)) * math.sqrt(2 / (MOST_RECORDS + width))
    return {
        "hidden": zeros,
        "position": position,
        "qkv": uniform((width, 3, width), math.sqrt(6 / (4 * width))),
        "qkv_bias": jnp.zeros((3, width)),
        "out": uniform((width, width), width**-0.5),
        "out_bias": zeros,
        "up": uniform((width, width), width**-0.5),
        "up_bias": zeros,
        "down": uniform((width, width), width**-0.5),
        "down_bias": zeros,
        "scale_1": ones,
        "shift_1": zeros,
        "scale_2": ones,
        "shift_2": zeros,
    }


def user(
    params: Params, x: Float[Array, "N D"], mask: Bool[Array, " N"], key: Array | None = None
) -> Float[Array, " D"]:
    """One user, of length one; zeros without a record.

    Args:
      x: features of the records.
      mask: which of them there are.
      key: of dropout, without which none drops out.
    """
    keys = [None] * 4 if key is None else list(jax.random.split(key, 4))
    x = x + params["position"][: len(x)]
    count = LAYER_HEADS if x.shape[1] % LAYER_HEADS == 0 else 1
    q, k, v = (
        part.reshape(len(x), count, -1)
        for part in jnp.moveaxis(jnp.einsum("nd,dpe->npe", x, params["qkv"]) + params["qkv_bias"][None], 1, 0)
    )
    logits = jnp.where(mask[None, None], jnp.einsum("nhe,mhe->hnm", q, k) / math.sqrt(q.shape[-1]), -1e30)
    weights = jax.nn.softmax(logits, axis=-1)
    attended = jnp.einsum("hnm,mhe->nhe", _dropped(weights, keys[0]), v).reshape(x.shape)
    attended = attended @ params["out"] + params["out_bias"][None]
    h = _normed(x + _dropped(attended, keys[1]), params["scale_1"], params["shift_1"])
    inner = _dropped(jax.nn.relu(h @ params["up"] + params["up_bias"][None]), keys[2])
    inner = inner @ params["down"] + params["down_bias"][None]
    y = _normed(h + _dropped(inner, keys[3]), params["scale_2"], params["shift_2"])
    mean = jnp.sum(jnp.where(mask[:, None], y, 0.0), axis=0) / jnp.maximum(jnp.sum(mask, dtype=jnp.float32), 1.0)
    return mean * jax.lax.rsqrt(jnp.maximum(jnp.sum(mean**2), 1e-24))


def contrast(z: Float[Array, "2 U D"]) -> Float[Array, ""]:
    """Mean loss of two views of each user, of length one."""
    both = z.reshape(-1, z.shape[-1])
    likeness = jnp.where(jnp.eye(len(both), dtype=bool), -jnp.inf, both @ both.T / TEMPERATURE)
    other = jnp.roll(jnp.arange(len(both)), z.shape[1])
    return jnp.mean(jax.nn.logsumexp(likeness, axis=1) - likeness[jnp.arange(len(both)), other])


@functools.cache
def _optimizer() -> Any:
    return optimizers.adamw(RATE, DECAY)


@jax.jit
def _update(params: Params, state: Any, table: Array, places: Array, step: Array) -> tuple[Params, Any]:
    def loss(params: Params) -> Array:
        known = jnp.concatenate([table, params["hidden"][None]])[jnp.maximum(places, 0)]
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), step), places.shape[:2])
        views = jax.vmap(jax.vmap(functools.partial(user, params)))
        return contrast(views(known, places != _PADDING, keys))

    updates, state = optimizers.update(_optimizer(), jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state


@jax.jit
def _encode(params: Params, x: Array, mask: Array) -> Array:
    return jax.vmap(lambda x, mask: user(params, x, mask))(x, mask)


def _dropped(x: Array, key: Array | None) -> Array:
    return x if key is None else jnp.where(jax.random.bernoulli(key, 1 - DROPOUT, x.shape), x / (1 - DROPOUT), 0.0)


def _normed(x: Array, scale: Array, shift: Array) -> Array:
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5) * scale[None] + shift[None]
