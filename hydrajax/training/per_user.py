"""Heads fitted one user after another, everything else frozen: personalisation, and pretraining on frozen features.

Users are then independent. Instead of one wide step for all, each user's whole fit runs in one compiled loop: on a
CPU the head and its optimizer state stay in the cache, users with few records cost little beside users with many, and
the result for a user does not depend on who else is fitted.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hydrajax.nn import heads, tokens
from hydrajax.nn import scorer as scorers
from hydrajax.training import chunks, losses, newton, user_fit
from hydrajax.training.examples import Examples
from hydrajax.types import DataError

Progress = Callable[[int, int], None]
Job = tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], Any]]
# Examples up to which users of a convex family are fitted in one chunk, in a program for each number.
FEW = (32, 128, 512)
# A group's heads, under all settings, on a CPU: larger results come in fresh pages of the system every time, which cost
# half as much as the fit (`mlp` at d = 384: 4.6 ms a user in groups of 8, 6.9 in groups of 64).
GROUP_BYTES = 5 * 2**20


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
class Problem:
    """What is fitted, and all that does not learn.

    A head minimises its mean loss plus prior_strength / (2 n) |head - anchor|^2, n = the user's examples.

    Attributes:
      family: head family.
      dims: widths of its input.
      loss: a name of `losses.LOSSES`.
      data: examples.
      num_users: how many heads.
      normaliser: statistics of the inputs; None leaves them as they are.
      shared: parameters that all users share, frozen.
      anchor: the centre of decay and prior; None: zeros.
      generic: the head of users without examples; None: whatever they start with.
    """

    family: heads.Family
    dims: heads.Dims
    loss: str
    data: Data
    num_users: int
    normaliser: scorers.Normaliser | None
    shared: heads.Shared
    anchor: heads.User | None = None
    generic: heads.User | None = None

    def template(self) -> heads.User:
        """Shapes of one head."""
        return jax.eval_shape(lambda: self.family.init_user(jax.random.key(0), self.dims))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """How gradient steps follow each other; convex families take none of it but `parallel`.

    Attributes:
      epochs: numbers of passes after which heads are returned, ascending.
      batch_examples: rows of a mini-batch.
      decays: the learning rate falls to 0 over the fit.
      fresh: heads start at their own initialisation, else at the anchor; always without an anchor.
      parallel: users fitted at once.
    """

    epochs: tuple[int, ...]
    batch_examples: int
    decays: bool = False
    fresh: bool = False
    parallel: int | None = None


def fit(
    problem: Problem,
    schedule: Schedule,
    rates: user_fit.Rates,
    *,
    seed: int,
    progress: Progress | None = None,
    group: int = 64,
) -> tuple[dict[int, heads.User], np.ndarray]:
    """Heads of users 0..num_users-1 after each number of epochs.

    Args:
      problem: what is fitted.
      schedule: in which steps.
      rates: numbers; convex families look at `prior_strength` alone.
      seed: of initialisations, orders and dropout.
      progress: called with (users done, users).
      group: users between two calls of `progress`.

    Returns:
      (heads by number of epochs, stacked [num_users, ...], numpy, where 0 epochs are the heads of users without
      examples; mean loss per epoch over all users, NaN for an epoch without any loss. Convex families: the same heads
      for every number but 0, and the loss before and after).
    """
    num_users = problem.num_users
    convex = isinstance(problem.family, heads.Convex)
    counts = tuple(n for n in schedule.epochs if n > 0)[: 1 if convex else None]
    # Arrays, so that other numbers compile nothing new.
    prepared = prepare(problem, schedule, jax.tree.map(jnp.float32, rates), seeds=(seed,), group=group)
    found = {n: prepared.empty((num_users,)) for n in counts}
    curve, done = np.zeros((0, 2)), 0
    for users, (made, part) in computed(prepared.jobs if counts else ()):
        if convex:
            newton.check_converged(users, *part)
            part = part[0]
        for i, n in enumerate(counts):
            jax.tree.map(lambda out, new: put(out, users, new[:, i]), found[n], made)  # noqa: B023
        curve = part.sum(axis=0) if done == 0 else curve + part.sum(axis=0)
        done += len(users)
        if progress is not None:
            progress(done, num_users)
    if convex:
        found = dict.fromkeys((n for n in schedule.epochs if n > 0), found[counts[0]]) if counts else {}
    elif counts:
        curve = curve[: counts[-1]]
    if 0 in schedule.epochs:
        found[0] = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf)[None], num_users, axis=0), prepared.fallback)
    sums, weights = curve[:, 0], curve[:, 1]
    return found, np.where(weights > 0, sums / np.maximum(weights, 1.0), np.nan)


def of_examples(examples: Examples, keys: np.ndarray) -> Data:
    """Data of checked examples.

    Raises:
      DataError: they hold tokens.
    """
    if isinstance(examples.x, tokens.Tokens):
        raise DataError("the examples hold tokens, heads are fitted on features: encode them with the base")
    names = (field.name for field in dataclasses.fields(Data) if field.name != "keys")
    return Data(**{name: getattr(examples, name) for name in names}, keys=keys)


def parallel_users(users: int = 64) -> int | None:
    """How many users one device fits side by side: one after another keeps a head in the cache of a CPU (None)."""
    return None if jax.default_backend() == "cpu" else users


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """A fit that is about to run.

    Attributes:
      jobs: (users int32 [n], the same padded with -1, program that takes these -> (heads, curves)).
      template: shapes of one head.
      fallback: the head of users of whom nothing was learned.
    """

    jobs: Sequence[Job]
    template: Any
    fallback: heads.User

    def empty(self, lead: tuple[int, ...]) -> heads.User:
        """Zeros for heads, every leaf [*lead, ...]."""
        return jax.tree.map(lambda leaf: np.zeros((*lead, *leaf.shape), leaf.dtype), self.template)


def prepare(
    problem: Problem,
    schedule: Schedule,
    rates: user_fit.Rates,
    *,
    seeds: tuple[int, ...],
    over: user_fit.Over | None = None,
    group: int = 64,
) -> Prepared:
    """Everything on the device and every program bound to its arguments; see `user_fit`.

    Args:
      problem: what is fitted.
      schedule: in which steps.
      rates: float32 scalars; with `over`, [K, R] (convex families: `prior_strength` [R]).
      seeds: K of them; one without `over`.
      over: how many settings are fitted in one program.
      group: most users in one call of a program.
    """
    family, loss, data, num_users = problem.family, problem.loss, problem.data, problem.num_users
    normaliser, shared, anchor = problem.normaliser, problem.shared, problem.anchor
    template = problem.template()
    fresh = schedule.fresh or anchor is None
    anchor = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), template) if anchor is None else anchor
    fallback = anchor if problem.generic is None else problem.generic
    whole = loss in losses.WITHIN_POOL
    make = functools.partial(chunks.make, data.user, data.pool, keys=data.keys, whole_pools=whole)
    size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(template))
    room = GROUP_BYTES if jax.default_backend() == "cpu" else 2**28
    group = min(
        group, chunks.padded(-(-num_users // _threads())), max(1, room // (4 * size * rates.prior_strength.size))
    )
    everybody = np.arange(num_users, dtype=np.int32)
    jobs: list[Job] = []

    def add(program, arguments, users):
        bound = functools.partial(program, *arguments)
        for first in range(0, len(users), group):
            part = users[first : first + group]
            jobs.append((part, chunks.pad(part, group, -1), bound))

    if isinstance(family, heads.Convex):
        newton.check(family, float(np.min(rates.prior_strength)))
        count = np.bincount(data.user, minlength=num_users)
        limits = [n for n in FEW if n < size]
        for limit, least in zip([*limits, None], [-1, *limits], strict=True):
            users = everybody[(count > least) & (count <= (limit or np.inf))]
            if len(users):
                kept = np.isin(data.user, users)
                whose = functools.partial(make, num_users, size=limit or schedule.batch_examples, among=kept)
                table = _table(data, [whose()], num_users)
                program = user_fit.exact(family, loss, limit is not None, over)
                add(program, (normaliser, shared, anchor, fallback, table, rates.prior_strength), users)
    else:
        counts = tuple(n for n in schedule.epochs if n > 0) or (1,)
        made = [make(num_users, size=schedule.batch_examples, epochs=counts[-1], seed=seed) for seed in seeds]
        total = np.inf
        if schedule.decays:
            total = max(1, int((made[0].stop - made[0].start).sum(axis=0).max(initial=0)))
        keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
        draws = user_fit.Draws(key=keys, order=jnp.arange(len(seeds)))
        if over is None:
            draws = jax.tree.map(lambda leaf: leaf[0], draws)
        bounds = np.array([(0, *counts[:-1]), counts], np.int32).T
        program = user_fit.gradient(family, problem.dims, loss, fresh, schedule.parallel, over)
        table = _table(data, made, num_users)
        arguments = (normaliser, shared, anchor, fallback, table, bounds, jnp.float32(total), draws, rates)
        add(program, arguments, everybody)
    return Prepared(jobs=jobs, template=template, fallback=fallback)


def computed(jobs: Iterable[Job]) -> Iterator[tuple[np.ndarray, Any]]:
    """(users, their result as numpy, cut to them) of every job, in order.

    On a CPU as many jobs as there are cores run at once: a head's operations are too small to be divided among cores.
    """
    waiting: collections.deque[tuple[np.ndarray, Any]] = collections.deque()
    threads = _threads()
    compiled = None

    def finish() -> tuple[np.ndarray, Any]:
        users, future = waiting.popleft()
        return users, jax.tree.map(lambda leaf: leaf[: len(users)], future.result())

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for users, rows, program in jobs:
            if program is not compiled:
                # A group of nobody takes no time but to compile, which two threads would do twice.
                jax.block_until_ready(program(np.full_like(rows, -1)))
                compiled = program
            waiting.append((users, pool.submit(lambda run, rows: jax.device_get(run(rows)), program, rows)))
            if len(waiting) > threads:
                yield finish()
        while waiting:
            yield finish()


def put(out: np.ndarray, users: np.ndarray, new: np.ndarray) -> None:
    """out[users] = new, in place."""
    out[users] = new


def _threads() -> int:
    return min(8, os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1


def _table(data: Data, orders: list[chunks.Chunks], num_users: int) -> user_fit.Table:
    """Arrays padded to few different shapes, so that fits of like size compile once."""
    count = np.bincount(data.user, minlength=num_users).astype(np.float32)
    n, users = chunks.padded(len(data.user)), chunks.padded(num_users)
    m = chunks.padded(max(len(one.rows) for one in orders))
    epochs = chunks.padded(orders[0].start.shape[0])

    def ends(name: str) -> jax.Array:
        each = np.stack([getattr(one, name) for one in orders])
        each = each[:1] if (each == each[:1]).all() else each
        return jnp.asarray(np.pad(each, [(0, 0), (0, epochs - each.shape[1]), (0, users - each.shape[2])]))

    start, stop = ends("start"), ends("stop")
    alike = start.shape[0] == stop.shape[0]
    return user_fit.Table(
        x=jnp.asarray(chunks.pad(data.x, n)),
        extras=jnp.asarray(chunks.pad(data.extras, n)),
        label=jnp.asarray(chunks.pad(data.label, n)),
        score=jnp.asarray(chunks.pad(data.score, n)),
        pool=jnp.asarray(chunks.pad(data.pool, n)),
        count=jnp.asarray(chunks.pad(count, users)),
        key=jnp.asarray(chunks.pad(data.keys.astype(np.uint32), users)),
        rows=jnp.asarray(np.stack([chunks.pad(one.rows, m, -1) for one in orders])),
        start=start if alike else jnp.broadcast_to(start, (len(orders), *start.shape[1:])),
        stop=stop if alike else jnp.broadcast_to(stop, (len(orders), *stop.shape[1:])),
    )
