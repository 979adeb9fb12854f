"""The train step: one update of the base, of what users share, and of the heads of the users in the batch.

Rows of the bank (parameters and optimizer state) are gathered, updated by one vmapped optimizer and scattered back:
the cost depends on the users in the batch, not on the size of the bank, and who is absent stays bit-identical.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from hydrajax.nn import heads
from hydrajax.nn import scorer as scorers
from hydrajax.training import losses, optimizers, user_loss
from hydrajax.training.state import TrainState

Metrics = dict[str, Float[Array, ""]]
Step = Callable[[TrainState, "Batch"], tuple[TrainState, Metrics]]


@flax.struct.dataclass
class Batch:
    """Examples by user: every array is [U, E, ...] but `rows` and `pull`, which are [U].

    Attributes:
      rows: int32, the users' rows in the bank, all different; a slot without a user has the bank's capacity C.
      x: features float32 [U, E, D], or `tokens.Tokens` [U, E, T] where the base is trained.
      extras: float32 [U, E, X].
      targets: labels, scores, pools and the mask.
      pull: float32, strength of the Gaussian prior at the state's anchor, divided by the user's examples in all.
    """

    rows: Any
    x: Any
    extras: Any
    targets: losses.Targets
    pull: Any


def make_train_step(
    scorer: scorers.Scorer,
    base_tx: optax.GradientTransformation,
    head_tx: optax.GradientTransformation,
    *,
    loss: str = "cross_entropy",
    normaliser: scorers.Normaliser | None = None,
) -> Step:
    """The step as a pure function, un-jitted: `jax.jit(step, donate_argnums=0)` is the caller's.

    With l_u the summed loss of user u's examples and w_u its weight, base and shared parameters follow the gradient
    of sum_u l_u / sum_u w_u, and user u's head that of l_u / w_u + pull_u/2 |head - anchor|^2. Weight decay in
    `head_tx` shrinks head - anchor. A user whose weight is 0 (nothing but padding) is left alone.

    Args:
      scorer: base and head family.
      base_tx: optimizer of (base, shared).
      head_tx: optimizer of one head; vmapped here.
      loss: a name of `losses.LOSSES`.
      normaliser: statistics of the inputs; None leaves them as they are.

    Returns:
      step(state, batch) -> (state, metrics); metrics hold `loss` (a sum) and `weight`.
    """
    loss_fn = losses.get(loss)

    def objective(learned: Any, batch: Batch, key: Array, capacity: int) -> tuple[Array, Any]:
        base, shared, users = learned
        z = scorers.base_features(scorer, base, batch.x, key=jax.random.fold_in(key, capacity))
        x = _inputs(normaliser, z, batch.extras)
        keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(batch.rows)
        of_user = functools.partial(user_loss.of, scorer.family, loss_fn, shared)
        sums, weights = jax.vmap(lambda *one: of_user(*one[:3], key=one[3]))(users, x, batch.targets, keys)
        return jnp.sum(sums), (sums, weights)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        capacity = _capacity(state)
        users, users_opt = gather((state.bank, state.bank_opt), batch.rows)
        key = jax.random.fold_in(state.key, state.step)
        grads, (sums, weights) = jax.grad(objective, has_aux=True)(
            (state.base, state.shared, users), batch, key, capacity
        )
        base_grad, shared_grad, user_grads = grads
        update = jax.vmap(lambda *user: update_head(head_tx, state.anchor, *user))
        users, users_opt = update(users, users_opt, user_grads, weights, batch.pull)
        rows = jnp.where(weights > 0, batch.rows, capacity)
        bank, bank_opt = scatter((state.bank, state.bank_opt), rows, (users, users_opt))

        base, shared, base_opt = state.base, state.shared, state.base_opt
        if jax.tree.leaves((base, shared)):
            total = jnp.maximum(jnp.sum(weights), 1.0)
            mean = jax.tree.map(lambda g: g / total, (base_grad, shared_grad))
            updates, base_opt = optimizers.update(base_tx, mean, base_opt, (base, shared))
            base, shared = optax.apply_updates((base, shared), updates)
        state = state.replace(
            step=state.step + 1,
            base=base,
            shared=shared,
            bank=bank,
            base_opt=base_opt,
            bank_opt=bank_opt,
        )
        return state, {"loss": jnp.sum(sums), "weight": jnp.sum(weights)}

    return step


def init_state(
    scorer: scorers.Scorer,
    base_tx: optax.GradientTransformation,
    head_tx: optax.GradientTransformation,
    *,
    num_users: int,
    key: Array,
    base: Any = None,
    head: heads.User | None = None,
) -> TrainState:
    """A state before the first step.

    Args:
      scorer: base and head family.
      base_tx: as given to `make_train_step`.
      head_tx: as given to `make_train_step`.
      num_users: C, the capacity of the bank.
      key: a typed key.
      base: parameters of a base that is trained; None where features are given.
      head: every user's first head, and where decay and prior pull; None: each user's own initialisation, and zeros.
    """

    def make(key: Array, base: Any, head: Any) -> TrainState:
        shared = scorer.family.init_shared(jax.random.fold_in(key, 0), scorer.dims)
        if head is None:
            keys = jax.vmap(lambda row: user_key(key, row))(jnp.arange(num_users))
            bank = jax.vmap(lambda one: scorer.family.init_user(one, scorer.dims))(keys)
            anchor = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[1:], leaf.dtype), bank)
        else:
            bank = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], num_users, axis=0), head)
            anchor = head
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            base=base,
            shared=shared,
            bank=bank,
            base_opt=base_tx.init((base, shared)),
            bank_opt=jax.vmap(head_tx.init, axis_size=num_users)(bank),
            anchor=anchor,
            key=jax.random.fold_in(key, 2),
        )

    # One program: operation by operation, the first call would compile dozens.
    return jax.jit(make)(key, {} if base is None else base, head)


def user_key(key: Array, row: Any) -> Array:
    """The key of one user's initialisation: of the row alone, whoever else there is."""
    return jax.random.fold_in(jax.random.fold_in(key, 1), row)


