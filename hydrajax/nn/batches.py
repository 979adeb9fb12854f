"""Encodings of unlike lengths as batches of few different shapes."""

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from hydrajax.nn import backends, tokens

SMALL_BATCH = 4  # rows of a batch that holds what is left over, on each device
TEXTS_IN_ROW = 16  # S, of packed rows

# (row of the batch's features, number of the encoding) of every text in it, and the batch.
Planned = tuple[list[tuple[int, int]], tokens.Tokens]


def planned(
    encodings: Sequence[tokens.Encoding], limit: int, batch_tokens: int, packing: int, shards: int
) -> Iterator[Planned]:
    """The batches, short texts first; their rows can be divided among so many shards.

    Args:
      encodings: of texts.
      limit: longest row.
      batch_tokens: rows times length of a full batch.
      packing: length of rows in which several texts stand side by side; 0: a text a row.
      shards: that a batch is divided among.
    """
    buckets: dict[int, list[int]] = {}
    packed: list[int] = []
    for i, encoding in enumerate(encodings):
        if len(encoding.ids) <= packing:
            packed.append(i)
        else:
            buckets.setdefault(min(tokens.bucket(len(encoding.ids)), limit), []).append(i)
    if packed:
        rows = tokens.fill_rows([len(encodings[i].ids) for i in packed], packing, TEXTS_IN_ROW)
        for part, size in _batches(list(range(len(rows))), batch_tokens // packing, shards):
            members = [
                (n * TEXTS_IN_ROW + place, packed[k]) for n, row in enumerate(part) for place, k in enumerate(rows[row])
            ]
            texts = [[encodings[packed[k]] for k in rows[row]] for row in part]
            yield members, tokens.side_by_side(texts, packing, TEXTS_IN_ROW, size)
    for length in sorted(buckets):
        for part, size in _batches(buckets[length], batch_tokens // length, shards):
            yield list(enumerate(part)), tokens.pack([encodings[i] for i in part], length, size)


def fetched(
    run: Callable[[tokens.Tokens], Any], planned: Iterable[Planned]
) -> Iterator[tuple[list[tuple[int, int]], np.ndarray]]:
    """(the texts in it, its result) of every batch, `backends.batches_behind` the one that was begun last."""
    waiting: collections.deque[tuple[list[tuple[int, int]], Any]] = collections.deque()
    for members, batch in planned:
        waiting.append((members, run(batch)))
        while len(waiting) > backends.batches_behind():
            members, result = waiting.popleft()
            yield members, np.asarray(result)
    for members, result in waiting:
        yield members, np.asarray(result)


def _batches(members: list[int], full: int, shards: int) -> list[tuple[list[int], int]]:
    """Members in batches of `full` rows, a rest in batches of fewer."""
    full, small = backends.multiple(max(1, full), shards), SMALL_BATCH * shards
    batches = []
    while members:
        rows = backends.rows_of_batch(len(members), full, small)
        batches.append((members[:rows], rows))
        members = members[rows:]
    return batches
