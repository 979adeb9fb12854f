"""Prediction rows: checked, and put into one order."""

import collections
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from hydrajax import files
from hydrajax.data import tasks
from hydrajax.types import DataError

Row = Mapping[str, Any]


def judged(task: tasks.Task, rows: Iterable[Row]) -> list[Row]:
    """The rows that can be judged, ordered by user and query.

    A query without a gold is answered, not judged (in a task of simulated users the rewards judge). The order does not
    depend on the order of the rows, so neither does anything that is drawn from it.

    Raises:
      DataError: no row can be judged; a query occurs twice; a method answered only some of the queries, or with
        different numbers of draws; an answer of a reward task has no reward. All faults are in one message.
    """
    needs_gold = task.kind != "reward"
    kept = [row for row in rows if row["gold"] is not None or not needs_gold]
    kept.sort(key=lambda row: (row["user"], row["query"]))
    if not kept:
        raise DataError(f"none of the predictions of task {task.name} has a gold, expected at least one to judge")
    times = collections.Counter(row["query"] for row in kept)
    faults = [f"query {query!r} occurs {n} times in the predictions" for query, n in times.items() if n > 1]
    draws = {method: len(answer["predictions"]) for row in kept for method, answer in row["answers"].items()}
    for row in kept:
        for method, expected in draws.items():
            faults += _answer_faults(row, method, expected, needs_rewards=not needs_gold)
    if faults:
        more = f" (and {len(faults) - 10} more)" if len(faults) > 10 else ""
        raise DataError("; ".join(faults[:10]) + more)
    return kept


def gold(task: tasks.Task, row: Row) -> str:
    """The row's gold as it is compared: a label or rating normalised, a text without surrounding blanks."""
    text = row["gold"] or ""
    return text.strip() if task.kind in ("generation", "reward") else task.normalise(text)


def read(path: pathlib.Path) -> list[Row]:
    """The rows of a `predictions.jsonl`.

    Raises:
      DataError: the file is missing, or a line is no JSON object.
    """
    return [row for _, row in files.numbered_lines(path)]


def _answer_faults(row: Row, method: str, draws: int, *, needs_rewards: bool) -> list[str]:
    answer = row["answers"].get(method)
    if answer is None:
        return [f"query {row['query']!r} has no answer of method {method}, which answered others"]
    n = len(answer["predictions"])
    if n != draws or not n:
        return [f"query {row['query']!r} has {n} answers of method {method}, expected {max(draws, 1)} as elsewhere"]
    rewards = len(answer.get("rewards") or ())
    if needs_rewards and rewards != n:
        return [f"query {row['query']!r} has {rewards} rewards for {n} answers of method {method}"]
    return []
