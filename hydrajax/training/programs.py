"""The compiled programs that take one user after another: gradient steps, Newton's method, scores.

Users are independent, so each user's whole fit is one loop: on a CPU the head and its optimizer state stay in the
cache, users with few examples cost little beside users with many, and a head does not depend on who else is fitted.

A fit's program takes one setting, or (`over`) K seeds with R settings each on the same features: `map` fits them one
after another, which keeps a large head in the cache, `vmap` side by side, which saves the overhead of small operations.
Users go in turn on a CPU, in groups side by side on an accelerator (`rows`; measured in docs/performance.md).
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from hydrajax.nn import backends, heads
from hydrajax.nn import scorer as scorers
from hydrajax.training import examples as examples_
from hydrajax.training import losses, newton, optimizers
from hydrajax.training import rows as rows_
from hydrajax.training import state as states

Over = Literal["map", "vmap"]
SCORED = 32  # examples of one user that are scored at once
# Least lengths of arrays, below which fits of any size share a program.
EXAMPLES, CHUNKS, EPOCHS, USERS = 1024, 256, 32, 64


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """The examples and what is drawn of them, on the device.

    Attributes:
      x: float32 [N, D].
      extras: float32 [N, X].
      targets: [N], all of them real.
      count: float32 [U], the user's examples.
      key: uint32 [U], what tells users apart in draws.
      rows: int32 [K, M, E], the rows here of each chunk's examples in each of K orders, -1 = padding.
      start: int32 [K, epochs, U], the user's first chunk; [1, ...] where it is the same in all orders.
      stop: int32, the same, behind the user's last chunk.
    """

    x: Any
    extras: Any
    targets: losses.Targets
    count: Any
    key: Any
    rows: Any
    start: Any
    stop: Any

    @classmethod
    def of(
        cls,
        examples: examples_.Examples,
        keys: Integer[np.ndarray, " U"],
        orders: Sequence[examples_.Chunks],
        margin: Float[np.ndarray, " N"] | None = None,
        whole_pools: bool = False,
    ) -> "Table":
        """The arrays, padded to few different shapes, so that fits of like size compile once."""
        n, users = (examples_.padded(len(array), least) for array, least in ((examples.user, EXAMPLES), (keys, USERS)))
        chunks = examples_.padded(max(len(order.rows) for order in orders), CHUNKS)
        epochs = examples_.padded(len(orders[0].start), EPOCHS)
        start, stop = (np.stack([getattr(order, name) for order in orders]) for name in ("start", "stop"))
        if all((ends == ends[:1]).all() for ends in (start, stop)):
            start, stop = start[:1], stop[:1]
        unused = [(0, 0), (0, epochs - start.shape[1]), (0, users - start.shape[2])]

        def column(array: np.ndarray) -> Array:
            return jnp.asarray(examples_.pad(array, n))

        return cls(
            x=column(examples.features),
            extras=column(examples.extras),
            targets=losses.Targets(
                label=column(examples.label),
                score=column(examples.score),
                pool=column(examples.pool),
                mask=column(np.ones(len(examples.user), bool)),
                margin=None if margin is None else column(margin),
                beside=losses.beside(examples.pool) if whole_pools else None,
            ),
            count=jnp.asarray(np.bincount(examples.user, minlength=users).astype(np.float32)),
            key=jnp.asarray(examples_.pad(keys.astype(np.uint32), users)),
            rows=jnp.asarray(np.stack([examples_.pad(order.rows, chunks, -1) for order in orders])),
            start=jnp.asarray(np.pad(start, unused)),
            stop=jnp.asarray(np.pad(stop, unused)),
        )

    def chunk(self, normaliser: scorers.Normaliser | None, order: Any, index: Any) -> tuple[Array, losses.Targets]:
        """The inputs [E, I] of the heads and the targets of one chunk."""
        members = self.rows[order, index]
        take = jnp.maximum(members, 0)
        x, extras, targets = jax.tree.map(lambda leaf: leaf[take], (self.x, self.extras, self.targets))
        return scorers.inputs(normaliser, x, extras), targets.replace(mask=members >= 0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Rates:
    """The numbers of settings, float32 [K, R] for K seeds with R settings each; dropout None: the family's own."""

    learning_rate: Any
    weight_decay: Any
    prior_strength: Any
    offset_strength: Any
    dropout: Any = None


