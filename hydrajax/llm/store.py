"""The store of answers: SQLite, one row per (request key, sample), written before an answer is used."""

import os
import pathlib
import sqlite3
import time
from collections.abc import Iterable, Mapping

import platformdirs

from hydrajax.llm.request import Answer
from hydrajax.types import DataError

_SCHEMA = """
create table if not exists answers (
  key text not null,
  sample integer not null,
  model text not null,
  text text not null,
  stop_reason text not null,
  input_tokens integer not null,
  output_tokens integer not null,
  created real not null,
  primary key (key, sample)
) without rowid
"""
_COLUMNS = "text, stop_reason, input_tokens, output_tokens"


def default_path() -> pathlib.Path:
    """One file in the user's cache folder, shared by all runs."""
    return pathlib.Path(platformdirs.user_cache_dir("hydrajax")) / "answers.sqlite"


class Store:
    """Answers by (request key, sample number). Safe with several processes (WAL; the first writer of a row wins).

    Args:
      path: the file, made where it does not exist.

    Raises:
      DataError: the file is not such a store, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None):
        self.path = pathlib.Path(path) if path is not None else default_path()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
            self._db.execute(_SCHEMA)
            self._db.execute(f"select key, sample, {_COLUMNS} from answers limit 1")
            # Only now, since it rewrites the header: another program's database stays as it is.
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = normal")
        except (sqlite3.Error, OSError) as error:
            raise DataError(f"{self.path}: cannot be used as a store of answers ({error})") from error

    @classmethod
    def without_making(cls, path: str | os.PathLike[str] | None = None) -> "Store":
        """The store of a file that exists, or an empty one in memory: for plans, which leave nothing behind."""
        there = pathlib.Path(path) if path is not None else default_path()
        return cls(there if there.exists() else ":memory:")

    def get_many(self, wanted: Iterable[tuple[str, int]]) -> Mapping[tuple[str, int], Answer]:
        """The stored answers among `wanted`, marked as cached."""
        found = {}
        for row_key, sample in dict.fromkeys(wanted):
            row = self._db.execute(
                f"select {_COLUMNS} from answers where key = ? and sample = ?", (row_key, sample)
            ).fetchone()
            if row is not None:
                found[row_key, sample] = Answer(
                    text=row[0], stop_reason=row[1], input_tokens=row[2], output_tokens=row[3], cached=True
                )
        return found

    def put(self, row_key: str, sample: int, model: str, answer: Answer) -> Answer:
        """Stores an answer and returns the one that the store now holds (another process may have been first)."""
        inserted = self._db.execute(
            f"insert or ignore into answers (key, sample, model, {_COLUMNS}, created) values (?, ?, ?, ?, ?, ?, ?, ?)",
            (row_key, sample, model, answer.text, answer.stop_reason, answer.input_tokens, answer.output_tokens,
             time.time()),
        )  # fmt: skip
        if inserted.rowcount:
            return answer
        return self.get_many([(row_key, sample)])[row_key, sample]

    def __len__(self) -> int:
        return self._db.execute("select count(*) from answers").fetchone()[0]

    def close(self) -> None:
        self._db.close()
