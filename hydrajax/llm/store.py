"""The store of answers: SQLite, one row per (request key, sample), written before an answer is used.

    answers    what came back, and what it cost
    claims     requests under way, and who sent them: nobody else sends them meanwhile
    batches    Message Batches that were submitted, or were about to be
    attempts   how many requests were sent, by outcome

Several processes may use one file: a claim is taken in a transaction, and one whose owner has died is free again.
"""

import contextlib
import dataclasses
import os
import pathlib
import socket
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import platformdirs
import psutil

from hydrajax.llm.request import Answer, encodable
from hydrajax.types import DataError

Key = tuple[str, int]
Expected = tuple[int | None, int | None]  # tokens of the prompt, limit of the answer
UNKNOWN: Expected = (None, None)

TRUSTED_SECONDS = 3600.0
CLAIMED_AT_ONCE = 500
BUSY_SECONDS = 600.0  # another process may copy or check a large store; an answer that was paid for waits
# Those with a default, or that may be null, were added later: older files get them when they are opened.
COLUMNS = {
    "key": "text not null",
    "sample": "integer not null",
    "model": "text not null",
    "text": "text not null",
    "stop_reason": "text not null",
    "input_tokens": "integer not null",
    "output_tokens": "integer not null",
    "cache_read": "integer not null default 0",
    "cache_written": "integer not null default 0",
    "request_id": "text not null default ''",
    "seconds": "real not null default 0",
    "batch": "integer not null default 0",
    "expected_tokens": "integer",
    "max_tokens": "integer",
    "created": "real not null",
}
_ANSWER = tuple(field.name for field in dataclasses.fields(Answer) if field.name in COLUMNS)
_SCHEMA = {
    "answers": f"""answers (
      {", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())}, primary key (key, sample)) without rowid""",
    "claims": """claims (
      key text not null, sample integer not null, owner text not null, since real not null,
      primary key (key, sample)) without rowid""",
    "batches": """batches (
      intent text primary key, id text, model text not null, size integer not null, created real not null)
      without rowid""",
    "attempts": """attempts (
      model text not null, outcome text not null, count integer not null, primary key (model, outcome))
      without rowid""",
}
INSERT = f"insert or ignore into answers ({', '.join(COLUMNS)}) values ({', '.join(f':{name}' for name in COLUMNS)})"


def default_path() -> pathlib.Path:
    """One file in the user's cache folder, shared by all runs."""
    return pathlib.Path(platformdirs.user_cache_dir("hydrajax")) / "answers.sqlite"


def process_name(number: int | None = None) -> str:
    """A name for a process, by default this one, that no other one ever had: machine, number, and when it began."""
    process = psutil.Process(number)
    return f"{socket.gethostname()}/{process.pid}/{process.create_time():.2f}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SubmittedBatch:
    """A Message Batch of this store.

    Attributes:
      intent: the store's own name for it, given before it was submitted.
      id: the server's, None while it is not known.
      size: number of requests.
      created: when it was about to be submitted, seconds since 1970.
    """

    intent: str
    id: str | None
    model: str
    size: int
    created: float


