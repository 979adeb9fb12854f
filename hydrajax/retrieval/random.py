"""Random records: what ICL-Random shows, and the control for every other retriever."""

import hashlib
from collections.abc import Sequence

from hydrajax.types import Record


def rank(query_text: str, records: Sequence[Record], corpus: Sequence[str], *, query_id: str, seed: int) -> list[int]:
    """The records in a random order that is a function of the seed, the query's id and each record's id alone.

    So it is the same in every process, whatever was asked before, and a record that is left out or added does not
    change the order of the others.
    """
    del query_text, corpus
    return sorted(range(len(records)), key=lambda index: _draw(seed, query_id, records[index].id))


def _draw(seed: int, query_id: str, record_id: str) -> bytes:
    # Lengths keep ("a", "bc") apart from ("ab", "c").
    parts = (str(seed), query_id, record_id)
    return hashlib.sha256("".join(f"{len(part)}:{part}" for part in parts).encode()).digest()
