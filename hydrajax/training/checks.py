"""Checks of what callers give: numbers, rows, trees of leaves, batches, states. One clear sentence each.

They run on the host, before anything is computed or changed. Of traced values nothing is known but shapes and types:
whether a state and a batch fit a step is found out when it is traced, and costs nothing.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Bool, Int, Integer

from hydrajax.nn import heads
from hydrajax.nn import scorer as scorers
from hydrajax.training import losses
from hydrajax.types import DataError

RowNumbers = Any  # whole numbers [U], all different: an array or a list
INT32 = (-(2**31), 2**31 - 1)
CHECKED_AT_ONCE = 256  # users


def whole(values: Any, what: str, least: int = INT32[0], most: int = INT32[1]) -> Integer[np.ndarray, "..."]:
    """An array of whole numbers, floats that are whole among them; to convert them blindly would wrap or cut them.

    Args:
      values: an array, a list or a number.
      what: their name in the message.
      least: the lowest that is taken.
      most: the highest that is taken.

    Raises:
      DataError: another type, or a number out of the range.
    """
    array = host(values, what)
    if array.dtype.kind == "f" and (np.abs(array) < 2**53).all() and (array == np.trunc(array)).all():
        array = array.astype(np.int64)  # nothing is lost, and an empty list is of this type
    if array.dtype.kind not in "iu":
        raise DataError(f"{what}: {_kind(array)}, expected whole numbers")
    bad = (array < least) | (array > most)
    if bad.any():
        raise DataError(f"{what}: {array[bad].flat[0]}, expected whole numbers from {least} to {most}")
    return array


def number(value: Any, what: str, least: int, most: int = INT32[1]) -> int:
    """One whole number.

    Raises:
      DataError: another type, or out of the range.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not least <= value <= most:
        upper = "or more" if most == INT32[1] else f"to {most}"
        raise DataError(f"{what} is {value!r}, expected a whole number, {least} {upper}")
    return int(value)


def check_is(value: Any, kind: type, what: str) -> None:
    """Refuses a value of another type.

    Raises:
      DataError: naming both types.
    """
    if not isinstance(value, kind):
        raise DataError(f"{what}: {value!r:.80} ({type(value).__name__}), expected {kind.__name__}")


def check_users_tree(users: Any, generic: Any, what: str) -> None:
    """Refuses heads that are not users of this family: other leaves, or leaves of other shapes.

    Args:
      users: every leaf [U, ...].
      generic: one user, every leaf [...].
      what: the name of the users in the message.

    Raises:
      DataError: naming the leaf, what it is and what was expected.
    """
    given, expected = leaves(users), leaves(generic)
    if given.keys() != expected.keys():
        raise DataError(f"{what}: leaves {', '.join(given) or 'none'}, expected {', '.join(expected) or 'none'}")
    for name, leaf in given.items():
        shape, wanted = np.shape(leaf), np.shape(expected[name])
        if shape[1:] != wanted or not shape:
            sizes = ", ".join(map(str, wanted))
            raise DataError(f"{what}: {name} is {list(shape)}, expected [users{sizes and ', '}{sizes}]")


def check_growth(capacity: int, larger: Any, what: str) -> None:
    """Refuses a capacity below the one there is.

    Raises:
      DataError: that, or no whole number.
    """
    if number(larger, "the capacity", 0) < capacity:
        raise DataError(f"{what} has {capacity} rows, it cannot grow to {larger}")


def truth(values: Any, what: str) -> Bool[np.ndarray, "..."]:
    """A mask: true or false, or 0 and 1.

    Raises:
      DataError: anything else.
    """
    array = host(values, what)
    if array.dtype != bool and not (array.dtype.kind in "iuf" and ((array == 0) | (array == 1)).all()):
        raise DataError(f"{what}: {_kind(array)} with other values than 0 and 1, expected true or false")
    return array.astype(bool)


def floats(values: Any, what: str) -> np.ndarray:
    """Numbers as float32.

    Raises:
      DataError: what is no number.
    """
    array = host(values, what)
    if array.dtype.kind not in "biuf" and not jnp.issubdtype(array.dtype, jnp.floating):
        raise DataError(f"{what}: {_kind(array)}, expected numbers")
    with np.errstate(over="ignore"):  # an infinity is found where numbers must be finite
        return array.astype(np.float32, copy=False)


def host(values: Any, what: str) -> np.ndarray:
    """The values as an array in numpy.

    Raises:
      DataError: lists of unlike lengths, or what is no array at all.
    """
    try:
        return np.asarray(values)
    except (ValueError, TypeError) as error:
        raise DataError(f"{what}: cannot be made an array ({str(error).splitlines()[0]})") from error


def check_rows(rows: RowNumbers, capacity: int) -> Any:
    """The rows as int32 [U]; refused where one comes twice or is not below the capacity. Traced ones are returned as
    they are.

    Raises:
      DataError: in one sentence.
    """
    if isinstance(rows, jax.core.Tracer):
        return rows
    rows = _rows(rows)
    if len(rows) and not 0 <= rows.min() <= rows.max() < capacity:
        raise DataError(f"rows from {rows.min()} to {rows.max()}, expected 0 to {capacity - 1}")
    check_once(rows.tolist(), "row", "once")
    return rows.astype(np.int32)