class Store:
    """Answers by (request key, sample number). Safe with several processes (WAL; the first writer of a row wins).

    Args:
      path: the file, made where it does not exist.
      must_exist: a file without a store in it, an empty one too, is refused instead.
      read_only: the same, and nothing is ever written to the file.

    Raises:
      DataError: the file is not such a store, or cannot be written.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, must_exist: bool = False, read_only: bool = False
    ):
        self.path = pathlib.Path(path) if path is not None else default_path()
        self.owner = process_name()
        must_exist = must_exist or read_only
        try:
            if must_exist and self.path.stat().st_size == 0:
                raise DataError(f"{self.path}: is empty, expected a store of answers")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file: Any = f"{self.path.resolve().as_uri()}?mode=ro" if read_only else self.path
            self._db = sqlite3.connect(
                file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=read_only
            )
            tables = {row[0] for row in self._db.execute("select name from sqlite_master where type = 'table'")}
            if tables or must_exist:  # nothing is changed before this is known to be a store
                self._db.execute("select key, sample, model, text, stop_reason, created from answers limit 1")
            if read_only:
                self._complete_beside(tables)
                return
            for statement in _SCHEMA.values():
                self._db.execute(f"create table if not exists {statement}")
            self._add_columns()
            # Only now, since it rewrites the header: another program's database stays as it is.
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = normal")
        except (sqlite3.Error, OSError) as error:
            raise DataError(f"{self.path}: cannot be used as a store of answers ({error})") from error

    @classmethod
    def without_making(cls, path: str | os.PathLike[str] | None = None) -> "Store":
        """The store of a file that exists, or an empty one in memory: for plans, which leave nothing behind."""
        file = pathlib.Path(path) if path is not None else default_path()
        return cls(file if file.exists() else ":memory:")

    def is_part(self, path: pathlib.Path) -> bool:
        """Whether a path is the store's file, or one that SQLite keeps beside it."""
        file = self.path.resolve()
        return path.resolve() in [file.with_name(file.name + end) for end in ("", "-wal", "-shm", "-journal")]

    def get_many(self, wanted: Iterable[Key]) -> Mapping[Key, Answer]:
        """The stored answers among `wanted`, marked as cached."""
        stored = {}
        query = f"select {', '.join(_ANSWER)} from answers where key = ? and sample = ?"
        for key in dict.fromkeys(wanted):
            row = self._db.execute(query, key).fetchone()
            if row is not None:
                values = dict(zip(_ANSWER, row, strict=True))
                stored[key] = Answer(**values | {"batch": bool(values["batch"])}, cached=True)
        return stored

    def put(self, key: Key, model: str, answer: Answer, *, expected: Expected = UNKNOWN) -> Answer:
        """Stores an answer, frees its claim, and returns the one that the store now holds (another may be older).

        Args:
          key: of the request.
          model: who answered.
          answer: what came back.
          expected: the estimate of the prompt's tokens, and the request's limit: plans learn from them.
        """
        row = _row(key, model, answer, expected)
        with self.transaction():
            inserted = self._db.execute(INSERT, row)
            self._db.execute("delete from claims where key = ? and sample = ?", key)
            if not inserted.rowcount:
                return self.get_many([key])[key]
        return dataclasses.replace(answer, text=row["text"])

    def put_many(
        self, rows: Iterable[tuple[Key, str, Answer]], *, expected: Mapping[Key, Expected] | None = None
    ) -> None:
        """Stores many answers at once.

        Args:
          rows: (request, model, answer).
          expected: see `put`; of requests that are known.
        """
        with self.transaction():
            for key, model, answer in rows:
                self._db.execute(INSERT, _row(key, model, answer, (expected or {}).get(key, UNKNOWN)))

    def claim_many(self, keys: Sequence[Key]) -> dict[Key, Answer | str | None]:
        """Takes requests over before they are sent.

        Returns:
          for each None where it is now this process's to send; the answer, where there is one; the owner, where another
          process (or a batch: `batch:INTENT`) is at it.
        """
        # In transactions of some hundred: a process that waits for its turn is not kept long.
        claimed: dict[Key, Answer | str | None] = {}
        for start in range(0, len(keys), CLAIMED_AT_ONCE):
            portion = keys[start : start + CLAIMED_AT_ONCE]
            with self.transaction():
                claimed |= self.get_many(portion)
                for key in portion:
                    if key not in claimed:
                        claimed[key] = self._claim(key)
        return claimed

    def _claim(self, key: Key) -> str | None:
        row = self._db.execute("select owner, since from claims where key = ? and sample = ?", key).fetchone()
        if row is not None and row[0] != self.owner and process_lives(row[0], row[1]):
            return row[0]
        self._db.execute("insert or replace into claims values (?, ?, ?, ?)", (*key, self.owner, time.time()))
        return None

    def release(self, keys: Iterable[Key]) -> None:
        """Frees claims of this process, of requests that came to nothing."""
        with self.transaction():
            self._db.executemany(
                "delete from claims where key = ? and sample = ? and owner = ?", ((*key, self.owner) for key in keys)
            )

    def begin_batch(self, intent: str, model: str, keys: Sequence[Key]) -> SubmittedBatch:
        """Notes that these requests are about to be submitted; they belong to the batch from now on."""
        batch = SubmittedBatch(intent=intent, id=None, model=model, size=len(keys), created=time.time())
        with self.transaction():
            self._db.execute("insert into batches values (?, ?, ?, ?, ?)", dataclasses.astuple(batch))
            self._db.executemany(
                "insert or replace into claims values (?, ?, ?, ?)",
                ((*key, f"batch:{intent}", batch.created) for key in keys),
            )
        return batch

    def name_batch(self, intent: str, batch_id: str | None) -> None:
        """Notes the server's id of a batch, or that it is not known after all."""
        self._db.execute("update batches set id = ? where intent = ?", (batch_id, intent))

    def end_batch(self, intent: str) -> None:
        """Forgets a batch, and frees the requests that it left without an answer."""
        with self.transaction():
            self._db.execute("delete from claims where owner = ?", (f"batch:{intent}",))
            self._db.execute("delete from batches where intent = ?", (intent,))

    def batches(self) -> list[SubmittedBatch]:
        """Batches under way, oldest first."""
        rows = self._db.execute("select intent, id, model, size, created from batches order by created")
        return [SubmittedBatch(intent=r[0], id=r[1], model=r[2], size=r[3], created=r[4]) for r in rows]

    def batch(self, intent: str) -> SubmittedBatch | None:
        """The batch of this name, None where it is not under way (any more)."""
        return next((batch for batch in self.batches() if batch.intent == intent), None)

    def batch_keys(self, intent: str) -> list[Key]:
        """The requests of a batch that have no answer yet."""
        return list(self._db.execute("select key, sample from claims where owner = ?", (f"batch:{intent}",)))

    def note(self, model: str, outcomes: Mapping[str, int]) -> None:
        """Adds to the count of attempts."""
        with self.transaction():
            self._db.executemany(
                "insert into attempts values (?, ?, ?) on conflict do update set count = count + excluded.count",
                ((model, outcome, count) for outcome, count in outcomes.items()),
            )

    def attempts(self) -> dict[str, int]:
        """Requests sent so far, by outcome: `answered`, or the kind of the failure."""
        return dict(self._db.execute("select outcome, sum(count) from attempts group by outcome"))

    def habits(self, model: str) -> tuple[float, float] | None:
        """What plans learn from: (prompt tokens for each that was expected, share of the limit that answers fill).

        None with fewer than 50 answers that say so.
        """
        row = self._db.execute(
            "select count(*), sum(input_tokens) * 1.0 / sum(expected_tokens), sum(output_tokens) * 1.0 / "
            "sum(max_tokens) from answers where model = ? and expected_tokens > 0 and max_tokens > 0",
            (model,),
        ).fetchone()
        return (row[1], row[2]) if row[0] >= 50 else None

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every answer with all that is known of it, by key and sample."""
        for row in self._db.execute(f"select {', '.join(COLUMNS)} from answers order by key, sample"):
            yield dict(zip(COLUMNS, row, strict=True))

    def execute(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> sqlite3.Cursor:
        """A statement of one's own, for maintenance."""
        return self._db.execute(statement, values)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and nobody else writes meanwhile."""
        self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")

    def __len__(self) -> int:
        return self._db.execute("select count(*) from answers").fetchone()[0]

    def close(self) -> None:
        self._db.close()

    def _add_columns(self) -> None:
        for name in self._missing_columns():
            # Another process may be adding it at this moment.
            with contextlib.suppress(sqlite3.OperationalError):
                self._db.execute(f"alter table answers add column {name} {COLUMNS[name]}")
        self._db.execute(f"select {', '.join(COLUMNS)} from answers limit 1")

    def _complete_beside(self, tables: Collection[str]) -> None:
        """What an older file lacks, in memory."""
        for name in _SCHEMA.keys() - tables:
            self._db.execute(f"create temp table {_SCHEMA[name]}")
        if missing := self._missing_columns():
            defaults = (f"{COLUMNS[name].partition('default ')[2] or 'null'} as {name}" for name in missing)
            self._db.execute(f"create temp view answers as select *, {', '.join(defaults)} from main.answers")

    def _missing_columns(self) -> list[str]:
        present = {row[1] for row in self._db.execute("pragma table_info(answers)")}
        return [name for name in COLUMNS if name not in present]


def _row(key: Key, model: str, answer: Answer, expected: Expected) -> dict[str, Any]:
    values = {name: getattr(answer, name) for name in _ANSWER} | {"text": encodable(answer.text)}
    values |= {"key": key[0], "sample": key[1], "model": model, "created": time.time()}
    return values | {"expected_tokens": expected[0], "max_tokens": expected[1]}


def process_lives(owner: str, since: float | None = None, *, trusted: float = TRUSTED_SECONDS) -> bool:
    """Whether an owner of claims still runs. Batches do.

    Args:
      owner: `process_name()` of some process, or `batch:INTENT`.
      since: when it made its claim. Of other machines nothing is known: they are trusted for a while.
      trusted: seconds; by default an hour, which is longer than a request takes.
    """
    if owner.startswith("batch:"):
        return True
    host, number, began = owner.rsplit("/", 2)
    if host != socket.gethostname():
        return since is None or time.time() - since < trusted
    try:
        process = psutil.Process(int(number))
        return abs(process.create_time() - float(began)) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
