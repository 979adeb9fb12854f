"""A scorer: base + head family. Reranker and adapter are two uses of it.

    score_u(pair, extras) = head_u(([z; extras] - mean) / scale),    z = base(pair)

The features of a frozen encoder have an offset common to all texts; inputs are centred, and features divided by one
number, with statistics of the training users, which belong to what was fitted and are never fitted again. What is
larger among the features, and the size of the extras, is as whoever made them meant it.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hydrajax.nn import encode, heads, tokens
from hydrajax.types import DataError


@flax.struct.dataclass
class Normaliser:
    """Statistics of the training users' inputs: `mean` and `scale`, float32 [D + X]."""

    mean: Any
    scale: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scorer:
    """What is learned, without its parameters.

    Attributes:
      family: the head family.
      dims: widths of its input.
      module: the base where it is trained; None where x already holds features.
      pooling: how the base's vectors become one.
      micro_batch: examples that go through a trained base at once; None: all of a batch.
    """

    family: heads.Family
    dims: heads.Dims
    module: nn.Module | None = None
    pooling: str = "mean"
    micro_batch: int | None = None


def fit_normaliser(x: Float[np.ndarray, "N D"], extras: Float[np.ndarray, "N X"]) -> Normaliser:
    """Means of the inputs, and the root mean square of the features' deviations from theirs; 1 of the extras.

    An extra that never varies keeps its value, as an intercept of one's own must: its mean is 0.
    """
    joined = np.concatenate([x, extras], axis=1).astype(np.float64)
    mean, scale = np.zeros(joined.shape[1]), np.ones(joined.shape[1])
    features = x.shape[1]
    if len(joined):
        deviation = joined.std(axis=0)
        mean = np.where((np.arange(len(mean)) < features) | (deviation > 0), joined.mean(axis=0), 0.0)
        size = np.sqrt(np.mean(deviation[:features] ** 2)) if features else 0.0
        scale[:features] = size if size > 1e-6 else 1.0
    return Normaliser(mean=mean.astype(np.float32), scale=scale.astype(np.float32))


def unchanged(dims: heads.Dims) -> Normaliser:
    """The normaliser that leaves inputs as they are."""
    return Normaliser(mean=np.zeros(dims.inputs, np.float32), scale=np.ones(dims.inputs, np.float32))


def inputs(
    normaliser: Normaliser | None, z: Float[Array, "*n D"], extras: Float[Array, "*n X"]
) -> Float[Array, "*n I"]:
    """Inputs of the heads, (joined - mean) / scale; without a normaliser as they are."""
    joined = jnp.concatenate([z, extras], axis=-1)
    if normaliser is None:
        return joined
    shape = (1,) * (joined.ndim - 1) + (-1,)
    mean, scale = jnp.reshape(normaliser.mean, shape), jnp.reshape(normaliser.scale, shape)
    return (joined - mean) / scale


def base_features(scorer: Scorer, base: Any, x: Any, *, key: Array | None = None) -> Float[Array, "*n D"]:
    """z of a batch: x itself where it holds features, else base(x) for tokens [..., T].

    Raises:
      DataError: the batch holds tokens, and the scorer has no base.
    """
    if not isinstance(x, tokens.Tokens):
        return x
    if scorer.module is None:
        raise DataError("the batch holds tokens, but the scorer has no base module")
    lead = x.ids.shape[:-1]
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, leaf.shape[-1]), x)
    size, n = scorer.micro_batch, len(flat.ids)
    z_of = functools.partial(encode.features, scorer.module, base, pooling=scorer.pooling)
    z = z_of(flat, key=key) if size is None or size >= n else _in_parts(z_of, flat, size, key)[:n]
    return z.reshape(*lead, z.shape[-1])


def _in_parts(z_of: Callable[..., Array], x: tokens.Tokens, size: int, key: Array | None) -> Float[Array, "N D"]:
    """Features of a few examples after the other, the last few filled up.

    What lies between is computed again in the backward pass, which adds the gradients of the parts up: whatever the
    loss, they are those of the whole batch. With a key each part drops places of its own.
    """
    n = len(x.ids)
    count = -(-n // size)
    parts = jax.tree.map(
        lambda leaf: jnp.pad(leaf, ((0, count * size - n), (0, 0))).reshape(count, size, leaf.shape[-1]), x
    )

    @jax.checkpoint
    def part(number: Array, x: tokens.Tokens) -> Array:
        own = None if key is None else jax.random.fold_in(key, number)
        return z_of(x, key=own)

    z = jax.lax.map(lambda given: part(*given), (jnp.arange(count), parts))
    return z.reshape(-1, z.shape[-1])


def logits(
    family: heads.Family,
    shared: heads.Shared,
    user: heads.User,
    x: Float[Array, "E I"],
    *,
    key: Array | None = None,
) -> Float[Array, " E"]:
    """Scores of one user's examples; a key switches dropout on, drawn apart for each example."""
    if key is None:
        return jax.vmap(lambda row: family.score(shared, user, row))(x)
    keys = jax.random.split(key, x.shape[0])
    return jax.vmap(lambda row, row_key: family.score(shared, user, row, row_key))(x, keys)
