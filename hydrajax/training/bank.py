"""The head bank as a store: rows taken out and put back, reset, and more of them.

A row of the bank is one user: parameters and optimizer state. Which user has which row is written in a
`directory.Directory`, on the host; the arrays know of rows only. Where arguments are arrays and not traced, they are
checked; inside `jit` the same functions check nothing (a row at the capacity or beyond reads as zeros and is not
written).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int

from hydrajax.nn import heads
from hydrajax.nn import scorer as scorers
from hydrajax.training import step as steps
from hydrajax.training.state import TrainState
from hydrajax.types import DataError

Rows = tuple[Any, Any]  # users' parameters and optimizer states, every leaf [U, ...]
Initial = Callable[[np.ndarray], Rows]  # int32 [n] row numbers -> what those rows hold before their first update


def take_users(state: TrainState, rows: Int[Array | np.ndarray, " U"]) -> Rows:
    """Parameters and optimizer states of the users at these rows, every leaf [U, ...].

    Raises:
      DataError: a row twice, or one that the bank does not have (outside `jit`).
    """
    check_rows(rows, capacity(state))
    return steps.gather((state.bank, state.bank_opt), rows)


def put_users(state: TrainState, rows: Int[Array | np.ndarray, " U"], users: heads.User, opt: Any) -> TrainState:
    """The state with these users at these rows; all other rows are bit-identical.

    `jax.jit(put_users, donate_argnums=0)` writes in place; otherwise the bank is copied.

    Args:
      state: with a bank of C rows.
      rows: int32, all different, 0..C-1.
      users: parameters, every leaf [U, ...], of the bank's types.
      opt: optimizer states, every leaf [U, ...].

    Raises:
      DataError: a row twice or out of range; leaves of other names, shapes or types; a number that is not finite
        (outside `jit`).
    """
    check_rows(rows, capacity(state))
    check_like((users, opt), (state.bank, state.bank_opt), "the users", lead=(len(rows),), skip=1)
    if not isinstance(rows, jax.core.Tracer):
        check_finite((users, opt), "the users")
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
    key: Array | None = None,
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
      DataError: none or both of key and head.
    """
    if head is not None and key is None:
        # A copy: the caller's arrays may be donated before a row is first touched.
        one = jax.tree.map(np.array, (head, jax.jit(head_tx.init)(head)))
        return lambda rows: jax.tree.map(lambda leaf: np.repeat(leaf[None], len(rows), axis=0), one)
    if key is None or head is not None:
        raise DataError("rows start either from a key or from a head, expected exactly one of the two")

    @jax.jit
    def make(rows: Array) -> Rows:
        keys = jax.vmap(lambda row: steps.user_key(key, row))(rows)
        users = jax.vmap(lambda one: scorer.family.init_user(one, scorer.dims))(keys)
        return users, jax.vmap(head_tx.init, axis_size=len(rows))(users)

    def fresh(rows: np.ndarray) -> Rows:
        return jax.tree.map(lambda leaf: np.array(leaf)[: len(rows)], make(_padded(rows, 0)))

    return fresh


def reset(state: TrainState, rows: Int[Array | np.ndarray, " U"], fresh: Initial) -> TrainState:
    """The state with these rows as before their first update: nothing remains of who had them.

    Raises:
      DataError: a row twice or out of range.
    """
    rows = np.asarray(rows, np.int32)
    check_rows(rows, capacity(state))
    padded = _padded(rows, capacity(state))  # behind the last row: not written
    bank, bank_opt = steps.scatter((state.bank, state.bank_opt), padded, fresh(padded))
    return state.replace(bank=bank, bank_opt=bank_opt)


def grow(state: TrainState, new_capacity: int, fresh: Initial) -> TrainState:
    """The state with rows added up to a capacity; the first C are bit-identical. A step is then compiled anew.

    Raises:
      DataError: the bank is larger already.
    """
    old = capacity(state)
    if new_capacity < old:
        raise DataError(f"the bank has {old} rows, it cannot grow to {new_capacity}")
    more = fresh(np.arange(old, new_capacity, dtype=np.int32))
    bank, bank_opt = jax.tree.map(
        lambda leaf, new: jnp.concatenate([leaf, jnp.asarray(new)]), (state.bank, state.bank_opt), more
    )
    return state.replace(bank=bank, bank_opt=bank_opt)