def update_head(
    head_tx: optax.GradientTransformation,
    anchor: heads.User,
    user: heads.User,
    opt: Any,
    grad: heads.User,
    weight: Float[Array, ""],
    pull: Float[Array, ""],
) -> tuple[heads.User, Any]:
    """One user's head and optimizer state after one update; `grad` is that of the summed loss."""
    away = jax.tree.map(lambda p, a: p - a, user, anchor)
    mean = jax.tree.map(lambda g, d: g / jnp.maximum(weight, 1.0) + pull * d, grad, away)
    # Decay sees the distance from the anchor in place of the parameters: it shrinks towards the anchor, not to 0.
    updates, new_opt = optimizers.update(head_tx, mean, opt, away)
    return optax.apply_updates(user, updates), new_opt


def gather(bank: Any, rows: Any) -> Any:
    """Rows of every leaf; zeros where a row is the capacity or more."""
    return jax.tree.map(lambda leaf: leaf.at[rows].get(mode="fill", fill_value=0), bank)


def scatter(bank: Any, rows: Any, values: Any) -> Any:
    """The bank with these rows replaced; rows at the capacity or beyond are dropped."""
    return jax.tree.map(lambda leaf, new: leaf.at[rows].set(new, mode="drop"), bank, values)


def _inputs(normaliser: scorers.Normaliser | None, z: Array, extras: Array) -> Array:
    return jnp.concatenate([z, extras], axis=-1) if normaliser is None else scorers.inputs(normaliser, z, extras)


def _capacity(state: TrainState) -> int:
    leaves = jax.tree.leaves((state.bank, state.bank_opt))
    return leaves[0].shape[0] if leaves else 0
