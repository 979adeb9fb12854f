"""The head bank as a store: rows taken out and put back, reset, and more of them.

A row of the bank is one user: parameters and optimizer state. Which user has which row is written in a
`directory.Directory`, on the host; the arrays know of rows only. Where arguments are arrays and not traced, they are
checked; inside `jit` the same functions check nothing (a row at the capacity or beyond reads as zeros and is not
written).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from hydrajax.nn import heads
from hydrajax.nn import scorer as scorers
from hydrajax.training import checks, step_checks
from hydrajax.training import step as steps
from hydrajax.training.state import TrainState
from hydrajax.types import DataError

Rows = tuple[Any, Any]  # users' parameters and optimizer states, every leaf [U, ...]
Initial = Callable[[np.ndarray], Rows]  # int32 [n] row numbers -> what those rows hold before their first update


def take_users(state: TrainState, rows: checks.RowNumbers) -> Rows:
    """Parameters and optimizer states of the users at these rows, every leaf [U, ...].

    Raises:
      DataError: a row twice, or one that the bank does not have (outside `jit`).
    """
    rows = checks.check_rows(rows, capacity(state))
    return steps.gather((state.bank, state.bank_opt), rows)


def put_users(state: TrainState, rows: checks.RowNumbers, users: heads.User, opt: Any) -> TrainState:
    """The state with these users at these rows; all other rows are bit-identical.

    `jax.jit(put_users, donate_argnums=0)` writes in place; otherwise the bank is copied.

    Args:
      state: with a bank of C rows.
      rows: whole numbers [U], all different, 0..C-1.
      users: parameters, every leaf [U, ...], of the bank's types.
      opt: optimizer states, every leaf [U, ...].

    Raises:
      DataError: a row twice or out of range; leaves of other names, shapes or types; a number that is not finite
        (outside `jit`).
    """
    rows = checks.check_rows(rows, capacity(state))
    checks.check_like((users, opt), (state.bank, state.bank_opt), "the users", lead=(len(rows),), skip=1)
    if not _traced((users, opt)):
        checks.check_finite((users, opt), "the users")
    bank, bank_opt = steps.scatter((state.bank, state.bank_opt), rows, (users, opt))
    return state.replace(bank=bank, bank_opt=bank_opt)


def capacity(state: TrainState) -> int:
    """C, the rows of the bank; 0 where a family and its optimizer store nothing."""
    leaves = jax.tree.leaves((state.bank, state.bank_opt))
    return leaves[0].shape[0] if leaves else 0


def initial(
    scorer: scorers.Scorer,
    head_tx: optax.GradientTransformation,
    *,
    key: Any = None,
    head: heads.User | None = None,
) -> Initial:
    """What rows hold before their first update, as `step.init_state` fills them.

    Args:
      scorer: base and head family.
      head_tx: optimizer of one head.
      key: of `init_state`: every row has an initialisation of its own, which depends on the row alone.
      head: every row starts with this head, the pooled one for example; exactly one of the two is given.

    Returns:
      rows -> (parameters, optimizer states), numpy, every leaf [n, ...].

    Raises:
      DataError: none or both of key and head, a key that is none, or a head of another family or width.
    """
    if head is not None and key is None:
        # A copy: the caller's arrays may be donated before a row is first touched.
        head = step_checks.checked_head(scorer, head)
        one = jax.tree.map(np.array, (head, jax.jit(head_tx.init)(head)))
        return lambda rows: jax.tree.map(lambda leaf: np.repeat(leaf[None], len(rows), axis=0), one)
    if key is None or head is not None:
        raise DataError("rows start either from a key or from a head, expected exactly one of the two")
    step_checks.check_key(key)

    @jax.jit
    def make(rows: Array) -> Rows:
        keys = jax.vmap(lambda row: steps.user_key(key, row))(rows)
        users = jax.vmap(lambda one: scorer.family.init_user(one, scorer.dims))(keys)
        return users, jax.vmap(head_tx.init, axis_size=len(rows))(users)

    def fresh(rows: np.ndarray) -> Rows:
        return jax.tree.map(lambda leaf: np.array(leaf)[: len(rows)], make(_padded(rows, 0)))

    return fresh


def reset(state: TrainState, rows: checks.RowNumbers, fresh: Initial) -> TrainState:
    """The state with these rows as before their first update: nothing remains of who had them.

    Raises:
      DataError: a row twice or out of range; `fresh` is of another family, width or optimizer than the bank.
    """
    rows = checks.check_rows(rows, capacity(state))
    padded = _padded(rows, capacity(state))  # behind the last row: not written
    new, stored = fresh(padded), (state.bank, state.bank_opt)
    checks.check_like(new, stored, "what rows start with", lead=(len(padded),), skip=1)
    bank, bank_opt = steps.scatter(stored, padded, new)
    return state.replace(bank=bank, bank_opt=bank_opt)


def grow(state: TrainState, new_capacity: int, fresh: Initial) -> TrainState:
    """The state with rows added up to a capacity; the first C are bit-identical. A step is then compiled anew.

    Raises:
      DataError: the bank is larger already, or `fresh` is of another family, width or optimizer.
    """
    old, stored = capacity(state), (state.bank, state.bank_opt)
    if checks.number(new_capacity, "the capacity", 0) < old:
        raise DataError(f"the bank has {old} rows, it cannot grow to {new_capacity}")
    more = fresh(np.arange(old, new_capacity, dtype=np.int32))
    # To join leaves of two types would change the type of the whole bank.
    checks.check_like(more, stored, "what rows start with", lead=(new_capacity - old,), skip=1)
    bank, bank_opt = jax.tree.map(lambda leaf, new: jnp.concatenate([leaf, jnp.asarray(new)]), stored, more)
    return state.replace(bank=bank, bank_opt=bank_opt)


def _traced(tree: Any) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def _padded(rows: np.ndarray, fill: int) -> np.ndarray:
    """Up to a power of two: each number of rows would be compiled anew."""
    padded = np.full(1 << max(len(rows) - 1, 0).bit_length(), fill, np.int32)
    padded[: len(rows)] = rows
    return padded
