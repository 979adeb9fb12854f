"""The compiled programs that fit one user's head after another, everything else frozen.

Users are independent, so each user's whole fit is one loop: on a CPU the head and its optimizer state stay in the
cache, users with few examples cost little beside users with many, and a head does not depend on who else is fitted.

Each program takes one setting, or (`over`) many of them on the same features: `map` fits them one after another, which
keeps a large head in the cache, `vmap` side by side, which saves the overhead of small operations.

Measured on two busy cores for `mlp` at d = 384, two epochs over 100 examples, ms a user (`python -m
experiments.benchmarks personalise`): users in turn 4.7 at 20 examples an update and 2.9 at 100; 2 side by side 5.7 and
3.4, 8 side by side 9.2 and 5.2, 16 side by side 10.7 and 5.7; a Python loop over users with the same update 9.2 and
5.1. So a CPU takes users in turn, and an accelerator, which was not measured, a group side by side. Rows that are
gathered from the table in an order of their own cost as much as rows that lie there in order (5.5 and 5.4 at 20).
"""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from hydrajax.nn import heads
from hydrajax.nn import scorer as scorers
from hydrajax.training import losses, newton, optimizers
from hydrajax.training import state as states

Over = Literal["map", "vmap"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """The examples and what is drawn of them, on the device.

    Attributes:
      x: float32 [N, D].
      extras: float32 [N, X].
      label: float32 [N].
      score: float32 [N].
      pool: int32 [N].
      count: float32 [U], the user's examples.
      key: uint32 [U], what tells users apart in draws.
      rows: int32 [K, M, E], the examples of each chunk in each of K orders, -1 = padding.
      start: int32 [K, epochs, U], the user's first chunk; [1, ...] where it is the same in all orders.
      stop: int32, the same, behind the user's last chunk.
    """

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

    def chunk(self, normaliser: scorers.Normaliser | None, order: Any, index: Any) -> tuple[Array, losses.Targets]:
        """The inputs [E, I] of the heads and the targets of one chunk."""
        rows = self.rows[order, index]
        take = jnp.maximum(rows, 0)
        targets = losses.Targets(label=self.label[take], score=self.score[take], pool=self.pool[take], mask=rows >= 0)
        x, extras = self.x[take], self.extras[take]
        if normaliser is None:
            return jnp.concatenate([x, extras], axis=-1), targets
        return scorers.inputs(normaliser, x, extras), targets


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Draws:
    """What a seed decides: a typed key, and which of the table's orders. Scalars, or [K] for K seeds."""

    key: Any
    order: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Rates:
    """The numbers of a setting. Scalars, or [K, R] for K seeds with R settings each; dropout None: the family's own."""

    learning_rate: Any
    weight_decay: Any
    prior_strength: Any
    dropout: Any = None


@functools.lru_cache(maxsize=64)
def gradient(
    family: heads.Family, dims: heads.Dims, loss: str, fresh: bool, parallel: int | None, over: Over | None = None
) -> Any:
    """The program of AdamW steps: run(normaliser, shared, anchor, fallback, table, bounds, total, draws, rates, rows).

    `bounds` int32 [n, 2] are the first epoch and the one behind the last of each of n snapshots, `total` the updates
    over which the rate falls to 0, `rows` int32 [G] users, -1 = nobody. It returns heads, every leaf [G, n, ...], and
    (loss sum, weight) [G, epochs, 2]; with `over` [G, K, R, n, ...] and [G, K, R, epochs, 2].
    """
    loss_fn = losses.get(loss)

    def run(normaliser, shared, anchor, fallback, table, bounds, total, draws, rates, rows):
        def fit_one(row, draws, rates):
            used = family if rates.dropout is None else heads.at_dropout(family, rates.dropout)
            here = jnp.maximum(row, 0)
            pull = rates.prior_strength / jnp.maximum(table.count[here], 1.0)
            order = draws.order if table.start.shape[0] > 1 else 0
            starts = table.start[order, :, here]
            # A row of -1 fills the group up: nobody, so no chunk.
            stops = jnp.where(row >= 0, table.stop[order, :, here], starts)
            dropout = jax.random.fold_in(jax.random.fold_in(draws.key, 3), table.key[here])

            head_tx = optimizers.adamw(rates.learning_rate, rates.weight_decay, total=total)

            def summed(user, x, targets, key):
                return loss_fn(scorers.logits(used, shared, user, x, key=key), targets)

            def update(index, carry):
                user, opt, number, loss_sum, weight_sum = carry
                x, targets = table.chunk(normaliser, draws.order, index)
                key = jax.random.fold_in(dropout, number)
                (value, weight), grad = jax.value_and_grad(summed, has_aux=True)(user, x, targets, key)
                new = optimizers.update_head(head_tx, anchor, user, opt, grad, weight, pull)
                user, opt = jax.tree.map(lambda a, b: jnp.where(weight > 0, a, b), new, (user, opt))
                return user, opt, number + 1, loss_sum + value, weight_sum + weight

            def epoch(number, carry):
                user, opt, done, curve = carry
                zero = jnp.zeros((), jnp.float32)
                inner = (user, opt, done, zero, zero)
                user, opt, done, *seen = jax.lax.fori_loop(starts[number], stops[number], update, inner)
                return user, opt, done, curve.at[number].set(jnp.stack(seen))

            def segment(carry, ends):
                carry = jax.lax.fori_loop(ends[0], ends[1], epoch, carry)
                return carry, carry[0]

            user = family.init_user(states.user_key(draws.key, table.key[here]), dims) if fresh else anchor
            curve = jnp.zeros((table.start.shape[1], 2), jnp.float32)
            carry, users = jax.lax.scan(segment, (user, head_tx.init(user), jnp.zeros((), jnp.int32), curve), bounds)
            # Without any loss (no examples, or none that differ) nothing was learned of the user.
            empty = jnp.sum(carry[-1][:, 1]) == 0
            return jax.tree.map(lambda leaf, rest: jnp.where(empty, rest[None], leaf), users, fallback), carry[-1]

        return jax.lax.map(lambda row: _over(fit_one, over, row, draws, rates), rows, batch_size=parallel)

    return jax.jit(run)


def _over(fit_one: Any, over: Over | None, row: Any, draws: Draws, rates: Rates) -> Any:
    if over is None:
        return fit_one(row, draws, rates)
    spread = jax.vmap if over == "vmap" else lambda run: lambda *args: jax.lax.map(lambda one: run(*one), args)
    return spread(lambda d, of_seed: spread(lambda r: fit_one(row, d, r))(of_seed))(draws, rates)


@functools.lru_cache(maxsize=64)
def exact(family: heads.Convex, loss: str, few: bool, over: Over | None = None) -> Any:
    """The program of Newton's method: run(normaliser, shared, anchor, fallback, table, strength, rows).

    Args:
      family: with a design.
      loss: a name of `losses.LOSSES`.
      few: each user's examples are one chunk, of fewer examples than the head has parameters.
      over: `strength` is [R], and results are [G, R, ...]: heads, and (curve, left) of `newton.minimise`.
    """
    loss_fn = losses.get(loss)

    def run(normaliser, shared, anchor, fallback, table, strength, rows):
        def fit_one(row):
            here = jnp.maximum(row, 0)
            start = table.start[0, 0, here]
            stop = jnp.where(row >= 0, table.stop[0, 0, here], start)

            def chunk(index):
                x, targets = table.chunk(normaliser, 0, index)
                return jax.vmap(lambda one: family.design(shared, one))(x), targets

            if few:
                design, targets = chunk(start)
                targets = targets.replace(mask=targets.mask & (stop > start))
                solve = newton.few(loss_fn, design, targets, anchor)
            else:

                def solve(strength):
                    return newton.minimise(loss_fn, chunk, start, stop, anchor, strength)

            def finish(strength):
                user, curve, left = solve(strength)
                empty = curve[1, 1] == 0
                return jax.tree.map(lambda leaf, rest: jnp.where(empty, rest, leaf)[None], user, fallback), (
                    curve,
                    left,
                )

            if over is None:
                return finish(strength)
            return jax.lax.map(finish, strength) if over == "map" else jax.vmap(finish)(strength)

        return jax.lax.map(fit_one, rows)

    return jax.jit(run)
