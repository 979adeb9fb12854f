"""What heads learn from: one row an example, many examples a user; and which examples make which mini-batch."""

import dataclasses

import numpy as np

from hydrajax.nn import tokens
from hydrajax.training import checks
from hydrajax.types import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examples:
    """N examples, checked when they are made.

    A user who is encoded, not fitted, is encoded from these as well: features, extras and labels of the user's own
    examples are the context (`heads.Context`).

    Attributes:
      user: int32 [N], row number of the user, 0..num_users-1.
      x: features of the pair, float32 [N, D]; or `tokens.Tokens` [N, T] where the base is trained.
      extras: float32 [N, X], for example the candidate's source as one-hot and its votes; X may be 0.
      label: float32 [N] in [0, 1].
      score: float32 [N], graded quality within the pool.
      pool: int32 [N], number of the pool: one query's candidates, or its records.

    Raises:
      DataError: the arrays do not fit each other, or hold what cannot be learned from.
    """

    user: np.ndarray
    x: np.ndarray | tokens.Tokens
    extras: np.ndarray
    label: np.ndarray
    score: np.ndarray
    pool: np.ndarray

    def __post_init__(self):
        n = len(checks.host(self.user, "examples: user")) if np.ndim(self.user) else 0
        for name in ("user", "extras", "label", "score", "pool"):
            given, what = getattr(self, name), f"examples: {name}"
            if name in ("user", "pool"):
                array = checks.whole(given, what).astype(np.int32, copy=False)
            else:
                array = checks.floats(given, what)
            object.__setattr__(self, name, array)
            rank = 2 if name == "extras" else 1
            if array.ndim != rank or len(array) != n:
                shape = f"[{n}, X]" if rank == 2 else f"[{n}]"
                raise DataError(f"examples: {name} has shape {list(array.shape)}, expected {shape}")
        if not isinstance(self.x, tokens.Tokens):
            object.__setattr__(self, "x", checks.floats(self.x, "examples: x"))
            if self.x.ndim != 2 or len(self.x) != n:
                raise DataError(f"examples: x has shape {list(self.x.shape)}, expected [{n}, D]")
            _finite("x", self.x)
        elif len(self.x.ids) != n:
            raise DataError(f"examples: x has {len(self.x.ids)} texts, expected {n}")
        for name in ("extras", "label", "score"):
            _finite(name, getattr(self, name))
        outside = np.flatnonzero((self.label < 0) | (self.label > 1))
        if len(outside):
            raise DataError(
                f"examples: label of row {outside[0]} is {self.label[outside[0]]}, expected a number from 0 to 1"
            )
        if n and self.user.min() < 0:
            raise DataError(f"examples: user of row {self.user.argmin()} is {self.user.min()}, expected 0 or more")

    @property
    def features(self) -> np.ndarray:
        """x, float32 [N, D].

        Raises:
          DataError: it holds tokens.
        """
        if isinstance(self.x, tokens.Tokens):
            raise DataError("the examples hold tokens, heads are fitted on features: encode them with the base")
        return self.x

    def check_users(self, num_users: int) -> None:
        """Raises a DataError where a row's user is not below `num_users`."""
        if len(self.user) and self.user.max() >= num_users:
            row = int(self.user.argmax())
            raise DataError(f"examples: user of row {row} is {self.user[row]}, expected less than {num_users} users")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chunks:
    """Mini-batches of one user's examples each.

    Attributes:
      rows: int32 [M, E], row numbers of the examples, -1 = padding.
      start: int32 [epochs, U], the user's first chunk in the epoch.
      stop: int32 [epochs, U], behind the user's last one.
    """

    rows: np.ndarray
    start: np.ndarray
    stop: np.ndarray


def chunked(
    user: np.ndarray,
    pool: np.ndarray,
    num_users: int,
    *,
    size: int,
    epochs: int = 1,
    seed: int | None = None,
    keys: np.ndarray | None = None,
    whole_pools: bool = False,
) -> Chunks:
    """Every user's examples for every epoch, in chunks as equal as possible.

    Args:
      user: int32 [N], the user of each example; those of users from `num_users` on are left out.
      pool: int32 [N], the pool of each example.
      num_users: U. A user without examples has no chunk.
      size: most examples of a chunk; with `whole_pools` those of the largest pool where these are more.
      epochs: each epoch orders the examples anew.
      seed: of the order, which depends on seed, epoch and the user's key alone; None keeps the examples' own order.
      keys: uint32 [U], what users are told apart by in draws; by default their numbers.
      whole_pools: a pool is never divided among chunks, as losses inside a pool need it.
    """
    order = np.argsort(user, kind="stable")
    ends = np.searchsorted(user[order], np.arange(num_users + 1))
    members = [order[ends[u] : ends[u + 1]] for u in range(num_users)]
    pools = [_pools(rows, pool) if whole_pools else [] for rows in members]
    size = max([size, *(len(group) for groups in pools for group in groups)])
    chunks: list[np.ndarray] = []
    start = np.zeros((epochs, num_users), np.int32)
    stop = np.zeros((epochs, num_users), np.int32)
    for epoch in range(epochs):
        for u, rows in enumerate(members):
            rng = None if seed is None else np.random.default_rng([seed, epoch, u if keys is None else int(keys[u])])
            start[epoch, u] = len(chunks)
            chunks.extend(_packed(pools[u], size, rng) if whole_pools else _cut(rows, size, rng))
            stop[epoch, u] = len(chunks)
    out = np.full((len(chunks), size), -1, np.int32)
    for i, rows in enumerate(chunks):
        out[i, : len(rows)] = rows
    return Chunks(rows=out, start=start, stop=stop)


def padded(n: int, least: int = 16) -> int:
    """The next of `least`, 1.5, 2, 3, 4, 6, ... times `least`: arrays of few different lengths compile few programs."""
    size = least
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


def _packed(pools: list[np.ndarray], size: int, rng: np.random.Generator | None) -> list[np.ndarray]:
    """Pools in chunks, each filled until the next pool does not fit."""
    chunks: list[list[np.ndarray]] = []
    room = 0
    for i in range(len(pools)) if rng is None else rng.permutation(len(pools)):
        if len(pools[i]) > room:
            chunks.append([])
            room = size
        chunks[-1].append(pools[i])
        room -= len(pools[i])
    return [np.concatenate(chunk) for chunk in chunks]


def _finite(name: str, array: np.ndarray) -> None:
    if not np.isfinite(array).all():
        row = np.argwhere(~np.isfinite(array))[0][0]
        raise DataError(f"examples: {name} of row {row} is not a finite number")
