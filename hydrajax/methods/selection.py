"""Fits scorers on a frozen base, and chooses on validation users what has to be chosen."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from hydrajax import progress, training
from hydrajax.methods import hydra, scorers
from hydrajax.methods.scorers import Encode, Row

Bar = Callable[[str], contextlib.AbstractContextManager[progress.Advance]]

EPOCHS = (0, 1, 2, 4, 8, 16, 32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """What validation users chose, and how well each alternative did.

    Attributes:
      epochs: of personalisation; 0 leaves everybody the pooled head.
      loss: of pretraining and personalisation.
      family: of the heads.
      quality: (loss, epochs) as `loss/epochs` -> mean quality of the validation users' chosen rows.
      curves: mean training loss per epoch by stage, of the chosen loss.
    """

    epochs: int
    loss: str
    family: str
    quality: dict[str, float]
    curves: dict[str, list[float]]


class ValidatedLearner:
    """`hydra.Learner`: pretrains, personalises for several numbers of epochs, keeps what serves validation users best.

    A setting is judged by the mean quality of the rows with the highest score, one of each pool: pools of the
    validation users' real queries, by heads that learned from all their pseudo-queries, and pools of one half of their
    pseudo-queries, by heads that learned from the other half (real queries alone are too few to tell settings apart).
    Of equal settings the one with fewer epochs is taken.

    Args:
      encode: the frozen base.
      configs: alternatives; their epochs are ignored in favour of `epochs`.
      families: name of a scorer -> its head family, in place of that of the configs.
      epochs: numbers of epochs to choose from; 0 is the pooled head, which is also what there is without any row to
        personalise with.
      folder: keeps checkpoints.
      bar: makes a progress bar for a stage.

    Raises:
      ValueError: nothing to choose from, or a negative number of epochs.
    """

    def __init__(
        self,
        encode: Encode,
        configs: Sequence[training.FitConfig],
        *,
        families: Mapping[str, str] | None = None,
        epochs: Sequence[int] = EPOCHS,
        folder: pathlib.Path | None = None,
        bar: Bar = progress.bar,
    ):
        if not configs or not epochs or min(epochs) < 0:
            raise ValueError(
                f"losses and epochs to choose among are {[c.loss for c in configs]} and {list(epochs)}, expected at "
                "least one of each, and epochs from 0 up"
            )
        self._encode = encode
        # The training users' own heads are never asked: their rows are for what new users start with.
        self._configs = tuple(dataclasses.replace(config, fit_bank=False) for config in configs)
        self._families = dict(families or {})
        self._epochs = tuple(epochs)
        self._folder = folder
        self._bar = bar
        self.choices: dict[str, Choice] = {}

    def fit(
        self, name: str, *, train: Sequence[Row], heads: Sequence[Row], judged: Sequence[Row]
    ) -> scorers.Personal | scorers.Untrained:
        """See `hydra.Learner.fit`. Without a single row to learn from, the scorer leaves everything as it is."""
        if not train:
            return scorers.Untrained()
        users, examples = scorers.examples_of(train, self._encode)
        halves = _halves(heads, {row.user_id for row in judged})
        tried: list[tuple[float, int, training.FitConfig, scorers.Personal, training.Snapshots | None]] = []
        for config in self._configs:
            config = dataclasses.replace(config, family=self._families.get(name, config.family))
            label = f"{name} ({config.loss})"
            with self._bar(f"{label}: pretraining") as advance:
                folder = self._folder / f"{name}-{config.loss}" if self._folder else None
                fitted = training.pretrain(config, examples, len(users), checkpoint=folder, progress=advance)
            whole = list(self._personalised(label, config, fitted, heads))
            chosen = {epochs: chosen_qualities(scorer, judged) for epochs, scorer, _ in whole}
            for learned, asked in halves:
                for epochs, scorer, _ in self._personalised(label, config, fitted, learned):
                    chosen[epochs] += chosen_qualities(scorer, asked)
            for epochs, scorer, snapshots in whole:
                quality = float(np.mean(chosen[epochs])) if chosen[epochs] else 0.0
                tried.append((quality, epochs, config, scorer, snapshots))
        quality, epochs, config, scorer, snapshots = max(tried, key=lambda t: (round(t[0], 9), -t[1]))
        curves = {stage: [float(v) for v in curve] for stage, curve in scorer.fitted.curves.items()}
        if snapshots is not None:
            curves["new users"] = [float(v) for v in snapshots.curve]
        self.choices[name] = Choice(
            epochs=epochs,
            loss=config.loss,
            family=config.family,
            quality={f"{t[2].loss}/{t[1]}": t[0] for t in tried},
            curves=curves,
        )
        return scorer

    def _personalised(self, label, config, fitted, heads):
        wanted = [n for n in self._epochs if n > 0] if heads else []
        if not wanted or 0 in self._epochs:
            yield 0, scorers.Personal(encode=self._encode, fitted=fitted, heads=None, user_rows={}), None
        if not wanted:
            return
        users, examples = scorers.examples_of(heads, self._encode)
        with self._bar(f"{label}: personalising") as advance:
            snapshots = training.personalise_snapshots(
                config,
                fitted,
                examples,
                len(users),
                epochs=wanted,
                user_keys=scorers.user_keys(users),
                progress=advance,
            )
        rows = {user: i for i, user in enumerate(users)}
        for epochs in wanted:
            yield (
                epochs,
                scorers.Personal(encode=self._encode, fitted=fitted, heads=snapshots.heads[epochs], user_rows=rows),
                snapshots,
            )


class PlannedLearner:
    """For counting the calls of a run: trains only what it can, and guesses the rest.

    Args:
      known: the run's own learner where every answer that it would learn from is stored, else None. What it learns is
        then what the run will learn, and the count is exact.
      seed: of the guesses.
    """

    def __init__(self, known: Callable[[], hydra.Learner | None] = lambda: None, *, seed: int = 0):
        self._known = known
        self._seed = seed

    def fit(self, name: str, *, train: Sequence[Row], heads: Sequence[Row], judged: Sequence[Row]) -> scorers.Scorer:
        """See `hydra.Learner.fit`."""
        if name != "reranker":
            return scorers.Untrained()  # nothing is asked after the adapter has chosen
        known = self._known()
        if known is not None:
            return known.fit(name, train=train, heads=heads, judged=judged)
        return scorers.Guessed(seed=self._seed)


def chosen_qualities(scorer: scorers.Scorer, judged: Sequence[Row]) -> list[float]:
    """The quality of the row with the highest score (the first of equals), one of each pool."""
    pools: dict[str, list[int]] = {}
    for i, row in enumerate(judged):
        pools.setdefault(row.pool, []).append(i)
    scores = scorer.scores(judged)
    return [judged[own[int(np.argmax(scores[own]))]].quality for own in pools.values()]


def _halves(heads: Sequence[Row], user_ids: Collection[str]) -> list[tuple[list[Row], list[Row]]]:
    """(rows of one half of these users' queries, rows of the other half), both ways; every other query of each user."""
    queries: dict[str, dict[str, int]] = {}
    for row in heads:
        if row.user_id in user_ids:
            own = queries.setdefault(row.user_id, {})
            own.setdefault(row.query_id, len(own) % 2)
    halves: tuple[list[Row], list[Row]] = ([], [])
    for row in heads:
        if row.user_id in user_ids:
            halves[queries[row.user_id][row.query_id]].append(row)
    return [(halves[0], halves[1]), (halves[1], halves[0])] if halves[1] else []
