"""A trained scorer with a head per user: the reranker and the adapter are two uses of it."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float

from hydrajax import training
from hydrajax.data import draws
from hydrajax.methods import ordinal
from hydrajax.methods import rows as rows_lib
from hydrajax.methods.rows import Row
from hydrajax.training import config as fit_config

Encode = Callable[[Sequence[tuple[str, str]]], np.ndarray]
Heads = Mapping[str, str] | None
Progress = Callable[[int, int], None]


@runtime_checkable
class Trainable(Protocol):
    """An `Encode` whose base can be trained."""

    @property
    def base(self) -> Any:
        """The base, an `nn.encode.Base`."""

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Features [N, D]."""

    def tokens(self, pairs: Sequence[tuple[str, str]]) -> Any:
        """What the base reads, `nn.tokens.Tokens` [N, T]."""

    def of(self, base: Any) -> "Trainable":
        """The same with another base."""


@runtime_checkable
class TrainedScorer(Protocol):
    """What a method needs of what a fit gives."""

    def scores(self, rows: Sequence[Row], *, heads: Heads = None, pooled: bool = False) -> np.ndarray:
        """One score a row, higher is better.

        Args:
          heads: user id -> the user whose head is used instead of the own one (the shuffled-heads control).
          pooled: use the pooled head for everybody.
        """
        ...


