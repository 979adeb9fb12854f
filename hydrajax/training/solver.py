"""Heads fitted one user after another, everything else frozen: one fit, or the same fit under many settings.

Users are then independent. Instead of one wide step for all, each user's whole fit runs in one compiled loop: on a
CPU the head and its optimizer state stay in the cache, users with few records cost little beside users with many, and
the result for a user does not depend on who else is fitted.

All users go through one program; those of a convex family through up to four, by their numbers of examples (`FEW`).

Settings are learning rate, weight decay, dropout, prior strength and seed; a program fits all of them. Small heads are
fitted side by side: what settings have in common (rows of the table, products with shared matrices, the kernel of
Newton's method) is computed once, and small operations become large ones. Large heads go one after another inside the
program, since side by side they would not fit into a CPU's cache.

On two busy cores, 64 settings at d = 384 over 100 examples a user (`python -m experiments.benchmarks personalise`),
one program takes the time of 64 warm fits times .19 to .31 for `linear`, .02 to .03 for `simplex`, and .6 to .94 for
`mlp`, which goes in turn.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hydrajax.nn import backends, heads, processes
from hydrajax.nn import scorer as scorers
from hydrajax.training import checks, losses, newton, programs, rows
from hydrajax.training import examples as examples_
from hydrajax.types import DataError

Progress = Callable[[int, int], None]
# Examples up to which users of a convex family are fitted in one chunk, in a program for each number.
FEW = (32, 128, 512)
LEAST_POOLS = 8  # examples of whole pools that are compared with each other where there are more


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting of a fit; a convex family looks at the strengths of priors alone.

    Attributes:
      learning_rate: of AdamW, the step of one of D weights; see `heads.Units`.
      weight_decay: of AdamW, decoupled.
      prior_strength: of the Gaussian prior, worth so many examples.
      offset_strength: of the prior of intercepts and of what is added for an extra, where the fit is `scaled`.
      dropout: in families that have it; None: the family's own.
      seed: of initialisations, orders and dropout.
    """

    learning_rate: float = 3e-4
    weight_decay: float = 0.01
    prior_strength: float = 10.0
    offset_strength: float = 1.0
    dropout: float | None = None
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """What is fitted, all that does not learn, and what settings have in common.

    A head minimises its mean loss plus 1 / (2 n) sum_j strength_j ((head_j - anchor_j) / scale_j)^2,
    n = the user's examples.

    Attributes:
      family: of the heads.
      loss: a name of `losses.LOSSES`.
      examples: of users 0..num_users-1; x holds features.
      num_users: U.
      keys: uint32 [U], what tells users apart in draws (initialisation, order, dropout), so that a user's head does not
        depend on the row; of `checked_keys`.
      normaliser: statistics of the inputs; None leaves them as they are.
      shared: parameters that all users share, frozen.
      anchor: where heads start and what decay and prior pull to; None: initialisations of their own, and zeros.
      generic: the head of users without examples; None: the anchor.
      epochs: numbers of passes after which heads are returned; 0 is the generic head.
      batch_examples: most examples of a mini-batch.
      decays: the learning rate falls to 0 in a line over each user's updates.
      moments: type of AdamW's moments.
      clip: largest norm of a head's gradient.
      margin: float32 [N], added to the examples' scores; None: 0.
      scaled: whether `units` are those of the family; else all scales are 1, and offsets have the prior of weights.

    Convex families look at none of `epochs`, `decays`, `moments` and `clip` but for the 0 in `epochs`.
    """

    family: heads.Family
    loss: str
    examples: examples_.Examples
    num_users: int
    keys: np.ndarray
    normaliser: scorers.Normaliser | None = None
    shared: heads.Shared = dataclasses.field(default_factory=dict)
    anchor: heads.User | None = None
    generic: heads.User | None = None
    epochs: tuple[int, ...]
    batch_examples: int
    decays: bool = False
    moments: str = "float32"
    clip: float = 1.0
    margin: np.ndarray | None = None
    scaled: bool = True

    @property
    def dims(self) -> heads.Dims:
        return self.examples.dims

    @property
    def template(self) -> heads.User:
        """Shapes of one head."""
        return heads.user_shapes(self.family, self.dims)

    @property
    def units(self) -> heads.Units:
        """In what heads are fitted."""
        return heads.units(self.family, self.dims, scaled=self.scaled)


