"""Features that were computed once and are kept in a folder: an SQLite file, one row a text.

A frozen base gives the same text the same features for ever, and on a CPU they are the slowest part of a run. A row
is written in a transaction, so a killed run keeps what it finished and leaves nothing half-written.
"""

import contextlib
import hashlib
import json
import pathlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from hydrajax.types import DataError

FILE = "features.sqlite"


def key(*parts: object) -> bytes:
    """The hash under which a text's features are kept: of everything that they depend on."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).digest()


class FeatureCache:
    """Features by key. Several processes may share one folder."""

    def __init__(self, connection: sqlite3.Connection, dim: int):
        self._connection = connection
        self._dim = dim

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Float[np.ndarray, " D"]]:
        """The features that are there, float32 [D] by key."""
        found = {}
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            marks = ",".join("?" * len(part))
            query = f"select key, value from features where key in ({marks})"
            for name, value in self._connection.execute(query, part):
                row = np.frombuffer(value, "<f4")
                if row.shape == (self._dim,):  # a row of another width is computed again
                    found[name] = row.astype(np.float32)
        return found

    def put(self, rows: Mapping[bytes, Float[np.ndarray, " D"]]) -> None:
        """Keeps rows, all or none of them."""
        with self._connection:
            self._connection.executemany(
                "insert or replace into features values (?, ?)",
                [(name, np.asarray(row, "<f4").tobytes()) for name, row in rows.items()],
            )


@contextlib.contextmanager
def opened(folder: str | pathlib.Path, dim: int) -> Iterator[FeatureCache]:
    """The cache of a folder, which is made where it does not exist.

    Raises:
      DataError: the file in the folder is not a cache of features.
    """
    path = pathlib.Path(folder).expanduser() / FILE
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = stack.enter_context(contextlib.closing(sqlite3.connect(path, timeout=60)))
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            with connection:
                connection.execute(
                    "create table if not exists features (key blob primary key, value blob) without rowid"
                )
        except (OSError, sqlite3.Error) as error:
            raise DataError(
                f"{path}: not usable as a cache of features ({error}): delete it or name another folder"
            ) from error
        yield FeatureCache(connection, dim)
