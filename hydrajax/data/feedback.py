"""What users said of answers: from a file of ratings and comparisons, and from a profile.

The file is JSON lines, each about one query:

    {"query_id": "q1", "scores": {"an answer": 4, "another answer": 1.5}}
    {"query_id": "q1", "preferred": ["the better answer", "the worse answer"]}
    {"query_id": "q1", "gold": "what the user wrote"}
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hydrajax.data import parsing, pseudo, tasks
from hydrajax.types import Feedback, Query, User

KINDS = ("gold", "scores", "preferred")


def read_feedback(
    path: Path, queries: Iterable[Query], *, skip_bad: bool = False
) -> tuple[tuple[Feedback, ...], tuple[str, ...]]:
    """Reads ratings, comparisons and golds of the given queries.

    Args:
      path: the file.
      queries: what the file's `query_id`s may name.
      skip_bad: leave bad lines out instead of refusing the file.

    Returns:
      the feedback in the order of the file, and one sentence for every line that was left out.

    Raises:
      DataError: one sentence per fault with file and line, at most 20 of them.
    """
    by_id = {query.id: query for query in queries}
    errors = parsing.Errors(skip_bad=skip_bad)
    feedback = []
    for where, row in parsing.read_lines(Path(path), errors):
        query_id = parsing.read_id(row, where, errors, "query_id")
        if query_id is None:
            continue
        where = f"{where}: query {query_id!r}"
        if query_id not in by_id:
            errors.add(f"{where}: there is no such query")
            continue
        content = _content(row, where, errors)
        if content is not None:
            feedback.append(Feedback(query=by_id[query_id], **content))
    return tuple(feedback), errors.settle()


def profile_feedback(
    task: tasks.Task, user: User, *, seed: int = 0, population: Iterable[User] = ()
) -> tuple[Feedback, ...]:
    """The feedback that a profile holds: the user's answer to every record that can be asked as a query.

    Where `task.pseudo_query` is `paraphrase` the queries still hold the answer as their input (see `pseudo`).

    Args:
      task: decides how a record is asked.
      user: whose profile.
      seed, population: as for `pseudo.pseudo_queries`.
    """
    queries = pseudo.pseudo_queries(task, user, None, seed=seed, population=population)
    return tuple(Feedback(query=query, gold=query.gold) for query in queries)


def _content(row: Mapping[str, Any], where: str, errors: parsing.Errors) -> dict[str, Any] | None:
    """The one kind of feedback that a line gives, as keyword arguments of `Feedback`."""
    unknown = [key for key in row if key not in (*KINDS, "query_id")]
    if unknown:
        errors.add(f"{where}: has the key {unknown[0]!r}, expected query_id and one of {', '.join(KINDS)}")
        return None
    given = [kind for kind in KINDS if row.get(kind) is not None]
    if len(given) != 1:
        errors.add(f"{where}: has {' and '.join(given) or 'nothing'}, expected exactly one of {', '.join(KINDS)}")
        return None
    kind, value = given[0], row[given[0]]
    if kind == "gold":
        if isinstance(value, str) and value.strip():
            return {"gold": value}
        errors.add(f"{where}: has {parsing.kind_of(value)} as 'gold', expected a text that is not empty")
    elif kind == "scores":
        if isinstance(value, dict) and value and all(_is_number(score) for score in value.values()):
            return {"scores": {answer: float(score) for answer, score in value.items()}}
        errors.add(f"{where}: 'scores' must be an object of at least one answer and its number")
    else:
        texts = isinstance(value, list) and all(isinstance(text, str) for text in value)
        if texts and len(value) == 2 and value[0] != value[1]:
            return {"preferred": (value[0], value[1])}
        errors.add(f"{where}: 'preferred' must be a list of two different answers, the better one first")
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