def solve(
    problem: Problem,
    settings: Sequence[Setting],
    *,
    over: programs.Over | None = None,
    parallel: int | None = None,
    group: int = 64,
    progress: Progress | None = None,
) -> tuple[dict[int, heads.User], np.ndarray]:
    """The heads of all users under every setting.

    Args:
      problem: what is fitted.
      settings: S of them; dropout is given in all or none. Numbers that change compile nothing new.
      over: how a program fits several settings; None chooses, see `layout`.
      parallel: users fitted side by side; None: one after another.
      group: most users between two calls of `progress`.
      progress: called with (users done, users).

    Returns:
      (number of epochs -> heads, numpy, every leaf [S, U, ...]; mean training loss per epoch over all users [S,
      epochs], NaN for an epoch without any loss, of convex families before and after).

    Raises:
      DataError: a convex family without a prior, or whose heads did not converge.
    """
    convex = isinstance(problem.family, heads.Convex)
    # K seeds with R settings each; a seed with fewer settings repeats its last one, which is thrown away.
    seeds = (0,) if convex else tuple(dict.fromkeys(setting.seed for setting in settings))
    members = [[i for i, setting in enumerate(settings) if convex or setting.seed == seed] for seed in seeds]
    most = max(map(len, members))
    setting_at = np.array([indices + indices[-1:] * (most - len(indices)) for indices in members])  # [K, R]
    places = [tuple(np.argwhere(setting_at == i)[0]) for i in range(len(settings))]
    if len(settings) == 1:
        over = None
    elif over is None:
        over = layout(problem.family, problem.dims)

    positive = tuple(sorted({n for n in problem.epochs if n > 0}))
    snapshots = positive[:1] if convex else positive
    template, num_users = problem.template, problem.num_users
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), template)
    anchor = zeros if problem.anchor is None else problem.anchor
    generic = anchor if problem.generic is None else problem.generic
    found = {
        n: jax.tree.map(lambda leaf: np.zeros((len(settings), num_users, *leaf.shape), leaf.dtype), template)
        for n in snapshots
    }
    totals, done = np.zeros((*setting_at.shape, 0, 2), np.float32), 0  # of each epoch: (loss sum, weight)
    rates = _rates(problem, settings, setting_at)
    user_bytes = 4 * setting_at.size * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(zeros))
    mesh = backends.mesh()
    shards = backends.shards(mesh)
    # Too few users for all processes are fitted in each of them.
    divided = processes.count() > 1 and num_users >= processes.count()
    own = processes.mine(num_users) if divided else np.arange(num_users)
    group = shards * rows.users_in_call(-(-len(own) // shards), user_bytes, group)
    how = _How(parallel=parallel, over=over, mesh=mesh)
    fits = (
        _exact(problem, rates, anchor, generic, how)
        if convex
        else _gradient(problem, rates, anchor, generic, how, seeds, snapshots)
    )
    error = None
    try:
        for users, (made, of_users, left) in _computed(fits if snapshots else (), own, group, shards):
            if convex:
                newton.check_converged(users, of_users, left)
            for s, place in enumerate(places):
                for i, n in enumerate(snapshots):
                    jax.tree.map(lambda out, new: _put(out[s], users, new[:, *place, i]), found[n], made)  # noqa: B023
            totals = of_users.sum(axis=0) if done == 0 else totals + of_users.sum(axis=0)
            done += len(users)
            if progress is not None:
                progress(done, len(own))
    except DataError as refused:
        error = refused
    processes.agree(error)
    if divided:
        totals = processes.summed(totals)
        for users in found.values():
            jax.tree.map(lambda leaf: _complete(leaf, own), users)
    if convex and snapshots:
        found = dict.fromkeys(positive, found[snapshots[0]])
    elif snapshots:
        totals = totals[:, :, : snapshots[-1]]
    if 0 in problem.epochs:
        lead = (len(settings), num_users)
        found[0] = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (*lead, *np.shape(leaf))).copy(), generic)
    sums, weights = np.moveaxis(np.stack([totals[place] for place in places]), -1, 0)
    return found, np.where(weights > 0, sums / np.maximum(weights, 1.0), np.nan)


def layout(family: heads.Family, dims: heads.Dims) -> programs.Over:
    """How a program fits several settings; see `rows.settings_over`."""
    return rows.settings_over(heads.head_bytes(family, dims))


def checked_keys(user_keys: Any, num_users: int) -> np.ndarray:
    """What tells users apart in draws, uint32 [num_users]; None: the row numbers.

    Raises:
      DataError: another number of keys, or numbers that would wrap or be cut.
    """
    if user_keys is None:
        return np.arange(num_users, dtype=np.uint32)
    keys = checks.whole(user_keys, "user_keys", 0, 2**32 - 1).astype(np.uint32)
    if keys.shape != (num_users,):
        raise DataError(f"user_keys has shape {list(keys.shape)}, expected [{num_users}]")
    return keys


@dataclasses.dataclass(frozen=True, kw_only=True)
class _How:
    """Where a program's users and settings go: see `solve`; the mesh is that of all devices."""

    parallel: int | None
    over: programs.Over | None
    mesh: Any


_Fit = tuple[Callable[[np.ndarray], Any], np.ndarray]  # a program that takes a group of users, and all its users


