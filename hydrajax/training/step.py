"""The train step: one update of the base, of what users share, and of the heads of the users in the batch.

Rows of the bank (parameters and optimizer state) are gathered, updated by one vmapped optimizer and scattered back:
the cost depends on the users in the batch, not on the size of the bank, and who is absent stays bit-identical.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from hydrajax.nn import heads
from hydrajax.nn import scorer as scorers
from hydrajax.training import checks, losses, optimizers, step_checks, user_loss
from hydrajax.training.batch import Batch
from hydrajax.training.state import TrainState
from hydrajax.types import DataError

GROUP_BYTES = 6 * 2**20  # of rows with their optimizer states: heads of 1.8 MB are fastest in pairs (2 cores, L2 1 MB)
_BASE = 2**32 - 1  # no user's id: folded into the key of the base's dropout
LARGE_BYTES = 16 * 2**10  # of a leaf's row, from which on rows are written one by one

Metrics = dict[str, Float[Array, ""]]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


@flax.struct.dataclass
class Evaluated:
    """What `make_eval_step` finds: scores float32 [U, E], and each user's summed loss and its weight, [U]."""

    scores: Any
    loss: Any
    weight: Any


def make_train_step(
    scorer: scorers.Scorer,
    base_tx: optax.GradientTransformation | None,
    head_tx: optax.GradientTransformation,
    *,
    loss: str = "cross_entropy",
    normaliser: scorers.Normaliser | None = None,
    users_at_once: int | None = None,
) -> Step:
    """The step as a pure function, un-jitted: `jax.jit(step, donate_argnums=0)` is the caller's.

    With l_u the summed loss of user u's examples and w_u its weight, base and shared parameters follow the gradient
    of sum_u l_u / sum_u w_u, and user u's head that of l_u / w_u + pull_u/2 |head - anchor|^2. Weight decay in
    `head_tx` shrinks head - anchor. A user whose weight is 0 (nothing but padding) is left alone.

    Users go through the step in groups: read, differentiate, update and write back a few heads while they are in the
    processor's cache. The result does not depend on the groups.

    Shapes and types are checked when the step is traced, numbers never: `checks.check_batch` reads those of a batch.
    Rows that are negative or at the capacity and beyond are slots without a user.

    Args:
      scorer: base and head family.
      base_tx: optimizer of (base, shared); None: both are frozen, as in personalisation.
      head_tx: optimizer of one head; vmapped here.
      loss: a name of `losses.LOSSES`.
      normaliser: statistics of the inputs; None leaves them as they are.
      users_at_once: users of a group; None: what was fastest for rows of that size, see `group_size`.

    Returns:
      step(state, batch) -> (state, metrics); metrics hold `loss` (a sum) and `weight`. It raises a DataError where
      the state is of another family, width or optimizer, or the batch of another width.

    Raises:
      DataError: an unknown loss.
    """
    loss_fn = losses.get(loss)

    def summed(shared: Any, users: Any, x: Array, targets: losses.Targets, ids: Array, key: Array) -> Any:
        keys = jax.vmap(lambda one: jax.random.fold_in(key, one))(ids)
        of_user = functools.partial(user_loss.of, scorer.family, loss_fn, shared)
        sums, weights = jax.vmap(lambda *one: of_user(*one[:3], key=one[3]))(users, x, targets, keys)
        return jnp.sum(sums), (sums, weights)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        capacity = _capacity(state)
        step_checks.check_users(scorer, state, capacity)
        step_checks.check_optimizer(head_tx, state, capacity)
        step_checks.check_widths(scorer, batch)
        key = jax.random.fold_in(state.key, state.step)
        stored = (state.bank, state.bank_opt)
        size = users_at_once or group_size(stored)
        ids = batch.rows if batch.ids is None else batch.ids

        def inputs(base: Any) -> Array:
            # Of the first user too, so that parts of a batch on several devices do not drop the same places.
            dropout = None if base_tx is None else jax.random.fold_in(jax.random.fold_in(key, _BASE), ids[0])
            z = scorers.base_features(scorer, base, batch.x, key=dropout)
            return _inputs(normaliser, z, batch.extras)

        def write(stored: Any, rows: Array, users: Any, opt: Any, grads: Any, weights: Array, pull: Array) -> Any:
            new = jax.vmap(lambda *user: update_head(head_tx, state.anchor, *user))(users, opt, grads, weights, pull)
            return scatter(stored, jnp.where(weights > 0, rows, capacity), new)

        if base_tx is None or not jax.tree.leaves((state.base, state.shared)):

            def group(stored: Any, rows: Array, x: Array, targets: losses.Targets, pull: Array, ids: Array) -> Any:
                users, opt = gather(stored, rows)
                differentiate = jax.grad(summed, argnums=1, has_aux=True)
                grads, (sums, weights) = differentiate(state.shared, users, x, targets, ids, key)
                return write(stored, rows, users, opt, grads, weights, pull), (sums, weights)

            parts: Any = (inputs(state.base), batch.targets, batch.pull, ids)
            stored, (sums, weights) = _in_groups(group, stored, batch.rows, parts, size, capacity)
            learned = {}
        else:
            step_checks.check_base_optimizer(base_tx, state)

            def objective(base: Any, shared: Any, users: Any) -> tuple[Array, Any]:
                return summed(shared, users, inputs(base), batch.targets, ids, key)

            # One gradient for all users, since all of them pull at base and shared parameters.
            differentiate = jax.grad(objective, argnums=(0, 1, 2), has_aux=True)
            users = gather(state.bank, batch.rows)
            (*common, user_grads), (sums, weights) = differentiate(state.base, state.shared, users)

            def update(stored: Any, rows: Array, grads: Any, weights: Array, pull: Array) -> Any:
                users, opt = gather(stored, rows)
                return write(stored, rows, users, opt, grads, weights, pull), ()

            parts = (user_grads, weights, batch.pull)
            stored, _ = _in_groups(update, stored, batch.rows, parts, size, capacity)
            total = jnp.maximum(jnp.sum(weights), 1.0)
            mean = jax.tree.map(lambda g: g / total, tuple(common))
            updates, base_opt = optimizers.update(base_tx, mean, state.base_opt, (state.base, state.shared))
            base, shared = optax.apply_updates((state.base, state.shared), updates)
            learned = {"base": base, "shared": shared, "base_opt": base_opt}

        bank, bank_opt = stored
        state = state.replace(step=state.step + 1, bank=bank, bank_opt=bank_opt, **learned)
        return state, {"loss": jnp.sum(sums), "weight": jnp.sum(weights)}

    return step