def check_slots(rows: RowNumbers, capacity: int) -> Int[np.ndarray, " U"]:
    """The rows of a batch as int32 [U]; refused where one is negative or, below the capacity, comes twice.

    Where nothing is stored, the capacity is 0 and no number stands for a slot without a user: all must differ.

    Raises:
      DataError: in one sentence.
    """
    rows = _rows(rows)
    if len(rows) and rows.min() < 0:
        expected = f"0 to {capacity - 1}, or {capacity} for no user" if capacity else "0 or more"
        raise DataError(f"the batch has row {rows.min()}, expected {expected}")
    if len(rows) and rows.max() > INT32[1]:
        raise DataError(f"the batch has row {rows.max()}, expected at most {INT32[1]}")
    check_once(rows[real_slots(rows, capacity)].tolist(), "row", "once: a head has one update in a batch")
    return rows.astype(np.int32)


def real_slots(rows: Integer[np.ndarray, " U"], capacity: int) -> Bool[np.ndarray, " U"]:
    """Which slots of a batch have a user; all of them where nothing is stored."""
    return rows < capacity if capacity else np.ones(len(rows), bool)


def check_batch(batch: Any, capacity: int, *, loss: str = "cross_entropy") -> None:
    """Refuses a batch that a step would take without a word. On the host: the arrays are read.

    A user whose examples are all padding is no fault: the step leaves that row bit-identical.

    Args:
      batch: an `examples.Batch`; a row of `capacity` or more is a slot without a user.
      capacity: C; 0 where nothing is stored, every slot then has a user.
      loss: a name of `losses.LOSSES`; `cross_entropy` and `ordinal` need labels from 0 to 1.

    Raises:
      DataError: a negative row, a row twice, examples in a slot without a user (what all share would learn from them),
        in an example that the mask shows a number that is not finite or a label out of range, or a pull that is
        negative or not finite.
    """
    losses.get(loss)
    rows = check_slots(batch.rows, capacity)
    real = real_slots(rows, capacity)
    mask = np.asarray(batch.targets.mask)
    if (out := ~real & mask.reshape(len(rows), -1).any(axis=1)).any():
        raise DataError(
            f"the batch has examples for row {rows[out][0]}, expected rows from 0 to {capacity - 1}; a slot without a "
            f"user (row {capacity} or more) has none"
        )
    mask = mask[real]

    def refuse(bad: np.ndarray, name: str, why: str) -> None:
        if bad.any() and (hit := bad.reshape(*mask.shape, -1).any(axis=-1) & mask).any():
            user, example = np.argwhere(hit)[0]
            raise DataError(f"the batch's {name} of row {rows[real][user]}, example {example}, {why}")

    seen = {"x": batch.x, "extras": batch.extras, "label": batch.targets.label, "score": batch.targets.score}
    for name, tree in seen.items():
        for leaf in map(np.asarray, jax.tree.leaves(tree)):
            refuse(not_finite(leaf[real]), name, "is not finite")
    if loss in ("cross_entropy", "ordinal"):
        label = np.asarray(batch.targets.label)[real]
        refuse((label < 0) | (label > 1), "label", "is out of range, expected a number from 0 to 1")
    pull = np.asarray(batch.pull)[real]
    if (bad := ~((pull >= 0) & np.isfinite(pull))).any():
        raise DataError(
            f"the batch's pull of row {rows[real][bad][0]} is {pull[bad][0]}, expected a finite number of 0 or more"
        )


