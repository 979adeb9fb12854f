"""The train step: `user_grads` -> `update_heads` -> `update_shared`.

With l_u the summed loss of user u's examples and w_u its weight, base and shared parameters follow the gradient of
sum_u l_u / sum_u w_u + shared_pull prior(shared), u's head that of l_u / w_u + pull_u/2 |(head - anchor) / scale|^2;
pull_u, the prior's strength over u's examples, is the batch's, the anchor the pooled head. Rows of the bank are read
for the batch's users, updated by one vmapped optimizer and written back: who is absent stays bit-identical.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from hydrajax.nn import heads
from hydrajax.nn import scorer as scorers
from hydrajax.training import checks, losses, optimizers, rows
from hydrajax.training.examples import Batch, Evaluated
from hydrajax.training.state import TrainState
from hydrajax.types import DataError

BASE = 2**32 - 1  # no user's id: folded into the key of the base's dropout
Metrics = dict[str, Float[Array, ""]]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def make_train_step(
    scorer: scorers.Scorer,
    base_tx: optax.GradientTransformation | None,
    head_tx: optax.GradientTransformation,
    *,
    loss: str = "cross_entropy",
    normaliser: scorers.Normaliser | None = None,
    units: heads.Units | None = None,
    shared_pull: Any = 0.0,
    reduce: Callable[[Any], Any] = lambda sums: sums,
) -> Step:
    """The step as a pure function, un-jitted: `jax.jit(step, donate_argnums=0)` is the caller's.

    Shapes and types are checked when traced, numbers never: `checks.check_batch` reads those of a batch. Rows that are
    negative or at the capacity and beyond are slots without a user; who has weight 0 (padding) is left alone.

    Args:
      base_tx: optimizer of (base, shared); None: both are frozen, as in personalisation.
      head_tx: optimizer of one head, vmapped here; its weight decay shrinks head - anchor.
      loss: a name of `losses.LOSSES`.
      normaliser: statistics of the inputs; None leaves them as they are.
      units: in what heads are updated, of `heads.units`; None: every scale is 1, and there are no offsets.
      shared_pull: strength of the family's prior of shared parameters, if any, over all examples.
      reduce: adds up what shards have of the gradients of base and shared parameters: `sharded`'s psum.

    Returns:
      step(state, batch) -> (state, metrics); metrics hold `loss` (a sum) and `weight`.

    Raises:
      DataError: an unknown loss; from the step, a state or a batch of another family, width or optimizer.
    """
    loss_fn = losses.get(loss)
    units = units or heads.units(scorer.family, scorer.dims, scaled=False)
    update = functools.partial(optimizers.update_head, head_tx, units=units)
    prior = functools.partial(heads.shared_prior, scorer.family, scorer.dims, shared_pull)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        joint = base_tx is not None and bool(jax.tree.leaves((state.base, state.shared)))
        checks.check_step(scorer, state, batch, head_tx=head_tx, base_tx=base_tx if joint else None)
        size = rows.group_size(state.stored)

        def learn(state: TrainState, batch: Batch) -> tuple[TrainState, tuple[Array, Array]]:
            (of_heads, of_learned), (sums, weights) = user_grads(scorer, loss_fn, normaliser, state, batch, joint)
            state = update_heads(update, state, batch, of_heads, weights, size)
            if joint:
                state = update_shared(base_tx, prior, state, *reduce((of_learned, jnp.sum(weights))))
            return state, (sums, weights)

        if joint:  # all of them at once, since all pull at base and shared parameters
            state, (sums, weights) = learn(state, batch)
        else:  # a few at a time, while they are in the cache; in a joint step `update_heads` alone goes by groups
            batch = batch.replace(x=scorers.base_features(scorer, state.base, batch.x))
            state, (sums, weights) = rows.in_groups(learn, state, batch, size)
        return state.replace(step=state.step + 1), {"loss": jnp.sum(sums), "weight": jnp.sum(weights)}

    return step


def user_grads(
    scorer: scorers.Scorer, loss: losses.Loss, normaliser: Any, state: TrainState, batch: Batch, joint: bool
) -> tuple[tuple[heads.User, Any], tuple[Array, Array]]:
    """(Gradients of sum_u l_u by heads, [U, ...], and where `joint` by (base, shared)), (every l_u and w_u, [U])."""
    ids, key = batch.rows if batch.ids is None else batch.ids, jax.random.fold_in(state.key, state.step)
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(ids)
    # Of the first user too, so that parts of a batch on several devices do not drop the same places.
    dropout = jax.random.fold_in(jax.random.fold_in(key, BASE), ids[0]) if joint else None

    def summed(users: heads.User, learned: Any) -> tuple[Array, tuple[Array, Array]]:
        base, shared = learned or (state.base, state.shared)
        x = scorers.inputs(normaliser, scorers.base_features(scorer, base, batch.x, key=dropout), batch.extras)
        of_user = functools.partial(losses.of_user, scorer.family, loss, shared)
        each = jax.vmap(of_user)(users, x, batch.targets, key=keys)
        return jnp.sum(each[0]), each

    learned = (state.base, state.shared) if joint else None
    return jax.grad(summed, argnums=(0, 1), has_aux=True)(rows.gather(state.bank, batch.rows), learned)


def update_heads(update: Any, state: TrainState, batch: Batch, grads: Any, weights: Array, size: int) -> TrainState:
    """The users' rows updated, `size` of them at a time; a user whose weight is 0 stays as they are."""

    def group(stored: Any, part: Any) -> tuple[Any, Any]:
        row, grads, weights, pull = part
        users, opt = rows.gather(stored, row)
        new = jax.vmap(functools.partial(update, state.anchor))(users, opt, grads, weights, pull)
        return rows.scatter(stored, jnp.where(weights > 0, row, -1), new), ()

    stored, _ = rows.in_groups(group, state.stored, (batch.rows, grads, weights, batch.pull), size)
    return state.with_stored(stored)


