"""Rows of a bank on a processor: reading and writing them, and how many to take at once.

The only file of `training` that knows about backends and caches, with `nn.backends`, which says what is there. Sizes
were measured on 2 cores with an L2 cache of 1 MB each; an accelerator takes everything at once.
"""

import math
import os
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from hydrajax.nn import backends

# Rows with their optimizer states that a step takes at once: heads of 1.8 MB are fastest in pairs.
GROUP_BYTES = 6 * 2**20
# A leaf's row, from which on rows are written one by one.
LARGE_BYTES = 16 * 2**10
# A head, up to which the settings of a sweep are fitted side by side.
SIDE_BY_SIDE_BYTES = 2**15
# The heads that one call of a program returns: larger results come in fresh pages of the system every time, which cost
# half as much as the fit (`mlp` at d = 384: 4.6 ms a user in groups of 8, 6.9 in groups of 64).
RESULT_BYTES = 5 * 2**20
BASE_TOKENS = 4096
SMALL_CALL = 16  # users, where there are too few for a large call on every core: two sizes, few programs
POOLED_BATCH = 256  # least examples of all users in one update of the pooled head
FROZEN_USERS = (8, 64)  # least and most users in one update of shared parameters on frozen features, else an eighth
UPDATES = 256  # of an epoch: where there are more, an accelerator takes more at once, up to
MOST_AT_ONCE = 16  # times as many


def gather(bank: Any, rows: Any, *, instead: Any = None) -> Any:
    """Rows of every leaf; zeros, or the one row `instead`, where a row is negative, or the capacity or more."""
    rows = jnp.asarray(rows)
    read = jax.tree.map(
        lambda leaf: jnp.asarray(leaf).at[rows].get(mode="fill", fill_value=0, wrap_negative_indices=False), bank
    )
    if instead is None:
        return read

    def known_or_instead(leaf: Array, new: Array, instead: Array) -> Array:
        known = (rows >= 0) & (rows < leaf.shape[0])
        return jax.vmap(lambda known, row: jnp.where(known, row, instead))(known, new)

    return jax.tree.map(known_or_instead, bank, read, instead)


def scatter(bank: Any, rows: Any, values: Any) -> Any:
    """The bank with these rows replaced; rows that are negative, or the capacity or more, are dropped.

    In place where it is donated.
    """
    leaves, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, bank))
    new, rows = jax.tree.leaves(jax.tree.map(jnp.asarray, values)), jnp.asarray(rows)
    large = [
        i for i, leaf in enumerate(leaves) if backends.on_cpu() and leaf.shape[0] and row_bytes(leaf) >= LARGE_BYTES
    ]
    for i in set(range(len(leaves))) - set(large):
        leaves[i] = leaves[i].at[rows].set(new[i], mode="drop", wrap_negative_indices=False)

    # Large rows one by one, on a CPU: XLA copies a whole row at once here, but scatters element by element, on one
    # thread. The loop also keeps apart what is read and what is written; fused, XLA would copy the bank first.
    def write(slot: Any, banks: list[Array]) -> list[Array]:
        return [_put(leaf, rows[slot], new[i][slot]) for leaf, i in zip(banks, large, strict=True)]

    for i, leaf in zip(large, jax.lax.fori_loop(0, rows.shape[0], write, [leaves[i] for i in large]), strict=True):
        leaves[i] = leaf
    return jax.tree.unflatten(structure, leaves)


