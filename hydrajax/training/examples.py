"""What heads learn from: one row an example, many examples a user."""

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

    def check_users(self, num_users: int) -> None:
        """Raises a DataError where a row's user is not below `num_users`."""
        if len(self.user) and self.user.max() >= num_users:
            row = int(self.user.argmax())
            raise DataError(f"examples: user of row {row} is {self.user[row]}, expected less than {num_users} users")


def _finite(name: str, array: np.ndarray) -> None:
    if not np.isfinite(array).all():
        row = np.argwhere(~np.isfinite(array))[0][0]
        raise DataError(f"examples: {name} of row {row} is not a finite number")
