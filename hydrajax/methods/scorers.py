"""A scorer with a head per user: the reranker and the adapter are two uses of it.

A row is one text pair that a user's head scores: (query, record) for the reranker, (query, candidate) for the adapter.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from hydrajax import training
from hydrajax.data import draws

Encode = Callable[[Sequence[tuple[str, str]]], np.ndarray]
Heads = Mapping[str, str] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One pair to score, and what is known of it.

    Attributes:
      user_id: whose head.
      query_id: what was asked.
      pool: rows of one pool are compared with each other; a query may have several.
      first, second: the pair of texts.
      extras: further features, the same number in every row.
      label: 1.0 or 0.0, what the cross-entropy learns.
      quality: graded, what pairwise and within-pool losses learn.
    """

    user_id: str
    query_id: str
    pool: str
    first: str
    second: str
    extras: tuple[float, ...] = ()
    label: float = 0.0
    quality: float = 0.0


@runtime_checkable
class Scorer(Protocol):
    """What a method needs of a trained scorer."""

    def scores(self, rows: Sequence[Row], *, heads: Heads = None, pooled: bool = False) -> np.ndarray:
        """One score a row, higher is better.

        Args:
          rows: to score.
          heads: user id -> the user whose head is used instead of the own one (the shuffled-heads control).
          pooled: use the pooled head for everybody.
        """
        ...


class Untrained:
    """Leaves everything in the order it has: stands in where there is nothing to learn from."""

    def scores(self, rows: Sequence[Row], *, heads: Heads = None, pooled: bool = False) -> np.ndarray:
        return np.zeros(len(rows), np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guessed:
    """Stands in for a reranker that is still to be learned, where calls are counted.

    How many prompts it will change decides how many calls there are. Here the first row of every third question stays
    the first (in finished runs the learned reranker kept the retriever's first record for .16 to .46 of the queries),
    and all other rows change places at random: equal pairs of texts alike, as a scorer has it.

    Attributes:
      seed: of the draws, which depend on it and on the texts alone.
    """

    seed: int = 0

    def scores(self, rows: Sequence[Row], *, heads: Heads = None, pooled: bool = False) -> np.ndarray:
        """See `Scorer.scores`."""
        found = []
        asked: set[str] = set()
        for row in rows:
            first = row.query_id not in asked
            asked.add(row.query_id)
            stays = first and draws.number(self.seed, "stays", row.first) % 3 == 0
            found.append(2.0 if stays else draws.number(self.seed, row.first, row.second) % 2**20 / 2**20)
        return np.array(found, np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Personal:
    """Base features, the pretrained parts, and the heads of all users that were personalised.

    Attributes:
      encode: pairs -> features [N, D] of the frozen base.
      fitted: what pretraining gave; its pooled head serves users without a head of their own.
      heads: stacked user parameters, one row a user.
      user_rows: user id -> row in `heads`.
    """

    encode: Encode
    fitted: training.Fitted
    heads: Any
    user_rows: Mapping[str, int]

    def scores(self, rows: Sequence[Row], *, heads: Heads = None, pooled: bool = False) -> Float[np.ndarray, " N"]:
        """See `Scorer.scores`."""
        if not rows:
            return np.zeros(0, np.float32)
        x, extras = _features(rows, self.encode)
        result = training.predict(self.fitted, None, np.zeros(len(rows), np.int32), x, extras)
        owners = [(heads or {}).get(row.user_id, row.user_id) for row in rows]
        own = [i for i, owner in enumerate(owners) if owner in self.user_rows]
        if pooled or not own:
            return result
        numbers = np.array([self.user_rows[owners[i]] for i in own], np.int32)
        result = np.array(result)
        result[own] = training.predict(self.fitted, self.heads, numbers, x[own], extras[own])
        return result


def fit(
    config: training.FitConfig,
    encode: Encode,
    train: Sequence[Row],
    new: Sequence[Row],
    *,
    epochs: int | None = None,
    checkpoint: pathlib.Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Personal:
    """Pretraining on the rows of the training users, then fresh heads for the users of `new`, the base frozen.

    Args:
      config: family, loss, learning rate, epochs, ...
      encode: the frozen base.
      train: rows of the training users.
      new: rows of other users, of their own profiles alone.
      epochs: of personalisation, by default the config's; 0 leaves new users the pooled head.
      checkpoint: folder from which a killed pretraining goes on.
      progress: called with (done, total) steps.
    """
    users, examples = examples_of(train, encode)
    fitted = training.pretrain(config, examples, len(users), checkpoint=checkpoint, progress=progress)
    return personalise(config, encode, fitted, new, epochs=epochs)


def personalise(
    config: training.FitConfig,
    encode: Encode,
    fitted: training.Fitted,
    new: Sequence[Row],
    *,
    epochs: int | None = None,
) -> Personal:
    """Heads for the users of `new`; base and shared parts stay as they are."""
    if not new or epochs == 0:
        return Personal(encode=encode, fitted=fitted, heads=None, user_rows={})
    users, examples = examples_of(new, encode)
    config = config if epochs is None else dataclasses.replace(config, epochs=epochs)
    heads = training.personalise(config, fitted, examples, len(users), user_keys=user_keys(users))
    return Personal(encode=encode, fitted=fitted, heads=heads, user_rows={u: i for i, u in enumerate(users)})


def user_keys(users: Sequence[str]) -> np.ndarray:
    """uint32 [len(users)], made of the ids alone: draws for a user's head do not depend on who else is fitted."""
    return np.array([draws.number(user) % 2**32 for user in users], np.uint32)


def examples_of(rows: Sequence[Row], encode: Encode) -> tuple[list[str], training.Examples]:
    """Rows as arrays; users are numbered in the order in which they first occur."""
    users = list(dict.fromkeys(row.user_id for row in rows))
    numbers = {user: i for i, user in enumerate(users)}
    pools = {pool: i for i, pool in enumerate(dict.fromkeys(row.pool for row in rows))}
    x, extras = _features(rows, encode)
    return users, training.Examples(
        user=np.array([numbers[row.user_id] for row in rows], np.int32),
        x=x,
        extras=extras,
        label=np.array([row.label for row in rows], np.float32),
        score=np.array([row.quality for row in rows], np.float32),
        pool=np.array([pools[row.pool] for row in rows], np.int32),
    )


def _features(rows: Sequence[Row], encode: Encode) -> tuple[np.ndarray, np.ndarray]:
    x = np.asarray(encode([(row.first, row.second) for row in rows]), np.float32)
    return x, np.array([row.extras for row in rows], np.float32).reshape(len(rows), -1)