def update_shared(base_tx: Any, prior: Any, state: TrainState, sums: Any, weight: Float[Array, ""]) -> TrainState:
    """Base and shared parameters updated by `sums` of gradients over `weight`, and by the `prior` of shared ones."""
    base_mean, shared_mean = jax.tree.map(lambda g: g / jnp.maximum(weight, 1.0).astype(g.dtype), sums)
    mean = base_mean, jax.tree.map(jnp.add, shared_mean, jax.grad(prior)(state.shared))
    updates, base_opt = optimizers.update(base_tx, mean, state.base_opt, (state.base, state.shared))
    base, shared = optax.apply_updates((state.base, state.shared), updates)
    return state.replace(base=base, shared=shared, base_opt=base_opt)


def make_eval_step(
    scorer: scorers.Scorer,
    *,
    loss: str = "cross_entropy",
    normaliser: scorers.Normaliser | None = None,
) -> Callable[[TrainState, Batch], Evaluated]:
    """Scores and losses of a batch, without dropout or learning: evaluate(state, batch), un-jitted.

    A slot whose row is negative, or the capacity or more, is scored by the anchor: the pooled head, where there is one.

    Raises:
      DataError: the family encodes users from a profile, which a batch does not hold; `fit.predict` scores them.
    """
    if isinstance(scorer.family, heads.Encoded):
        raise DataError(f"{type(scorer.family).__name__} encodes users from profiles: score them with fit.predict")
    loss_fn = losses.get(loss)

    def evaluate(state: TrainState, batch: Batch) -> Evaluated:
        checks.check_step(scorer, state, batch)

        def of_user(user: heads.User, x: Array, targets: losses.Targets) -> Any:
            s = scorers.logits(scorer.family, state.shared, user, x)
            return s, *loss_fn(s, targets)

        def group(carry: Any, part: Any) -> tuple[Any, Any]:
            return carry, jax.vmap(of_user)(rows.gather(state.bank, part[0], instead=state.anchor), *part[1:])

        x = scorers.inputs(normaliser, scorers.base_features(scorer, state.base, batch.x), batch.extras)
        return Evaluated(*rows.in_groups(group, (), (batch.rows, x, batch.targets), rows.group_size(state.stored))[1])

    return evaluate