def check_batch(batch: steps.Batch, capacity: int) -> None:
    """Refuses a batch that a step would take without a word. On the host: the arrays are read.

    A user whose examples are all padding is no fault: the step leaves that row bit-identical.

    Args:
      batch: a row of `capacity` or more is a slot without a user.
      capacity: C.

    Raises:
      DataError: a negative row, a row twice, examples in a slot without a user (what all share would learn from them),
        a number that is not finite in an example that the mask shows.
    """
    rows = np.asarray(batch.rows)
    check_slots(rows, capacity)
    if np.asarray(batch.targets.mask)[rows >= capacity].any():
        raise DataError(f"the batch has examples in a slot without a user (row {capacity} or more), expected no mask")
    mask = np.asarray(batch.targets.mask)[rows < capacity]
    seen = {"x": batch.x, "extras": batch.extras, "label": batch.targets.label, "score": batch.targets.score}
    for name, tree in seen.items():
        for leaf in map(np.asarray, jax.tree.leaves(tree)):
            bad = _not_finite(leaf[rows < capacity]) if mask.size else np.zeros(0, bool)
            if bad.any() and (hit := bad.reshape(*mask.shape, -1).any(axis=-1) & mask).any():
                user, example = np.argwhere(hit)[0]
                row = rows[rows < capacity][user]
                raise DataError(f"the batch's {name} of row {row}, example {example}, is not finite")


def check_slots(rows: Int[np.ndarray, " U"], capacity: int) -> None:
    """Refuses a batch's rows where one is negative or, below the capacity, comes twice.

    Raises:
      DataError: in one sentence.
    """
    if len(rows) and rows.min() < 0:
        raise DataError(f"the batch has row {rows.min()}, expected 0 to {capacity - 1}, or {capacity} for no user")
    check_once(rows[rows < capacity].tolist(), "row", "once: a head has one update in a batch")


def check_rows(rows: Any, capacity: int) -> None:
    """Refuses rows that are not all different or not all below the capacity; says nothing of traced ones.

    Raises:
      DataError: in one sentence.
    """
    if isinstance(rows, jax.core.Tracer):
        return
    rows = np.asarray(rows)
    if len(rows) and not 0 <= rows.min() <= rows.max() < capacity:
        raise DataError(f"rows from {rows.min()} to {rows.max()}, expected 0 to {capacity - 1}")
    check_once(rows.tolist(), "row", "once")


def check_like(tree: Any, like: Any, what: str, *, lead: tuple[int, ...] = (), skip: int = 0) -> None:
    """Refuses a tree with other names, shapes or types of leaves.

    Args:
      tree: every leaf [*lead, ...].
      like: every leaf has the same shape behind its first `skip` axes.
      what: its name in the message.
      lead: the leading axes of the tree's leaves.
      skip: leading axes of `like` that do not count.

    Raises:
      DataError: in one sentence, naming the first leaf at fault.
    """
    got, wanted = leaves(tree), leaves(like)
    for name in sorted({*got} ^ {*wanted}):
        raise DataError(f"{what}: {'have' if name in got else 'lack'} {name}: of another family or optimizer")
    for name, leaf in wanted.items():
        shape = (*lead, *leaf.shape[skip:])
        if (got[name].shape, got[name].dtype) != (shape, leaf.dtype):
            raise DataError(
                f"{what}: {name} is {got[name].dtype}{list(got[name].shape)}, expected {leaf.dtype}{list(shape)}"
            )


def check_finite(tree: Any, what: str) -> None:
    """Refuses a tree with a NaN or an infinity.

    Raises:
      DataError: naming the first leaf at fault.
    """
    for name, leaf in leaves(tree).items():
        if _not_finite(np.asarray(leaf)).any():
            raise DataError(f"{what}: {name} is not finite")


def leaves(tree: Any) -> dict[str, Any]:
    """The leaves by name, `0/w1` for example."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in paths}


def _padded(rows: np.ndarray, fill: int) -> np.ndarray:
    """Up to a power of two: each number of rows would be compiled anew."""
    padded = np.full(1 << max(len(rows) - 1, 0).bit_length(), fill, np.int32)
    padded[: len(rows)] = rows
    return padded


def _not_finite(leaf: np.ndarray) -> np.ndarray:
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return np.zeros(leaf.shape, bool)
    return np.asarray(~np.isfinite(leaf.astype(np.float32) if leaf.dtype.itemsize < 4 else leaf))


def check_once(values: Sequence[Any], noun: str = "user", why: str = "once") -> None:
    """Refuses values of which one comes twice.

    Raises:
      DataError: naming the value.
    """
    if len(set(values)) < len(values):
        seen: set[Any] = set()
        twice = next(v for v in values if v in seen or seen.add(v))  # type: ignore[func-returns-value]
        raise DataError(f"{noun} {twice!r} comes twice, expected {why}")