@functools.lru_cache(maxsize=64)
def gradient(
    family: heads.Family,
    dims: heads.Dims,
    loss: str,
    fresh: bool,
    moments: str,
    clip: float,
    parallel: int | None,
    over: Over | None,
    mesh: jax.sharding.Mesh | None = None,
) -> Any:
    """The program of AdamW steps.

    Args:
      family: whose heads are fitted.
      dims: widths of its input.
      loss: a name of `losses.LOSSES`.
      fresh: heads start at initialisations of their own, else at the anchor.
      moments: type of AdamW's moments.
      clip: largest norm of a head's gradient.
      parallel: users side by side; None: one after another.
      over: how settings are fitted; None: there is one.
      mesh: devices among which the users are divided; None: there is one.

    Returns:
      run(normaliser, shared, units, anchor, generic, table, rates, keys, segments, decays, group) -> (heads, every leaf
      [G, K, R, n, ...]; (loss sum, weight) float32 [G, K, R, epochs, 2]; None). `units` are those of `heads.units`,
      `generic` the head of users of whom nothing is learned, `keys` [K] are typed keys, `segments` int32 [n, 2] the
      epochs before each of n snapshots, the first and the one behind the last, `decays` whether the rate falls to 0 in
      a line over the user's updates, `group` int32 [G] the users' rows, -1 = nobody.
    """
    loss_fn = losses.get(loss)

    def fit_by_gradient(normaliser, shared, units, anchor, generic, table, rates, keys, segments, decays, group):
        def fit_user(row, key, order, rates):
            used = family if rates.dropout is None else heads.at_dropout(family, rates.dropout)
            here = jnp.maximum(row, 0)
            pull = rates.prior_strength / jnp.maximum(table.count[here], 1.0)
            # Without any prior there is none of offsets either.
            offset_prior = rates.offset_strength / jnp.where(pull > 0, rates.prior_strength, 1.0)
            of_user = units.replace(offset_prior=offset_prior)
            turn = order if table.start.shape[0] > 1 else 0
            starts = table.start[turn, :, here]
            # A row of -1 fills the group up: nobody, so no chunk.
            stops = jnp.where(row >= 0, table.stop[turn, :, here], starts)
            dropout = jax.random.fold_in(jax.random.fold_in(key, 3), table.key[here])

            total = jnp.where(decays, jnp.maximum(jnp.sum(stops - starts), 1).astype(jnp.float32), jnp.inf)
            head_tx = optimizers.adamw(rates.learning_rate, rates.weight_decay, clip=clip, total=total, moments=moments)

            def summed(user, x, targets, key):
                return loss_fn(scorers.logits(used, shared, user, x, key=key), targets)

            def update(index, carry):
                user, opt, number, loss_sum, weight_sum = carry
                x, targets = table.chunk(normaliser, order, index)
                key = jax.random.fold_in(dropout, number)
                (value, weight), grad = jax.value_and_grad(summed, has_aux=True)(user, x, targets, key)
                new = optimizers.update_head(head_tx, anchor, user, opt, grad, weight, pull, units=of_user)
                user, opt = jax.tree.map(lambda a, b: jnp.where(weight > 0, a, b), new, (user, opt))
                return user, opt, number + 1, loss_sum + value, weight_sum + weight

            def epoch(number, carry):
                user, opt, done, totals = carry
                zero = jnp.zeros((), jnp.float32)
                inner = (user, opt, done, zero, zero)
                user, opt, done, *sums = jax.lax.fori_loop(starts[number], stops[number], update, inner)
                return user, opt, done, totals.at[number].set(jnp.stack(sums))

            def segment(carry, ends):
                carry = jax.lax.fori_loop(ends[0], ends[1], epoch, carry)
                return carry, carry[0]

            user = family.init_user(states.user_key(key, table.key[here]), dims) if fresh else anchor
            totals = jnp.zeros((table.start.shape[1], 2), jnp.float32)
            carry, users = jax.lax.scan(segment, (user, head_tx.init(user), jnp.zeros((), jnp.int32), totals), segments)
            # Without any loss (no examples, or none that differ) nothing was learned of the user.
            empty = jnp.sum(carry[-1][:, 1]) == 0
            return jax.tree.map(lambda leaf, rest: jnp.where(empty, rest[None], leaf), users, generic), carry[-1], None

        def fit_settings(row):
            def fit_seed(key, order, rates):
                return _spread(over, lambda rates: fit_user(row, key, order, rates))(rates)

            return _spread(over, fit_seed)(keys, jnp.arange(keys.shape[0]), rates)

        return jax.lax.map(fit_settings, group, batch_size=parallel)

    return jax.jit(backends.dealt(fit_by_gradient, mesh, 10))