def make_eval_step(
    scorer: scorers.Scorer,
    *,
    loss: str = "cross_entropy",
    normaliser: scorers.Normaliser | None = None,
    users_at_once: int | None = None,
) -> Callable[[TrainState, Batch], "Evaluated"]:
    """Scores and losses of a batch, without dropout and without learning; un-jitted.

    Args:
      scorer: base and head family.
      loss: a name of `losses.LOSSES`.
      normaliser: statistics of the inputs; None leaves them as they are.
      users_at_once: as in `make_train_step`.

    Returns:
      evaluate(state, batch) -> Evaluated. A slot whose row is negative, or the capacity or more, is scored by the
      anchor: the pooled head, where there is one.

    Raises:
      DataError: the family encodes users from a profile, which a batch does not hold; `fit.predict` scores them.
    """
    if isinstance(scorer.family, heads.Encoded):
        raise DataError(f"{type(scorer.family).__name__} encodes users from profiles: score them with fit.predict")
    loss_fn = losses.get(loss)

    def evaluate(state: TrainState, batch: Batch) -> Evaluated:
        capacity = _capacity(state)
        step_checks.check_users(scorer, state, capacity)
        step_checks.check_widths(scorer, batch)
        x = _inputs(normaliser, scorers.base_features(scorer, state.base, batch.x), batch.extras)

        def group(carry: Any, rows: Array, x: Array, targets: losses.Targets) -> Any:
            users = jax.vmap(lambda row, user: _or_anchor((row >= 0) & (row < capacity), user, state.anchor))(
                rows, gather(state.bank, rows)
            )
            s = jax.vmap(lambda user, one: scorers.logits(scorer.family, state.shared, user, one))(users, x)
            return carry, (s, *jax.vmap(loss_fn)(s, targets))

        size = users_at_once or group_size((state.bank, state.bank_opt))
        _, (s, sums, weights) = _in_groups(group, (), batch.rows, (x, batch.targets), size, capacity)
        return Evaluated(scores=s, loss=sums, weight=weights)

    return evaluate


def init_state(
    scorer: scorers.Scorer,
    base_tx: optax.GradientTransformation | None,
    head_tx: optax.GradientTransformation,
    *,
    num_users: int,
    key: Any,
    base: Any = None,
    head: heads.User | None = None,
) -> TrainState:
    """A state before the first step.

    Args:
      scorer: base and head family.
      base_tx: as given to `make_train_step`.
      head_tx: as given to `make_train_step`.
      num_users: C, the capacity of the bank; 1 or more.
      key: a typed key, `jax.random.key(0)` for example.
      base: parameters of a base that is trained; None where features are given.
      head: every user's first head, and where decay and prior pull; None: each user's own initialisation, and zeros.

    Raises:
      DataError: no user, a key that is none, or a head of another family or width.
    """
    num_users = checks.number(num_users, "num_users", 1)
    step_checks.check_key(key)
    if head is not None:
        head = step_checks.checked_head(scorer, head)

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
            base_opt=() if base_tx is None else base_tx.init((base, shared)),
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
    scale = 1.0 / jnp.maximum(weight, 1.0)  # a division for each parameter would cost as much as Adam's
    mean = jax.tree.map(lambda g, d: g * scale + pull * d, grad, away)
    # Decay sees the distance from the anchor in place of the parameters: it shrinks towards the anchor, not to 0.
    updates, new_opt = optimizers.update(head_tx, mean, opt, away)
    return optax.apply_updates(user, updates), new_opt


