"""Which rows make which mini-batch: one user's examples in chunks of equal size."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chunks:
    """Mini-batches of one user's rows each.

    Attributes:
      rows: int32 [M, E], row numbers of the examples, -1 = padding.
      start: int32 [epochs, U], the user's first chunk in the epoch.
      stop: int32 [epochs, U], behind the user's last one.
    """

    rows: np.ndarray
    start: np.ndarray
    stop: np.ndarray


def make(
    user: np.ndarray,
    pool: np.ndarray,
    num_users: int,
    *,
    size: int,
    epochs: int = 1,
    seed: int | None = None,
    keys: np.ndarray | None = None,
    whole_pools: bool = False,
    among: np.ndarray | None = None,
) -> Chunks:
    """Chunks of every user's rows for every epoch.

    Args:
      user: int32 [N], the user of each row.
      pool: int32 [N], the pool of each row.
      num_users: users in all; one without rows has no chunk.
      size: rows of a chunk; with `whole_pools` at least the largest pool, which it becomes where it is smaller.
      epochs: each epoch orders the rows anew.
      seed: of the order, which depends on seed, epoch and the user's key alone; None keeps the rows' own order.
      keys: uint32 [num_users], what users are told apart by in draws; by default their numbers.
      whole_pools: a pool is never divided among chunks, as losses inside a pool need it.
      among: bool [N], the rows that are given out; by default all.
    """
    order = np.argsort(user, kind="stable")
    ends = np.searchsorted(user[order], np.arange(num_users + 1))
    members = [order[ends[u] : ends[u + 1]] for u in range(num_users)]
    if among is not None:
        members = [rows[among[rows]] for rows in members]
    pools = [_pools(rows, pool) if whole_pools else [] for rows in members]
    size = max([size, *(len(group) for groups in pools for group in groups)])
    chunks: list[np.ndarray] = []
    start = np.zeros((epochs, num_users), np.int32)
    stop = np.zeros((epochs, num_users), np.int32)
    for epoch in range(epochs):
        for u, rows in enumerate(members):
            rng = None if seed is None else np.random.default_rng([seed, epoch, u if keys is None else int(keys[u])])
            start[epoch, u] = len(chunks)
            chunks.extend(_pack(pools[u], size, rng) if whole_pools else _cut(rows, size, rng))
            stop[epoch, u] = len(chunks)
    out = np.full((len(chunks), size), -1, np.int32)
    for i, rows in enumerate(chunks):
        out[i, : len(rows)] = rows
    return Chunks(rows=out, start=start, stop=stop)


def padded(n: int) -> int:
    """The next of 16, 24, 32, 48, 64, 96, ... rows."""
    size = 16
    while size < n:
        if size * 3 // 2 >= n:
            return size * 3 // 2
        size *= 2
    return size


def pad(array: np.ndarray, n: int, fill: int = 0) -> np.ndarray:
    """The array with rows of `fill` up to n rows."""
    return np.pad(array, [(0, n - len(array)), *[(0, 0)] * (array.ndim - 1)], constant_values=fill)


def _pools(rows: np.ndarray, pool: np.ndarray) -> list[np.ndarray]:
    groups: dict[int, list[int]] = {}
    for row in rows:
        groups.setdefault(int(pool[row]), []).append(int(row))
    return [np.array(group) for group in groups.values()]


def _cut(rows: np.ndarray, size: int, rng: np.random.Generator | None) -> list[np.ndarray]:
    rows = rows if rng is None else rng.permutation(rows)
    # Chunks as equal as possible: a last chunk of one row would be a step as long as any other.
    count = -(-len(rows) // size)
    return np.array_split(rows, count) if count else []


def _pack(groups: list[np.ndarray], size: int, rng: np.random.Generator | None) -> list[np.ndarray]:
    """Pools in chunks, each filled until the next pool does not fit."""
    chunks: list[list[np.ndarray]] = []
    room = 0
    for i in range(len(groups)) if rng is None else rng.permutation(len(groups)):
        if len(groups[i]) > room:
            chunks.append([])
            room = size
        chunks[-1].append(groups[i])
        room -= len(groups[i])
    return [np.concatenate(chunk) for chunk in chunks]
