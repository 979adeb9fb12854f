"""Retrieval: a query and a user's profile in, the most relevant records out.

A retriever is one file, of this folder or of one's own (see `plugins`), with one function,

    rank(query_text, records, corpus, *, query_id, seed) -> all indices of `records`, best first
"""

import operator
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from hydrajax import plugins
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
          query_text: of `Task.retrieval_text`, the bare input without the template's words.
          records: the profile, oldest first.
          corpus: what is searched of each record, in the order of `records`.
          query_id: with `seed`, what a retriever that draws may depend on.
          seed: of the run.
        """
        ...


_KIND = plugins.Kind(what="retriever", package=__name__, attribute="rank")


names = _KIND.names  # of the folder
summaries = _KIND.summaries


def retriever(name: str) -> Rank:
    """The retriever of this name.

    Raises:
      DataError: there is none.
    """
    rank = _KIND.load(name)
    if not callable(rank):
        raise DataError(f"retriever {name!r}: rank is {rank!r:.80}, expected a function")
    return rank


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
      DataError: no such retriever, one of one's own that fails or ranks other things, or `n` is negative.
    """
    if n < 0:
        raise DataError(f"cannot retrieve {n} records for query {query.id!r}, expected 0 or more")
    rank = retriever(name) if isinstance(name, str) else name
    records = profile_for(query, user)
    corpus = [task.corpus_text(record) for record in records]
    if plugins.is_own(rank):
        order = rank(task.retrieval_text(query), records, corpus, query_id=query.draw_name, seed=seed)
    else:
        what = f"retriever {name if isinstance(name, str) else rank!r:.80}"
        with plugins.blamed(f"{what}: rank"):
            given = rank(task.retrieval_text(query), records, corpus, query_id=query.draw_name, seed=seed)
        try:
            order = [operator.index(index) for index in given]
        except TypeError:  # no list, or one of other things than numbers
            order = []
        if sorted(order) != list(range(len(records))):
            raise DataError(
                f"{what}: rank gives {given!r:.80} for query {query.id!r}, expected a list of the numbers of all its "
                f"{len(records)} records, each once"
            )
    return tuple(records[index] for index in order[:n])
