"""Looking after a store: what is in it, copies of it, whether it is sound, and what may go."""

import dataclasses
import json
import math
import pathlib
import re
import sqlite3
import time
from typing import Any

from hydrajax import files
from hydrajax.llm import models, request, store
from hydrajax.types import DataError

_TYPES: dict[str, tuple[type, ...]] = {"text": (str,), "integer": (int,), "real": (int, float)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelStats:
    """What the store holds of one model; dollars are None where its price is not known."""

    model: str
    answers: int
    refused: int
    truncated: int
    empty: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None


_COUNTS = [field.name for field in dataclasses.fields(ModelStats) if field.name != "cost_usd"]


def stats(answers: store.Store) -> list[ModelStats]:
    """Answers, what became of them, and what they cost, by model."""
    rows = answers.execute(
        "select model, count(*), sum(stop_reason = 'refusal'), sum(stop_reason = 'max_tokens'), sum(trim(text) = ''), "
        "sum(input_tokens), sum(output_tokens), sum(price * input_tokens), sum(price * output_tokens), "
        f"sum(price * cache_read), sum(price * cache_written) from "
        f"(select *, iif(batch, {models.BATCH_PRICE}, 1.0) as price from answers) group by model order by model"
    )
    return [
        ModelStats(
            **dict(zip(_COUNTS, row, strict=False)),
            cost_usd=models.find(row[0]).cost(row[-4], row[-3], cache_read=row[-2], cache_written=row[-1]),
        )
        for row in rows
    ]


def export(answers: store.Store, path: pathlib.Path) -> int:
    """Writes every answer as a JSON line, whole or not at all; returns how many.

    Raises:
      DataError: the file cannot be written, or is the store's own.
    """
    if answers.is_part(path):
        raise DataError(f"{path}: is the store itself, expected another file")
    count = 0
    try:
        with files.replacing(path) as file:
            for row in answers.rows():
                file.write(json.dumps(row) + "\n")
                count += 1
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error
    return count


@dataclasses.dataclass(frozen=True, kw_only=True)
class Imported:
    """How many rows were new, were there already, and were there with another text (the old one stays)."""

    new: int
    same: int
    different: int


def import_lines(answers: store.Store, path: pathlib.Path) -> Imported:
    """Takes in what `export` wrote; an answer that is there already stays.

    Raises:
      DataError: the file cannot be read, or a line is no answer. Nothing is taken in then.
    """
    new = same = different = 0
    with answers.transaction():
        for number, row in files.numbered_lines(path):
            problem = _problem(row)
            if problem:
                raise DataError(f"{path}, line {number}: {problem}")
            key = (row["key"], row["sample"])
            stored = answers.get_many([key])
            if stored:
                equal = stored[key].text == row["text"]
                same, different = same + equal, different + (not equal)
                continue
            answers.execute(store.INSERT, row)
            new += 1
    return Imported(new=new, same=same, different=different)


def verify(answers: store.Store) -> list[str]:
    """What is wrong with the file and its rows, a sentence each; none where it is sound."""
    wrong: list[str] = []
    try:
        wrong += [f"SQLite: {row[0]}" for row in answers.execute("pragma integrity_check") if row[0] != "ok"]
        for row in answers.rows():
            problem = _problem(row)
            if problem:
                wrong.append(f"answer {str(row['key'])[:12]}.../{row['sample']}: {problem}")
    except sqlite3.DatabaseError as error:
        return [*wrong, f"SQLite: {error}; export what can be read into a new store"]
    claimed = answers.execute(
        "select count(*) from claims join answers on claims.key = answers.key and claims.sample = answers.sample"
    ).fetchone()[0]
    if claimed:
        wrong.append(f"{claimed} requests are noted as under way although they are answered; gc mends that")
    return wrong


@dataclasses.dataclass(frozen=True, kw_only=True)
class Removed:
    """What was removed: answers, claims of processes that no longer run, and notes of batches that have ended."""

    answers: int
    claims: int
    batches: int


def collect_garbage(
    answers: store.Store,
    *,
    model: str | None = None,
    older_than_days: float | None = None,
    batches: bool = False,
) -> Removed:
    """Removes claims of the dead, and the answers that are asked to go; gives the space back.

    Args:
      model: answers of this model go.
      older_than_days: answers older than this go; with `model`, only those of that model.
      batches: batches under way are forgotten too; their requests will be sent, and paid for, again.

    Raises:
      ValueError: a negative age, which every answer has.
    """
    if older_than_days is not None and not older_than_days >= 0:
        raise ValueError(f"older_than_days is {older_than_days}, expected 0 or more")
    removed = 0
    with answers.transaction():
        dead = [
            (key, sample)
            for key, sample, owner, since in answers.execute("select key, sample, owner, since from claims").fetchall()
            if not store.process_lives(owner, since)
            or answers.get_many([(key, sample)])
            or (batches and owner.startswith("batch:"))
        ]
        for key in dead:
            answers.execute("delete from claims where key = ? and sample = ?", key)
        ended = answers.execute(
            "delete from batches where not exists (select 1 from claims where owner = 'batch:' || intent)"
        ).rowcount
        if model is not None or older_than_days is not None:
            before = math.inf if older_than_days is None else time.time() - older_than_days * 86400
            statement = "delete from answers where model = coalesce(?, model) and created < ?"
            removed = answers.execute(statement, (model, before)).rowcount
    answers.execute("vacuum")
    return Removed(answers=removed, claims=len(dead), batches=ended)


def _problem(row: dict[str, Any]) -> str | None:
    missing = [name for name in store.COLUMNS if name not in row]
    if missing:
        return f"has no {', '.join(missing)}; expected what `hydrajax store export` writes"
    for name, declared in store.COLUMNS.items():
        kinds = _TYPES[declared.split()[0]] + (() if "not null" in declared else (type(None),))
        if not isinstance(row[name], kinds) or isinstance(row[name], bool):
            return f"{name} is {row[name]!r}, expected {' or '.join(kind.__name__ for kind in kinds)}"
    if not re.fullmatch("[0-9a-f]{64}", row["key"]):
        return f"key is {row['key'][:80]!r}, expected 64 hexadecimal digits"
    for name, value in row.items():
        if name in store.COLUMNS and isinstance(value, int | float) and not 0 <= value < 2**63:
            return f"{name} is {value}, expected 0 or more, and less than 2^63"
        if isinstance(value, str) and value != request.encodable(value):
            return f"{name} holds half a surrogate pair"
    return None