def in_groups(function: Callable[[Any, Any], tuple[Any, Any]], carry: Any, parts: Any, size: int) -> tuple[Any, Any]:
    """`function(carry, parts) -> (carry, out)` over groups of at most `size` users; `out` is by user again.

    Args:
      function: of a group; `out` has leaves [users of the group, ...].
      carry: what every group changes, a bank for example.
      parts: every leaf [U, ...]. Users that fill the last group up have -1 for every number, their row among them.
      size: most users of a group, but never less than 2.
    """
    users = jax.tree.leaves(parts)[0].shape[0]
    # Never one user alone: XLA inlines a loop of one turn, that of `scatter`, and then copies the bank.
    count = max(1, -(-users // max(2, size)))
    size = max(2, -(-users // count))

    def cut(leaf: Any) -> Array:
        leaf, more = jnp.asarray(leaf), count * size - users
        if more:
            nobody = jnp.full((more, *leaf.shape[1:]), False if leaf.dtype == bool else -1, leaf.dtype)
            leaf = jnp.concatenate([leaf, nobody])
        return leaf.reshape(count, size, *leaf.shape[1:])

    groups = jax.tree.map(cut, parts)
    if count == 1:
        carry, out = function(carry, jax.tree.map(lambda leaf: leaf[0], groups))
        return carry, jax.tree.map(lambda leaf: leaf[:users], out)
    carry, out = jax.lax.scan(function, carry, groups)
    return carry, jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:users], out)


def group_size(bank: Any) -> int:
    """Users that a step takes at once, for rows of a bank with its optimizer state, leaves [C, ...].

    On a CPU as many as keep `GROUP_BYTES` of rows, a power of 2 and at least 2; elsewhere everybody (2^20).
    """
    if not backends.on_cpu():
        return 1 << 20
    return 1 << max(1, min(20, (GROUP_BYTES // max(1, row_bytes(bank))).bit_length() - 1))


def row_bytes(bank: Any) -> int:
    """Bytes of one row of a bank, leaves [C, ...]."""
    return sum(math.prod(leaf.shape[1:]) * leaf.dtype.itemsize for leaf in jax.tree.leaves(bank))


def texts_at_once(length: int) -> int | None:
    """How many texts of so many tokens go through a base that is trained; None: all of a batch.

    On a CPU as many as hold `BASE_TOKENS`: what MiniLM keeps of them for its backward pass is about 1.8 GB. Twice as
    many take twice the memory and the same time.
    """
    return max(1, BASE_TOKENS // length) if backends.on_cpu() else None


def pooled_batch(examples: int) -> int:
    """Examples in one update of the pooled head, and of a user in one product of Newton's method, of so many in all."""
    return _in_update(POOLED_BATCH, examples)


def frozen_users(users: int, *, stored: bool) -> int:
    """Users in one update of shared parameters on frozen features, where there are so many in all.

    Where heads are stored, which get an update an epoch for each of their mini-batches, an eighth: numbers of epochs
    then mean as many updates of what is shared, too, whether few users choose them or all learn.
    """
    least, most = FROZEN_USERS
    return _in_update(min(most, max(least, users // 8)) if stored else least, users)


def users_in_parallel(users: int = 64) -> int | None:
    """How many users a per-user program fits side by side; None: one after another, in the cache of a CPU."""
    return None if backends.on_cpu() else users


def calls_in_parallel() -> int:
    """How many calls of per-user programs run at once: a head's operations are too small to be divided among cores.

    Where there are several devices, each call is divided among them.
    """
    several = backends.on_cpu() and len(backends.devices()) == 1
    return min(8, os.cpu_count() or 1) if several else 1


def users_in_call(num_users: int, user_bytes: int, most: int) -> int:
    """How many of so many users one call of a per-user program takes on one device.

    Args:
      num_users: there are in all.
      user_bytes: that the program returns of one user: the heads under all settings.
      most: users of a call.
    """
    if not backends.on_cpu():
        return max(1, min(most, 1 << max(0, num_users - 1).bit_length(), 2**28 // max(1, user_bytes)))
    enough = num_users >= most * calls_in_parallel()
    return max(1, min(most, most if enough else SMALL_CALL, RESULT_BYTES // max(1, user_bytes)))


def settings_over(head_bytes: int) -> Literal["vmap", "map"]:
    """How the settings of a sweep are fitted: side by side, or on a CPU large heads one after another."""
    return "vmap" if head_bytes <= SIDE_BY_SIDE_BYTES or not backends.on_cpu() else "map"


def _in_update(least: int, there: int) -> int:
    """`least`; on an accelerator, whose updates take as long for many as for few, up to `MOST_AT_ONCE` times as many,
    so that `UPDATES` an epoch remain."""
    if backends.on_cpu():
        return least
    return least << max(0, min(MOST_AT_ONCE, there // (UPDATES * least)).bit_length() - 1)


def _put(leaf: Array, row: Any, value: Array) -> Array:
    here = jnp.clip(row, 0, leaf.shape[0] - 1)
    old = jax.lax.dynamic_index_in_dim(leaf, here, keepdims=False)
    return jax.lax.dynamic_update_index_in_dim(leaf, jnp.where(row == here, value, old), here, 0)