class Untrained:
    """Leaves everything in the order it has: stands in where there is nothing to learn from."""

    def scores(self, rows: Sequence[Row], *, heads: Heads = None, pooled: bool = False) -> np.ndarray:
        return np.zeros(len(rows), np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PersonalScorer:
    """Base features, the pretrained parts, and the heads of all users that were personalised.

    Attributes:
      encode: pairs -> features [N, D] of the scorer's own base, which is frozen now.
      fitted: what pretraining gave; its pooled head serves users without a head of their own.
      heads: stacked user parameters, one row a user.
      user_rows: user id -> row in `heads`.
    """

    encode: Encode
    fitted: training.Fitted
    heads: Any
    user_rows: Mapping[str, int]

    @functools.cached_property
    def _placed(self) -> Any:
        return training.on_devices(self.heads)

    def scores(self, rows: Sequence[Row], *, heads: Heads = None, pooled: bool = False) -> Float[np.ndarray, " N"]:
        """See `TrainedScorer.scores`. Where the loss was `ordinal`: minus the expected error, see `methods.ordinal`."""
        if self.fitted.config.loss == "ordinal":
            return ordinal.scores(rows, lambda levels: self._logits(levels, heads, pooled))
        return self._logits(rows, heads, pooled)

    def _logits(self, rows: Sequence[Row], heads: Heads, pooled: bool) -> Float[np.ndarray, " N"]:
        if not rows:
            return np.zeros(0, np.float32)
        x, extras = _features(rows, self.encode)
        result = training.predict(self.fitted, None, np.zeros(len(rows), np.int32), x, extras)
        owners = [(heads or {}).get(row.user_id, row.user_id) for row in rows]
        headed = [i for i, owner in enumerate(owners) if owner in self.user_rows]
        if pooled or not headed:
            return result
        numbers = np.array([self.user_rows[owners[i]] for i in headed], np.int32)
        result = np.array(result)
        result[headed] = training.predict(self.fitted, self._placed, numbers, x[headed], extras[headed])
        return result


def pretrain(
    config: training.FitConfig,
    encode: Encode,
    users: Sequence[str],
    examples: training.Examples,
    *,
    rows: Sequence[Row] = (),
    checkpoint: pathlib.Path | None = None,
    progress: Progress | None = None,
) -> PersonalScorer:
    """What all users share, learned from training users (`examples_of`): everybody is served by the pooled head.

    Args:
      encode: of the base; where that is trained, a `Trainable`. The scorer then has a base of its own.
      users, examples: of the training users.
      rows: what the examples were made of; needed where the base is trained.
      checkpoint: folder from which a killed pretraining goes on.
      progress: called with (done, total) steps.
    """
    given: dict[str, Any] = {"checkpoint": checkpoint, "progress": progress}
    if config.train_base:
        if not isinstance(encode, Trainable):
            raise ValueError("train_base is True, expected an encoder whose base can be trained")
        first, pairs = encode, [(row.first, row.second) for row in rows]
        examples = dataclasses.replace(examples, x=first.tokens(pairs))
        given |= {"base": first.base, "features_of": lambda base: first.of(base)(pairs)}
    fitted = training.pretrain(config, examples, len(users), **given)
    if isinstance(encode, Trainable):
        encode = encode.of(training.trained_base(encode.base, fitted))
    return PersonalScorer(encode=encode, fitted=fitted, heads=None, user_rows={})


def stages_of(config: training.FitConfig) -> str:
    """What `pretrain` does, in words: what counts its steps begins from 0 with each of its stages."""
    if not config.train_base:
        return "pretraining"
    # What is left open is chosen on the features of the base as it was.
    is_open = any(getattr(config, name) is None for name in fit_config.FALLBACK)
    return "choosing rates and priors, then training the base" if is_open else "training the base"


def personalise(
    pooled: PersonalScorer, config: training.FitConfig, rows: Sequence[Row], *, epochs: int
) -> PersonalScorer:
    """The scorer with heads for the users of the rows; base and shared parts stay as they are.

    Args:
      rows: of users who were not trained on, from their own profiles alone; without any, nobody gets a head.
      epochs: 0 leaves everybody the pooled head.
    """
    if not taught(rows, config.loss) or epochs == 0:
        return dataclasses.replace(pooled, heads=None, user_rows={})
    scorers, _ = personalise_each(pooled, dataclasses.replace(config, epochs=epochs), rows, epochs=(epochs,))
    return scorers[epochs]


def personalise_each(
    pooled: PersonalScorer,
    config: training.FitConfig,
    rows: Sequence[Row],
    *,
    epochs: Sequence[int],
    progress: Progress | None = None,
) -> tuple[dict[int, PersonalScorer], list[float]]:
    """`personalise` for several numbers of epochs at the cost of the largest, and the mean training loss by epoch."""
    users, examples = examples_of(taught(rows, config.loss), pooled.encode)
    snapshots = training.personalise_snapshots(
        config, pooled.fitted, examples, len(users), epochs=epochs, user_keys=user_keys(users), progress=progress
    )
    user_rows = {user_id: i for i, user_id in enumerate(users)}
    scorers = {
        n: PersonalScorer(encode=pooled.encode, fitted=pooled.fitted, heads=snapshots.heads[n], user_rows=user_rows)
        for n in epochs
    }
    return scorers, [float(loss) for loss in snapshots.curve]


def with_heads(scorer: PersonalScorer, other: PersonalScorer) -> PersonalScorer:
    """The scorer with the heads of another one's users too; both were personalised from the same pretraining."""
    if not scorer.user_rows or not other.user_rows:
        return scorer if scorer.user_rows else other
    behind = {user_id: len(scorer.user_rows) + row for user_id, row in other.user_rows.items()}
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), scorer.heads, other.heads)
    return dataclasses.replace(scorer, heads=joined, user_rows={**scorer.user_rows, **behind})


def user_keys(users: Sequence[str]) -> np.ndarray:
    """uint32 [len(users)], made of the ids alone: draws for a user's head do not depend on who else is fitted."""
    return np.array([draws.number(user) % 2**32 for user in users], np.uint32)


def taught(rows: Sequence[Row], loss: str) -> Sequence[Row]:
    """What a loss learns of rows: of ratings, `ordinal` the thresholds, the others pools in which quality differs."""
    if loss == "ordinal":
        return ordinal.thresholds([row for row in rows if row.rating is not None])
    return rows_lib.differing(rows) if rated(rows) else rows


def rated(rows: Sequence[Row]) -> bool:
    """Whether they are candidates for ratings."""
    return any(row.levels for row in rows)


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
