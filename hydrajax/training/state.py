"""What training changes, and the bank of heads in it: how rows begin, and rows taken out, put back, reset, and added.

A row of the bank is one user: parameters and optimizer state. Which user has which row is written in a
`directory.Directory`, on the host; the arrays know of rows only. Where arguments are arrays and not traced, they are
checked; inside `jit` the same functions check nothing (a row at the capacity or beyond reads as zeros and is not
written).
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from hydrajax.nn import heads
from hydrajax.nn import scorer as scorers
from hydrajax.training import checks
from hydrajax.training import rows as rows_
from hydrajax.types import DataError

Rows = tuple[Any, Any]  # users' parameters and optimizer states, every leaf [U, ...]
Initial = Callable[[np.ndarray], Rows]  # int32 [n] row numbers -> what those rows hold before their first update


class TrainState(flax.struct.PyTreeNode):
    """Parameters, optimizer states, key: a tree of arrays, so that it can be donated, sharded and checkpointed.

    Attributes:
      step: int32, updates done.
      base: parameters of the base; {} where it is frozen and features are given.
      shared: parameters that all users share.
      bank: the users' parameters, every leaf [C, ...].
      base_opt: optimizer state of (base, shared).
      bank_opt: the users' optimizer states, every leaf [C, ...].
      anchor: one user's parameters, where weight decay and prior pull the heads: zeros, or the pooled head.
      key: a typed random key; step and row number are folded into it.
    """

    step: Any
    base: Any
    shared: Any
    bank: Any
    base_opt: Any
    bank_opt: Any
    anchor: Any
    key: Any

    @property
    def capacity(self) -> int:
        """C, the rows of the bank; 0 where a family and its optimizer store nothing."""
        leaves = jax.tree.leaves(self.stored)
        return leaves[0].shape[0] if leaves else 0

    @property
    def stored(self) -> Rows:
        """The whole bank: parameters and optimizer states."""
        return self.bank, self.bank_opt

    def with_stored(self, stored: Rows) -> "TrainState":
        """The state with another bank."""
        return self.replace(bank=stored[0], bank_opt=stored[1])


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
    checks.check_key(key)
    if head is not None:
        head = checks.checked_head(scorer, head)

    def make(key: Array, base: Any, head: Any) -> TrainState:
        shared = scorer.family.init_shared(jax.random.fold_in(key, 0), scorer.dims)
        if head is None:
            bank = _own_heads(scorer, key, jnp.arange(num_users))
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


def initial(
    scorer: scorers.Scorer,
    head_tx: optax.GradientTransformation,
    *,
    key: Any = None,
    head: heads.User | None = None,
) -> Initial:
    """What rows hold before their first update, as `init_state` fills them.

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
        head = checks.checked_head(scorer, head)
        row = jax.tree.map(np.array, (head, jax.jit(head_tx.init)(head)))
        return lambda rows: jax.tree.map(lambda leaf: np.repeat(leaf[None], len(rows), axis=0), row)
    if key is None or head is not None:
        raise DataError("rows start either from a key or from a head, expected exactly one of the two")
    checks.check_key(key)

    @jax.jit
    def make(rows: Array) -> Rows:
        users = _own_heads(scorer, key, rows)
        return users, jax.vmap(head_tx.init, axis_size=len(rows))(users)

    def fresh(rows: np.ndarray) -> Rows:
        return jax.tree.map(lambda leaf: np.array(leaf)[: len(rows)], make(_padded(rows, 0)))

    return fresh


def user_key(key: Array, row: Any) -> Array:
    """The key of one user's initialisation: of the row alone, whoever else there is."""
    return jax.random.fold_in(jax.random.fold_in(key, 1), row)


def take_users(state: TrainState, rows: checks.RowNumbers) -> Rows:
    """Parameters and optimizer states of the users at these rows, every leaf [U, ...].

    Raises:
      DataError: a row twice, or one that the bank does not have (outside `jit`).
    """
    return rows_.gather(state.stored, checks.check_rows(rows, state.capacity))


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
    rows = checks.check_rows(rows, state.capacity)
    checks.check_like((users, opt), state.stored, "the users", lead=(len(rows),), skip=1)
    if not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((users, opt))):
        checks.check_finite((users, opt), "the users")
    return state.with_stored(rows_.scatter(state.stored, rows, (users, opt)))


def reset(state: TrainState, rows: checks.RowNumbers, fresh: Initial) -> TrainState:
    """The state with these rows as before their first update: nothing remains of who had them.

    Raises:
      DataError: a row twice or out of range; `fresh` is of another family, width or optimizer than the bank.
    """
    rows = checks.check_rows(rows, state.capacity)
    padded = _padded(rows, state.capacity)  # behind the last row: not written
    new = fresh(padded)
    checks.check_like(new, state.stored, "what rows start with", lead=(len(padded),), skip=1)
    return state.with_stored(rows_.scatter(state.stored, padded, new))


def grow(state: TrainState, new_capacity: int, fresh: Initial) -> TrainState:
    """The state with rows added up to a capacity; the first C are bit-identical. A step is then compiled anew.

    Raises:
      DataError: the bank is larger already, or `fresh` is of another family, width or optimizer.
    """
    checks.check_growth(state.capacity, new_capacity, "the bank")
    more = fresh(np.arange(state.capacity, new_capacity, dtype=np.int32))
    # To join leaves of two types would change the type of the whole bank.
    checks.check_like(more, state.stored, "what rows start with", lead=(new_capacity - state.capacity,), skip=1)
    join = jax.tree.map(lambda leaf, new: jnp.concatenate([leaf, jnp.asarray(new)]), state.stored, more)
    return state.with_stored(join)


def _own_heads(scorer: scorers.Scorer, key: Array, rows: Array) -> heads.User:
    keys = jax.vmap(lambda row: user_key(key, row))(rows)
    return jax.vmap(lambda key: scorer.family.init_user(key, scorer.dims))(keys)


def _padded(rows: np.ndarray, fill: int) -> np.ndarray:
    """Up to a power of two: each number of rows would be compiled anew."""
    padded = np.full(1 << max(len(rows) - 1, 0).bit_length(), fill, np.int32)
    padded[: len(rows)] = rows
    return padded