def check_like(tree: Any, like: Any, what: str, *, lead: tuple[int, ...] = (), skip: int = 0) -> None:
    """Refuses a tree with other names, shapes or types of leaves. Only these are read: traced trees may be given.

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
        lacking = "" if name in got else f", expected {_dtype(wanted[name])}{list(np.shape(wanted[name]))}"
        raise DataError(f"{what}: {'lack' if lacking else 'have'} {name}: of another family or optimizer{lacking}")
    for name, leaf in wanted.items():
        shape, kind = (*lead, *np.shape(leaf)[skip:]), _dtype(leaf)
        got_shape, got_kind = np.shape(got[name]), _dtype(got[name])
        if (got_shape, got_kind) != (shape, kind):
            raise DataError(f"{what}: {name} is {got_kind}{list(got_shape)}, expected {kind}{list(shape)}")


def check_finite(tree: Any, what: str) -> None:
    """Refuses a tree with a NaN or an infinity.

    Raises:
      DataError: naming the first leaf at fault.
    """
    for name, leaf in leaves(tree).items():
        if not_finite(np.asarray(leaf)).any():
            raise DataError(f"{what}: {name} is not finite")


def check_finite_rows(array: np.ndarray, what: str) -> None:
    """Refuses an array [N, ...] with a NaN or an infinity; in one of whole numbers there is none.

    Raises:
      DataError: in how many rows, and the first of them.
    """
    bad = np.unique(np.argwhere(not_finite(array))[:, :1]) if np.ndim(array) else np.array([])
    if len(bad):
        raise DataError(
            f"{what} of row {bad[0]} has a NaN or an infinity, as {len(bad)} of {len(array)} rows have: leave them "
            "out, or put numbers in their place"
        )


def first_not_finite(users: Any) -> int | None:
    """The first row of a tree, every leaf [U, ...], in which a number is NaN or infinite; None: all are finite."""
    found = jax.tree.leaves(users)
    for first in range(0, len(found[0]) if found else 0, CHECKED_AT_ONCE):  # all at once: a quarter more of memory
        parts = [leaf[first : first + CHECKED_AT_ONCE] for leaf in found]
        bad = np.any([not_finite(part).reshape(len(part), -1).any(axis=1) for part in parts], axis=0)
        if bad.any():
            return first + int(np.flatnonzero(bad)[0])
    return None


def check_once(values: Sequence[Any], noun: str = "user", why: str = "once") -> None:
    """Refuses values of which one comes twice.

    Raises:
      DataError: naming the value.
    """
    if len(set(values)) < len(values):
        seen: set[Any] = set()
        twice = next(v for v in values if v in seen or seen.add(v))  # type: ignore[func-returns-value]
        raise DataError(f"{noun} {twice!r} comes twice, expected {why}")


def check_step(
    scorer: scorers.Scorer,
    state: Any,
    batch: Any,
    *,
    head_tx: optax.GradientTransformation | None = None,
    base_tx: optax.GradientTransformation | None = None,
) -> None:
    """Refuses a state or a batch that does not fit a step.

    Args:
      scorer: base and head family.
      state: a `state.TrainState`, of this family and width.
      batch: an `examples.Batch` of this width, not divided among shards.
      head_tx: that of the state's heads; None: not looked at.
      base_tx: that of the state's base and shared parameters; None: not looked at.

    Raises:
      DataError: naming the first leaf at fault.
    """
    capacity, user = state.capacity, heads.user_shapes(scorer.family, scorer.dims)
    check_like(state.bank, user, "the state's bank", lead=(capacity,) if jax.tree.leaves(user) else ())
    check_like(state.anchor, user, "the state's anchor")
    wanted = leaves(jax.eval_shape(lambda: scorer.family.init_shared(jax.random.key(0), scorer.dims)))
    # What was pretrained may hold more, the pooled head for example.
    shared = {name: leaf for name, leaf in leaves(state.shared).items() if name in wanted}
    check_like(shared, wanted, "the state's shared")
    if head_tx is not None:
        opt = jax.eval_shape(head_tx.init, user)
        check_like(state.bank_opt, opt, "the state's bank_opt for this head_tx", lead=(capacity,))
    if base_tx is not None:
        opt = jax.eval_shape(base_tx.init, (state.base, state.shared))
        check_like(state.base_opt, opt, "the state's base_opt for this base_tx")
    if batch.routed is not None:
        raise DataError("the batch is routed for shards, expected one of the whole bank, or a step of `sharded`")
    widths = {"extras": (batch.extras, scorer.dims.extras)}
    if hasattr(batch.x, "shape"):
        widths["x"] = batch.x, scorer.dims.features
    for name, (leaf, width) in widths.items():
        if leaf.ndim != 3 or leaf.shape[-1] != width:
            raise DataError(f"{name} of the batch is {list(leaf.shape)}, expected [U, E, {width}] as the scorer has it")


def check_key(key: Any) -> None:
    """Refuses what is no typed key.

    Raises:
      DataError: in one sentence.
    """
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ()):
        kind = f"{key.dtype}{list(key.shape)}" if hasattr(key, "dtype") else repr(key)
        raise DataError(f"key is {kind}, expected a typed key: jax.random.key(0)")


def checked_head(scorer: scorers.Scorer, head: heads.User) -> heads.User:
    """One head as arrays on the device.

    Raises:
      DataError: it is of another family or width, or of many users.
    """
    head = jax.tree.map(jnp.asarray, head)
    check_like(head, heads.user_shapes(scorer.family, scorer.dims), "head")
    return head


def leaves(tree: Any) -> dict[str, Any]:
    """The leaves by name, `0/w1` for example."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in paths}


def not_finite(leaf: np.ndarray) -> Bool[np.ndarray, "..."]:
    """Where a leaf is NaN or infinite; nowhere in one of whole numbers."""
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return np.zeros(leaf.shape, bool)
    return np.asarray(~np.isfinite(leaf.astype(np.float32) if leaf.dtype.itemsize < 4 else leaf))


def _rows(rows: Any) -> np.ndarray:
    array = host(rows, "rows")
    if array.ndim != 1:
        raise DataError(f"rows have shape {list(array.shape)}, expected a list of row numbers")
    if array.dtype.kind not in "iu" and array.size:
        raise DataError(f"rows are {_kind(array)}, expected whole numbers")
    return array.astype(np.int64) if not array.size else array


def _kind(array: np.ndarray) -> str:
    return {"U": "strings", "O": "objects", "b": "true or false"}.get(array.dtype.kind, str(array.dtype))


def _dtype(leaf: Any) -> Any:
    return leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