def gather(bank: Any, rows: Any) -> Any:
    """Rows of every leaf; zeros where a row is negative, or the capacity or more."""
    rows = jnp.asarray(rows)
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf).at[rows].get(mode="fill", fill_value=0, wrap_negative_indices=False), bank
    )


def scatter(bank: Any, rows: Any, values: Any) -> Any:
    """The bank with these rows replaced; rows that are negative, or the capacity or more, are dropped.

    In place where it is donated.
    """
    leaves, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, bank))
    new, rows = jax.tree.leaves(jax.tree.map(jnp.asarray, values)), jnp.asarray(rows)
    cpu = jax.default_backend() == "cpu"
    large = [i for i, leaf in enumerate(leaves) if cpu and leaf.shape[0] and _row_bytes(leaf) >= LARGE_BYTES]
    for i in set(range(len(leaves))) - set(large):
        leaves[i] = leaves[i].at[rows].set(new[i], mode="drop", wrap_negative_indices=False)

    # Large rows one by one, on a CPU: XLA copies a whole row at once here, but scatters element by element, on one
    # thread. The loop also keeps apart what is read and what is written; fused, XLA would copy the bank first.
    def write(slot: Any, banks: list[Array]) -> list[Array]:
        return [_put(leaf, rows[slot], new[i][slot]) for leaf, i in zip(banks, large, strict=True)]

    for i, leaf in zip(large, jax.lax.fori_loop(0, rows.shape[0], write, [leaves[i] for i in large]), strict=True):
        leaves[i] = leaf
    return jax.tree.unflatten(structure, leaves)


def group_size(stored: Any) -> int:
    """Users to take through the step at once, for a bank with its optimizer state, leaves [C, ...].

    On a CPU as many as keep `GROUP_BYTES` of rows, a power of 2 and at least 2; elsewhere everybody (2^20).
    """
    row = sum(_row_bytes(leaf) for leaf in jax.tree.leaves(stored))
    if jax.default_backend() != "cpu":
        return 1 << 20
    return 1 << max(1, min(20, (GROUP_BYTES // max(1, row)).bit_length() - 1))


def _in_groups(
    group: Callable[..., Any], carry: Any, rows: Array, parts: Any, size: int, capacity: int
) -> tuple[Any, Any]:
    """`group(carry, rows, *parts) -> (carry, out)` over groups of at most `size` users; `out` is by user again."""
    users = rows.shape[0]
    # Never one user alone: XLA inlines a loop of one turn, that of `scatter`, and then copies the bank.
    count = max(1, -(-users // max(2, size)))
    size = max(2, -(-users // count))

    def cut(leaf: Array, fill: Any) -> Array:
        if count * size > users:
            leaf = jnp.concatenate([leaf, jnp.full((count * size - users, *leaf.shape[1:]), fill, leaf.dtype)])
        return leaf.reshape(count, size, *leaf.shape[1:])

    divided = (cut(rows, capacity), *jax.tree.map(lambda leaf: cut(leaf, 0), parts))
    if count == 1:
        carry, out = group(carry, *jax.tree.map(lambda leaf: leaf[0], divided))
        return carry, jax.tree.map(lambda leaf: leaf[:users], out)
    carry, out = jax.lax.scan(lambda carry, part: group(carry, *part), carry, divided)
    return carry, jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:users], out)


def _row_bytes(leaf: Any) -> int:
    return math.prod(leaf.shape[1:]) * leaf.dtype.itemsize


def _put(leaf: Array, row: Any, value: Array) -> Array:
    here = jnp.clip(row, 0, leaf.shape[0] - 1)
    old = jax.lax.dynamic_index_in_dim(leaf, here, keepdims=False)
    return jax.lax.dynamic_update_index_in_dim(leaf, jnp.where(row == here, value, old), here, 0)


def _or_anchor(known: Any, user: heads.User, anchor: heads.User) -> heads.User:
    return jax.tree.map(lambda own, other: jnp.where(known, own, other), user, anchor)


def _inputs(normaliser: scorers.Normaliser | None, z: Array, extras: Array) -> Array:
    return jnp.concatenate([z, extras], axis=-1) if normaliser is None else scorers.inputs(normaliser, z, extras)


def _capacity(state: TrainState) -> int:
    leaves = jax.tree.leaves((state.bank, state.bank_opt))
    return leaves[0].shape[0] if leaves else 0
