"""Heads fitted one user after another, everything else frozen: personalisation, and pretraining on frozen features.

Users are then independent. Instead of one wide step for all, each user's whole fit runs in one compiled loop: on a
CPU the head and its optimizer state stay in the cache, users with few records cost little beside users with many, and
the result for a user does not depend on who else is fitted.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import flatten_util
from jaxtyping import Array

from hydrajax.nn import heads
from hydrajax.nn import scorer as scorers
from hydrajax.training import chunks, losses, newton, optimizers, step

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Examples of frozen features: x float32 [N, D], extras float32 [N, X], arrays [N], and `keys` uint32 [num_users].

    Keys tell users apart in draws (initialisation, order, dropout), so that a user's head does not depend on the row.
    """

    x: np.ndarray
    extras: np.ndarray
    user: np.ndarray
    label: np.ndarray
    score: np.ndarray
    pool: np.ndarray
    keys: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How heads are fitted by gradient steps; convex families take `prior_strength` alone.

    Attributes:
      epochs: numbers of passes after which heads are returned, ascending.
      batch_examples: rows of a mini-batch.
      decays: the learning rate falls to 0 over the fit.
      fresh: heads start at their own initialisation, else at the anchor.
      parallel: users fitted at once.
    """

    epochs: tuple[int, ...]
    learning_rate: float
    weight_decay: float
    prior_strength: float
    batch_examples: int
    seed: int
    decays: bool = False
    fresh: bool = False
    parallel: int | None = None


def fit(
    family: heads.Family,
    dims: heads.Dims,
    loss: str,
    data: Data,
    num_users: int,
    settings: Settings,
    *,
    normaliser: scorers.Normaliser,
    shared: heads.Shared,
    anchor: heads.User | None,
    generic: heads.User | None,
    progress: Progress | None = None,
    group: int = 64,
) -> tuple[dict[int, heads.User], np.ndarray]:
    """Heads of users 0..num_users-1 after each number of epochs.

    A head minimises its mean loss plus prior_strength / (2 n) |head - anchor|^2, n = the user's examples.

    Args:
      family: head family.
      dims: widths of its input.
      loss: a name of `losses.LOSSES`.
      data: examples.
      num_users: how many heads.
      settings: how.
      normaliser: statistics of the inputs.
      shared: parameters that all users share, frozen.
      anchor: the centre of decay and prior; None: zeros.
      generic: the head of users without examples; None: whatever they start with.
      progress: called with (users done, users).
      group: users between two calls of `progress`.

    Returns:
      (heads by number of epochs, stacked [num_users, ...], numpy, where 0 epochs are the heads of users without
      examples; mean loss per epoch over all users, NaN for an epoch without any loss. Convex families: the same heads
      for every number but 0, and the loss before and after).
    """
    convex = family if isinstance(family, heads.Convex) else None
    template = jax.eval_shape(lambda: family.init_user(jax.random.key(0), dims))
    fresh = settings.fresh or anchor is None
    anchor = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), template) if anchor is None else anchor
    fallback = anchor if generic is None else generic
    counts = tuple(n for n in settings.epochs if n > 0)
    made = chunks.make(
        data.user,
        data.pool,
        num_users,
        size=settings.batch_examples,
        epochs=1 if convex or not counts else counts[-1],
        seed=None if convex else settings.seed,
        keys=data.keys,
        whole_pools=loss in losses.WITHIN_POOL,
    )
    device = _Device.of(data, made)
    strength = jnp.float32(settings.prior_strength)
    if convex is not None:
        newton.check(convex, settings.prior_strength)
        counts = counts[:1]
        run = functools.partial(_newton(convex, loss), normaliser, shared, anchor, fallback, device, strength)
    else:
        bounds = np.array([(0, *counts[:-1]), counts], np.int32).T
        total = jnp.float32(np.inf)
        if settings.decays:
            total = jnp.float32(max(1, int((made.stop - made.start).sum(axis=0).max(initial=0))))
        program = _gradient(family, dims, loss, fresh, settings.parallel)
        rates = (jnp.float32(settings.learning_rate), jnp.float32(settings.weight_decay), total)
        key = jax.random.key(settings.seed)
        run = functools.partial(program, normaliser, shared, anchor, fallback, device, strength, bounds, rates, key)

    found = {n: jax.tree.map(lambda leaf: np.zeros((num_users, *leaf.shape), leaf.dtype), template) for n in counts}
    curve = np.zeros((0, 2))
    group = min(group, chunks.padded(num_users))
    for first in range(0, num_users if counts else 0, group):
        rows = np.arange(first, first + group, dtype=np.int32)
        users, part = jax.device_get(run(np.where(rows < num_users, rows, -1)))
        last = min(first + group, num_users)
        for i, n in enumerate(counts):
            jax.tree.map(lambda out, new: _put(out, first, last, new[:, i]), found[n], users)  # noqa: B023
        curve = part.sum(axis=0) if first == 0 else curve + part.sum(axis=0)
        if progress is not None:
            progress(last, num_users)
    if convex is not None:
        found = dict.fromkeys((n for n in settings.epochs if n > 0), found[counts[0]]) if counts else {}
    elif counts:
        curve = curve[: counts[-1]]
    if 0 in settings.epochs:
        found[0] = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf)[None], num_users, axis=0), fallback)
    sums, weights = curve[:, 0], curve[:, 1]
    return found, np.where(weights > 0, sums / np.maximum(weights, 1.0), np.nan)


def _put(out: np.ndarray, first: int, last: int, new: np.ndarray) -> None:
    out[first:last] = new[: last - first]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Device:
    """Arrays padded to few different shapes, so that fits of like size compile once."""

    x: Any
    extras: Any
    label: Any
    score: Any
    pool: Any
    count: Any
    key: Any
    rows: Any
    start: Any
    stop: Any

    @staticmethod
    def of(data: Data, made: chunks.Chunks) -> "_Device":
        count = np.bincount(data.user, minlength=made.start.shape[1]).astype(np.float32)
        n, m = chunks.padded(len(data.user)), chunks.padded(len(made.rows))
        epochs, users = chunks.padded(made.start.shape[0]), chunks.padded(made.start.shape[1])
        return _Device(
            x=jnp.asarray(chunks.pad(data.x, n)),
            extras=jnp.asarray(chunks.pad(data.extras, n)),
            label=jnp.asarray(chunks.pad(data.label, n)),
            score=jnp.asarray(chunks.pad(data.score, n)),
            pool=jnp.asarray(chunks.pad(data.pool, n)),
            count=jnp.asarray(chunks.pad(count, users)),
            key=jnp.asarray(chunks.pad(data.keys.astype(np.uint32), users)),
            rows=jnp.asarray(chunks.pad(made.rows, m, -1)),
            start=jnp.asarray(chunks.pad(chunks.pad(made.start, epochs).T, users).T),
            stop=jnp.asarray(chunks.pad(chunks.pad(made.stop, epochs).T, users).T),
        )

    def chunk(self, normaliser: scorers.Normaliser, index: Any) -> tuple[Array, losses.Targets]:
        """The inputs [E, I] of the heads and the targets of one chunk."""
        rows = self.rows[index]
        take = jnp.maximum(rows, 0)
        targets = losses.Targets(label=self.label[take], score=self.score[take], pool=self.pool[take], mask=rows >= 0)
        return scorers.inputs(normaliser, self.x[take], self.extras[take]), targets


@functools.lru_cache(maxsize=64)
def _gradient(family: heads.Family, dims: heads.Dims, loss: str, fresh: bool, parallel: int | None) -> Any:
    loss_fn = losses.get(loss)

    def run(normaliser, shared, anchor, fallback, device, strength, bounds, rates, key, rows):
        learning_rate, weight_decay, total = rates
        head_tx = optimizers.adamw(learning_rate, weight_decay, total=total)

        # One flat vector in place of a tree: the optimizer is compiled for one leaf.
        centre, unravel = flatten_util.ravel_pytree(anchor)

        def summed(user, x, targets, one):
            return loss_fn(scorers.logits(family, shared, unravel(user), x, key=one), targets)

        def fit_one(row):
            here = jnp.maximum(row, 0)
            pull = strength / jnp.maximum(device.count[here], 1.0)
            own = step.user_key(key, device.key[here])
            dropout = jax.random.fold_in(jax.random.fold_in(key, 3), device.key[here])

            def update(index, carry):
                user, opt, count, loss_sum, weight_sum = carry
                x, targets = device.chunk(normaliser, index)
                one = jax.random.fold_in(dropout, count)
                (value, weight), grad = jax.value_and_grad(summed, has_aux=True)(user, x, targets, one)
                new = step.update_head(head_tx, centre, user, opt, grad, weight, pull)
                user, opt = jax.tree.map(lambda a, b: jnp.where(weight > 0, a, b), new, (user, opt))
                return user, opt, count + 1, loss_sum + value, weight_sum + weight

            def epoch(number, carry):
                user, opt, count, curve = carry
                # A row of -1 fills the group up: nobody, so no chunk.
                stop = jnp.where(row >= 0, device.stop[number, here], device.start[number, here])
                zero = jnp.zeros((), jnp.float32)
                inner = (user, opt, count, zero, zero)
                user, opt, count, *seen = jax.lax.fori_loop(device.start[number, here], stop, update, inner)
                return user, opt, count, curve.at[number].set(jnp.stack(seen))

            def segment(carry, ends):
                carry = jax.lax.fori_loop(ends[0], ends[1], epoch, carry)
                return carry, carry[0]

            user = flatten_util.ravel_pytree(family.init_user(own, dims))[0] if fresh else centre
            curve = jnp.zeros((device.start.shape[0], 2), jnp.float32)
            carry = (user, head_tx.init(user), jnp.zeros((), jnp.int32), curve)
            carry, users = jax.lax.scan(segment, carry, bounds)
            # Without any loss (no examples, or none that differ) nothing was learned of the user.
            empty = jnp.sum(carry[-1][:, 1]) == 0
            users = jax.vmap(unravel)(users)
            return jax.tree.map(lambda leaf, rest: jnp.where(empty, rest[None], leaf), users, fallback), carry[-1]

        return jax.lax.map(fit_one, rows, batch_size=parallel)

    return jax.jit(run)


@functools.lru_cache(maxsize=64)
def _newton(family: heads.Convex, loss: str) -> Any:
    loss_fn = losses.get(loss)

    def run(normaliser, shared, anchor, fallback, device, strength, rows):
        def fit_one(row):
            here = jnp.maximum(row, 0)
            start = device.start[0, here]
            stop = jnp.where(row >= 0, device.stop[0, here], start)

            def chunk(index):
                x, targets = device.chunk(normaliser, index)
                return jax.vmap(lambda one: family.design(shared, one))(x), targets

            user, value = newton.minimise(loss_fn, chunk, start, stop, anchor, strength)
            empty = value[1, 1] == 0
            return jax.tree.map(lambda leaf, rest: jnp.where(empty, rest, leaf)[None], user, fallback), value

        return jax.lax.map(fit_one, rows)

    return jax.jit(run)
