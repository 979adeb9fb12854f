"""Ratings by cumulative logits: which levels a user's rating reaches, and so what error an answer is expected to have.

    P(y >= v) = sigmoid(s(q, v)) for each level v above the lowest,    answer = argmin_r E|r - y|

One binary example for each threshold, as CORAL decomposes ordinal labels (Cao et al., arXiv 1901.07884), scored by the
same heads; here s is not bound to fall with v. The loss is the cross-entropy of the thresholds' examples. All levels
are scored, whichever of them candidates name.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from hydrajax.methods.rows import Row
from hydrajax.metrics import ratings


def thresholds(rows: Sequence[Row]) -> list[Row]:
    """The pairs (query, level) for the levels above the lowest, once a query of the candidates' rows.

    Extras: which level, one-hot. Label: whether the user's rating reaches it, 0 where that is unknown.
    """
    made = []
    for row in _questions(rows).values():
        above = row.levels[1:]
        for i, level in enumerate(above):
            reached = float(row.rating is not None and row.rating >= level)
            made.append(
                Row(
                    user_id=row.user_id,
                    query_id=row.query_id,
                    pool=row.query_id,
                    first=row.first,
                    second=f"{level:g}",
                    extras=tuple(float(i == j) for j in range(len(above))),
                    label=reached,
                    quality=reached,
                )
            )
    return made


def scores(rows: Sequence[Row], logits: Callable[[Sequence[Row]], np.ndarray]) -> Float[np.ndarray, " N"]:
    """Minus the expected error of the rating that each candidate names.

    Args:
      rows: of candidates.
      logits: s of the rows of `thresholds`.
    """
    questions = _questions(rows)
    sizes = [len(row.levels) - 1 for row in questions.values()]
    parts = np.split(np.asarray(logits(thresholds(rows))), np.cumsum(sizes)[:-1]) if sizes else []
    by_question = dict(zip(questions, parts, strict=True))
    return np.array(
        [-expected_error(row.second, row.levels, by_question[row.user_id, row.query_id]) for row in rows], np.float32
    )


def expected_error(answer: str, levels: Sequence[float], logits: Float[np.ndarray, " n"]) -> float:
    """E|r - y|, by one logit for each level above the lowest; of what names no number, the whole scale.

    |r - y| is the length on which of r >= t and y >= t only one holds, and y >= t between two levels where y reaches
    the upper one.
    """
    lowest, highest = levels[0], levels[-1]
    r = ratings.number(answer)
    if r is None:
        return highest - lowest
    reaches = 1.0 / (1.0 + np.exp(-np.asarray(logits, np.float64)))
    below, above = np.array(levels[:-1]), np.array(levels[1:])
    inside = np.clip(r, below, above)
    error = np.sum((above - inside) * reaches + (inside - below) * (1.0 - reaches))
    return float(error) + max(0.0, lowest - r, r - highest)


def _questions(rows: Sequence[Row]) -> dict[tuple[str, str], Row]:
    """The first row of each user's query."""
    first: dict[tuple[str, str], Row] = {}
    for row in rows:
        first.setdefault((row.user_id, row.query_id), row)
    return first
