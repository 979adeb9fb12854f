"""Cross-fitting: the queries that a scorer learned from are scored by what did not learn from them.

A scorer knows the rows that it was trained on, the luck in their labels included. What it picks for the queries of
these rows is better than what it picks for others, so whatever learns from its picks learns from what it will never
meet. Here

    a training user    is scored by what the other half of the training users taught, as a new user there
    every query        by a head of its user that learned from the other half of that user's queries
    a query without    by a head that learned from all queries of its user
    rows of its own
"""

import collections
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from hydrajax import progress
from hydrajax.data import draws
from hydrajax.methods import scorers
from hydrajax.methods.rows import Row
from hydrajax.methods.scorers import Heads, PersonalScorer, TrainedScorer, Untrained


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossFitted:
    """`TrainedScorer`: several of them, of which each row gets the one that did not learn from its query.

    Attributes:
      scorers: the first one serves whoever taught none of them anything.
      by_query: query id -> place in `scorers`.
      by_user: user id -> the same, for the user's other queries.
    """

    scorers: Sequence[TrainedScorer]
    by_query: Mapping[str, int]
    by_user: Mapping[str, int]

    def scores(self, rows: Sequence[Row], *, heads: Heads = None, pooled: bool = False) -> np.ndarray:
        """See `TrainedScorer.scores`."""
        result = np.zeros(len(rows), np.float32)
        numbers = np.array([self.by_query.get(row.query_id, self.by_user.get(row.user_id, 0)) for row in rows], int)
        for number in np.unique(numbers):
            places = np.flatnonzero(numbers == number)
            own = [rows[i] for i in places.tolist()]
            result[places] = self.scorers[number].scores(own, heads=heads, pooled=pooled)
        return result


def cross_fit(
    scorer: PersonalScorer,
    *,
    train: Sequence[Row],
    personal: Sequence[Row],
    epochs: int,
    encode: scorers.Encode | None = None,
    checkpoint: pathlib.Path | None = None,
    advance: progress.Advance = progress.silent,
) -> CrossFitted:
    """The scorer for the queries that taught it, by fits of the same configuration.

    Args:
      scorer: pretrained on `train`; it stays the one of queries that taught nothing, of users who taught it no more
        than their heads.
      train: rows of training users.
      personal: rows of the users who got heads.
      epochs: of the heads, as they were chosen for the scorer; 0 is the pooled head.
      encode: of the base as it was before the scorer trained it, as each half trains one of its own; None: of the
        scorer's, which is frozen.
      checkpoint: a folder from which a killed training of these goes on.
      advance: called with (fits done, fits).
    """
    config, encode = scorer.fitted.config, encode or scorer.encode
    folds = _folds(train, config.seed)
    fitted: list[TrainedScorer] = [scorer]
    by_query: dict[str, int] = {}
    by_user: dict[str, int] = {}

    def add(pretrained: PersonalScorer | Untrained, rows: Sequence[Row]) -> int:
        if isinstance(pretrained, PersonalScorer):
            fitted.append(scorers.personalise(pretrained, config, rows, epochs=epochs))
        else:
            fitted.append(pretrained)
        advance(len(fitted) - 1, 2 + 3 * len(folds))
        return len(fitted) - 1

    def add_halves(pretrained: PersonalScorer | Untrained, rows: Sequence[Row]) -> None:
        for learned, asked in halves(rows):
            by_query.update(dict.fromkeys((row.query_id for row in asked), add(pretrained, learned)))

    for number, (others, own) in enumerate(folds):
        taught: PersonalScorer | Untrained = Untrained()
        if others:
            folder = checkpoint and checkpoint / str(number)
            with progress.bar(f"cross-fitting: {scorers.stages_of(config)}") as steps:
                made = scorers.examples_of(others, encode)
                taught = scorers.pretrain(config, encode, *made, rows=others, checkpoint=folder, progress=steps)
        by_user.update(dict.fromkeys((row.user_id for row in own), add(taught, own)))
        add_halves(taught, own)
    add_halves(scorer, personal)
    return CrossFitted(scorers=fitted, by_query=by_query, by_user=by_user)


def halves(rows: Sequence[Row]) -> tuple[tuple[list[Row], list[Row]], tuple[list[Row], list[Row]]]:
    """(rows of one half of the queries, rows of the other half), both ways; every other query of each user."""
    places: dict[str, dict[str, int]] = collections.defaultdict(dict)
    parts: tuple[list[Row], list[Row]] = ([], [])
    for row in rows:
        of_user = places[row.user_id]
        parts[of_user.setdefault(row.query_id, len(of_user) % 2)].append(row)
    return (parts[0], parts[1]), (parts[1], parts[0])


def _folds(rows: Sequence[Row], seed: int) -> list[tuple[list[Row], list[Row]]]:
    """(rows of one half of the users, rows of the other half), both ways; without a row none."""
    users = draws.shuffled({row.user_id for row in rows}, seed=draws.number("folds of users", seed), name=str)
    first = set(users[::2])
    parts = [[row for row in rows if (row.user_id in first) == inside] for inside in (True, False)]
    return [(others, own) for others, own in (parts, parts[::-1]) if own]
