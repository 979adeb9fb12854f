"""Retrieval: a query and a user's profile in, the most relevant records out.

A retriever is one file of this folder with one function,

    rank(query_text, records, corpus, *, query_id, seed) -> all indices of `records`, best first

and the file's name is its name. Files that begin with an underscore are not retrievers.
"""

import importlib
import pkgutil
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from hydrajax.data import tasks
from hydrajax.types import DataError, Query, Record, User, profile_for


@runtime_checkable
class Rank(Protocol):
    """How a retriever orders a profile."""

    def __call__(
        self, query_text: str, records: Sequence[Record], corpus: Sequence[str], *, query_id: str, seed: int
    ) -> list[int]:
        """All indices of `records`, best first.

        Args:
          query_text: the bare input without the template's words.
          records: the profile, oldest first.
          corpus: what is searched of each record, in the order of `records`.
          query_id: with `seed`, what a retriever that draws may depend on.
          seed: of the run.
        """
        ...


def names() -> tuple[str, ...]:
    """The retrievers that `retriever` finds, in alphabetical order."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")))


def retriever(name: str) -> Rank:
    """The retriever of this name.

    Raises:
      DataError: there is none.
    """
    if name not in names():
        raise DataError(f"unknown retriever {name!r}, expected one of {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}").rank


def retrieve(name: str | Rank, task: tasks.Task, query: Query, user: User, n: int, seed: int = 0) -> tuple[Record, ...]:
    """The `n` records of the user's profile that are most relevant for the query, best first.

    The record that a pseudo-query was made of is left out before anything is counted, so it shapes neither the result
    nor the statistics (document frequencies, lengths) that the result rests on.

    Args:
      name: one of `names()`, or a function that ranks (for retrievers that close over something, as an encoder).
      task: says what of the query and of the records is read.
      query: a real query or a pseudo-query.
      user: who asks.
      n: how many records; all of them where the profile is shorter.
      seed: for retrievers that draw.

    Raises:
      DataError: no such retriever, or `n` is negative.
    """
    if n < 0:
        raise DataError(f"cannot retrieve {n} records for query {query.id!r}, expected 0 or more")
    rank = retriever(name) if isinstance(name, str) else name
    records = profile_for(query, user)
    corpus = [task.corpus_text(record) for record in records]
    order = rank(task.query_text(query), records, corpus, query_id=query.draw_name, seed=seed)
    return tuple(records[index] for index in order[:n])