def _gradient(
    problem: Problem,
    rates: programs.Rates,
    anchor: heads.User,
    generic: heads.User,
    how: _How,
    seeds: Sequence[int],
    snapshots: Sequence[int],
) -> Iterator[_Fit]:
    """All users in one program, by AdamW; heads are kept after each of the numbers of epochs in `snapshots`."""
    examples = problem.examples
    orders = [
        examples_.chunked(
            examples.user,
            examples.pool,
            problem.num_users,
            size=problem.batch_examples,
            epochs=snapshots[-1],
            seed=seed,
            keys=problem.keys,
            whole_pools=problem.loss in losses.WITHIN_POOL,
        )
        for seed in seeds
    ]
    fresh = problem.anchor is None
    fit = (problem.loss, fresh, problem.moments, problem.clip)
    run = programs.gradient(problem.family, problem.dims, *fit, how.parallel, how.over, how.mesh)
    table = programs.Table.of(examples, problem.keys, orders, problem.margin, problem.loss in losses.WITHIN_POOL)
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    segments = np.array([(0, *snapshots[:-1]), snapshots], np.int32).T
    arguments = (
        problem.normaliser,
        problem.shared,
        problem.units,
        anchor,
        generic,
        table,
        rates,
        keys,
        segments,
        jnp.bool_(problem.decays),
    )
    yield (
        functools.partial(run, *backends.everywhere(arguments, how.mesh)),
        np.arange(problem.num_users, dtype=np.int32),
    )


def _exact(
    problem: Problem, rates: programs.Rates, anchor: heads.User, generic: heads.User, how: _How
) -> Iterator[_Fit]:
    """By Newton's method: a program for each number of `FEW` that is below a head's parameters, for users with up to so
    many examples, and one for all others."""
    family, examples, num_users = problem.family, problem.examples, problem.num_users
    newton.check(family, float(np.min(rates.prior_strength)))
    whole_pools = problem.loss in losses.WITHIN_POOL
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(problem.template))
    count = np.bincount(examples.user, minlength=num_users)
    limits = [n for n in FEW if n < parameters]
    for limit, least in zip([*limits, None], [-1, *limits], strict=True):
        users = np.flatnonzero((count > least) & (count <= (limit or np.inf))).astype(np.int32)
        if not len(users):
            continue
        mine = np.isin(examples.user, users)
        size = limit or rows.pooled_batch(len(examples.user))
        if whole_pools and limit is None:
            # A pool's own block of the Hessian is then hardly larger than the pool.
            size = examples_.padded(int(np.unique(examples.pool[mine], return_counts=True)[1].max()), LEAST_POOLS)
        order = examples_.chunked(
            np.where(mine, examples.user, num_users), examples.pool, num_users, size=size, whole_pools=whole_pools
        )
        run = programs.exact(family, problem.loss, limit is not None, how.over, how.parallel, how.mesh)
        table = programs.Table.of(examples, problem.keys, [order], problem.margin)
        arguments = (problem.normaliser, problem.shared, problem.units, anchor, generic, table, rates)
        yield functools.partial(run, *backends.everywhere(arguments, how.mesh)), users


def _computed(fits: Iterable[_Fit], own: np.ndarray, group: int, shards: int) -> Iterator[tuple[np.ndarray, Any]]:
    """(users, their result as numpy) of every group of this process's own users.

    On a CPU as many groups as there are cores run at once: a head's operations are too small to be divided among cores.
    On several devices each computes its own part of a group: users are dealt like cards.
    """
    waiting: collections.deque[tuple[np.ndarray, Any]] = collections.deque()
    threads = rows.calls_in_parallel()

    def finish() -> tuple[np.ndarray, Any]:
        users, future = waiting.popleft()
        real = slice(int((users >= 0).sum())) if shards == 1 else users >= 0
        return users[real], jax.tree.map(lambda leaf: leaf[real], future.result())

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for run, users_ in fits:
            everybody = users_[np.isin(users_, own)]
            if len(everybody):
                # A group of nobody takes no time but to compile, which two threads would do twice.
                jax.block_until_ready(run(np.full(group, -1, np.int32)))
            for first in range(0, len(everybody), group):
                padded = examples_.pad(everybody[first : first + group], group, -1)
                users = padded.reshape(-1, shards).T.ravel()
                waiting.append((users, pool.submit(lambda run, users: jax.device_get(run(users)), run, users)))
                if len(waiting) > threads:
                    yield finish()
        while waiting:
            yield finish()


def _complete(leaf: np.ndarray, own: np.ndarray) -> None:
    """Writes into heads [S, U, ...] those of the other processes' users."""
    leaf[:] = np.moveaxis(processes.whole(np.moveaxis(leaf[:, own], 1, 0), leaf.shape[1]), 0, 1)


def _put(out: np.ndarray, users: np.ndarray, new: np.ndarray) -> None:
    out[users] = new


def _rates(problem: Problem, settings: Sequence[Setting], setting_at: np.ndarray) -> programs.Rates:
    """Rates with leaves [K, R]; dropout is traced only where it is given."""

    def column(name: str, factor: float = 1.0) -> jax.Array:
        return jnp.asarray(np.array([getattr(setting, name) * factor for setting in settings], np.float32)[setting_at])

    return programs.Rates(
        learning_rate=column("learning_rate", 1.0 / problem.units.step),
        weight_decay=column("weight_decay"),
        prior_strength=column("prior_strength"),
        offset_strength=column("offset_strength" if problem.scaled else "prior_strength"),
        dropout=None if settings[0].dropout is None else column("dropout"),
    )