@functools.lru_cache(maxsize=64)
def exact(
    family: heads.Convex,
    loss: str,
    few: bool,
    over: Over | None,
    parallel: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> Any:
    """The program of Newton's method.

    Args:
      family: with a design.
      loss: a name of `losses.LOSSES`.
      few: each user's examples are one chunk, of fewer examples than the head has parameters.
      over: how settings are fitted; None: there is one.
      parallel: users side by side; None: one after another.
      mesh: devices among which the users are divided; None: there is one.

    Returns:
      run(normaliser, shared, units, anchor, generic, table, rates, group) -> (heads, every leaf [G, 1, R, 1, ...];
      (loss sum, weight) before and after, float32 [G, 1, R, 2, 2]; what is left to gain, float32 [G, 1, R]).
    """
    loss_fn = losses.get(loss)

    def fit_by_newton(normaliser, shared, units, anchor, generic, table, rates, group):
        dims = heads.Dims(features=table.x.shape[1], extras=table.extras.shape[1])
        places = newton.offset_places(family, dims)

        def fit_user(row):
            here = jnp.maximum(row, 0)
            start = table.start[0, 0, here]
            stop = jnp.where(row >= 0, table.stop[0, 0, here], start)

            def designed(chunks):
                """The designs and targets of whole chunks; of those behind the last one all is padding."""
                x, targets = table.chunk(normaliser, 0, chunks)
                lead = targets.mask.shape
                designs = jax.vmap(lambda one: family.design(shared, one))(x.reshape(-1, x.shape[-1]))
                targets = targets.replace(mask=targets.mask & jnp.reshape(chunks < stop, (-1, 1)))
                design = jax.tree.map(lambda leaf: leaf.reshape(*lead, *leaf.shape[1:]), designs)
                if loss in losses.OF_DIFFERENCES:
                    # What a pool has in common, an intercept above all, is then nothing, not rounding errors.
                    first = jax.vmap(losses.first_of_pool)(targets)
                    design = jax.tree.map(lambda leaf: leaf - jax.vmap(lambda a, i: a[i])(leaf, first), design)
                return design, targets

            def finish(strengths):
                strength, offset_strength = strengths
                prior = newton.Prior.of(units, anchor, strength, offset_strength, places)
                if few:
                    design, targets = jax.tree.map(lambda leaf: leaf[0], designed(start[None]))
                    user, totals, left = newton.few(loss_fn, design, targets, anchor, prior)
                else:
                    at_once = max(1, rows_.pooled_batch(table.x.shape[0]) // table.rows.shape[2])

                    def block(index):
                        return designed(start + index * at_once + jnp.arange(at_once))

                    blocks = -(-(stop - start) // at_once)
                    user, totals, left = newton.minimise(loss_fn, block, blocks, anchor, prior)
                empty = totals[1, 1] == 0
                return jax.tree.map(lambda leaf, rest: jnp.where(empty, rest, leaf)[None], user, generic), totals, left

            priors = (rates.prior_strength[0], rates.offset_strength[0])
            return jax.tree.map(lambda leaf: leaf[None], _spread(over, finish)(priors))

        with backends.exact_products():
            return jax.lax.map(fit_user, group, batch_size=parallel)

    return jax.jit(backends.dealt(fit_by_newton, mesh, 7))


def score(
    family: heads.Family,
    shared: heads.Shared,
    users: heads.User,
    x: Float[np.ndarray, "N D"],
    extras: Float[np.ndarray, "N X"],
    rows: Integer[np.ndarray, " N"],
    *,
    normaliser: scorers.Normaliser,
) -> Float[np.ndarray, " N"]:
    """Scores of examples, each by the head at its row of `users`, every leaf [U, ...]; dropout is off.

    Heads of `on_devices` are used where they are; others are copied there.
    """
    num_users = int(rows.max(initial=-1)) + 1
    made = examples_.chunked(rows, np.zeros_like(rows), num_users, size=SCORED)
    owner = np.repeat(np.arange(num_users, dtype=np.int32), (made.stop - made.start)[0])
    mesh, parallel = backends.mesh(), rows_.users_in_parallel(CHUNKS)
    chunks = backends.multiple(examples_.padded(len(owner), CHUNKS), backends.shards(mesh))
    if mesh is None and parallel is None:
        # Only the heads that are asked for are copied to the device, in a stack of few different sizes.
        stack = jax.tree.map(lambda leaf: _asked(np.asarray(leaf), num_users), users)
        n = examples_.padded(len(rows), EXAMPLES)
        columns = [examples_.pad(*args) for args in ((x, n), (extras, n), (made.rows, chunks, -1), (owner, chunks))]
        by_chunk = np.asarray(_score(family)(normaliser, shared, stack, *columns, np.int32(len(owner))))[: len(owner)]
    else:
        stack = jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.Array) else _asked(leaf, num_users), users)
        stack = backends.everywhere(stack, mesh)
        take = np.maximum(made.rows, 0)
        columns = [examples_.pad(column, chunks) for column in (owner, x[take], extras[take])]
        program = _score_dealt(family, parallel, mesh)
        by_chunk = np.asarray(program(normaliser, shared, stack, *columns))[: len(owner)]
    scores = np.zeros(len(rows), np.float32)
    real = made.rows >= 0
    scores[made.rows[real]] = by_chunk[real]
    return scores


def on_devices(users: heads.User) -> heads.User:
    """Heads, every leaf [U, ...], where `score` needs them, so that no call copies them there again.

    One CPU needs them where they are.
    """
    mesh = backends.mesh()
    if mesh is None and backends.on_cpu():
        return users
    return backends.everywhere(jax.tree.map(lambda leaf: jnp.asarray(_asked(leaf, len(leaf))), users), mesh)


def _asked(leaf: Any, num_users: int) -> np.ndarray:
    """The first rows, and as many of zeros that the array has one of few different sizes."""
    return examples_.pad(np.asarray(leaf)[:num_users], examples_.padded(num_users))


@functools.lru_cache(maxsize=64)
def _score(family: heads.Family) -> Any:
    def score_chunks(normaliser, shared, users, x, extras, rows, owner, chunks):
        def add(index, scores):
            user = jax.tree.map(lambda leaf: leaf[owner[index]], users)
            take = jnp.maximum(rows[index], 0)
            inputs = scorers.inputs(normaliser, x[take], extras[take])
            return scores.at[index].set(scorers.logits(family, shared, user, inputs))

        return jax.lax.fori_loop(0, chunks, add, jnp.zeros(rows.shape, jnp.float32))

    return jax.jit(score_chunks)


@functools.lru_cache(maxsize=64)
def _score_dealt(family: heads.Family, parallel: int | None, mesh: jax.sharding.Mesh | None) -> Any:
    """The same by chunks that are divided among devices, and on each so many side by side."""

    def score_chunks(normaliser, shared, users, owner, x, extras):
        def of_chunk(chunk):
            owner, x, extras = chunk
            user = jax.tree.map(lambda leaf: leaf[owner], users)
            return scorers.logits(family, shared, user, scorers.inputs(normaliser, x, extras))

        return jax.lax.map(of_chunk, (owner, x, extras), batch_size=parallel)

    return jax.jit(backends.dealt(score_chunks, mesh, 3))


def _spread(over: Over | None, run: Any) -> Any:
    """`run` over the first axis of its arguments; without `over` that axis has one element."""
    if over == "vmap":
        return jax.vmap(run)
    if over == "map":
        return lambda *args: jax.lax.map(lambda one: run(*one), args)
    return lambda *args: jax.tree.map(lambda leaf: leaf[None], run(*jax.tree.map(lambda leaf: leaf[0], args)))
