"""Settings chosen on validation users: how many records a prompt shows, and how a scorer is fitted."""

import dataclasses
import logging
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from hydrajax import progress, training
from hydrajax.methods import cross_fitting, sampling, scorers, telling
from hydrajax.methods.lab import Lab
from hydrajax.methods.rows import Row
from hydrajax.types import Query

_log = logging.getLogger(__name__)
EPOCHS = (0, 1, 2, 4, 8, 16, 32)


def choose_k(lab: Lab, strategy: str, validation: Sequence[Query]) -> tuple[int, dict[int, float]]:
    """The number of records that a strategy shows, with the best mean quality on validation queries.

    Returns:
      k, of equals the smaller one, and the mean quality of each; nothing is asked where there is nothing to choose.
    """
    of, choices = lab.strategy(strategy), lab.settings.shown
    if of.retriever is None:
        choices = (0,)
    elif of.alone:  # it says something without any record, too
        choices = (0, *choices)
    if len(choices) == 1 or not validation:
        return choices[0], {}
    means = {}
    for k in choices:
        prompts = sampling.prompts(lab, strategy, validation, k)
        answers = sampling.answer(lab, strategy, prompts, stage=f"{strategy}: choosing k")
        means[k] = sum(lab.quality(answer.query, answer.text) for answer in answers) / len(validation)
    return max(choices, key=lambda k: (round(means[k], 9), -k)), means


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """What validation users chose, and how well each alternative did.

    Attributes:
      epochs: of personalisation; 0 leaves everybody the pooled head.
      loss: of pretraining and personalisation.
      family: of the heads.
      quality: (loss, epochs) as `loss/epochs` -> mean quality of the validation users' chosen rows; None without any.
      curves: mean training loss per epoch by stage, of the chosen loss.
      pools: how many these means are of.
    """

    epochs: int
    loss: str
    family: str
    quality: dict[str, float | None]
    curves: dict[str, list[float]]
    pools: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Tried:
    """A setting, what it gave, the training loss of its heads by epoch, the mean quality that it is judged by, and of
    how many pools that is the mean."""

    epochs: int
    config: training.FitConfig
    scorer: scorers.PersonalScorer
    curve: list[float]
    quality: float
    pools: int


@dataclasses.dataclass(frozen=True)
class ValidatedLearner:
    """`hydra.Learner`: pretrains, personalises for several numbers of epochs, keeps what serves validation users best.

    A setting is judged by the mean quality of the rows with the highest score, one of each pool: pools of the
    validation users' real queries, by heads that learned from all their pseudo-queries, and pools of one half of their
    pseudo-queries, by heads that learned from the other half (real queries alone are too few to tell settings apart).
    Of equal settings the one with fewer epochs is taken. `ordinal` is a loss of candidates for ratings; elsewhere, for
    records and other answers, cross-entropy takes its place.

    Args:
      encode: the base; where the configurations train it, a `scorers.Trainable`, and each scorer gets one of its own.
      configs: alternatives; their epochs are ignored in favour of `epochs`.
      families: name of a scorer -> its head family, in place of that of the configs.
      losses: name of a scorer -> its loss, where it is not to be chosen; all else is as in the first of the configs.
      epochs: numbers of epochs to choose from; 0 is the pooled head, which is also what there is without any row to
        personalise with.
      folder: keeps checkpoints.

    Attributes:
      choices: what was chosen, by scorer.
      fitted: the chosen setting of each, and the rows of the training users.

    Raises:
      ValueError: nothing to choose from, or a negative number of epochs.
    """

    encode: scorers.Encode
    configs: Sequence[training.FitConfig]
    families: Mapping[str, str] = dataclasses.field(default_factory=dict)
    losses: Mapping[str, str] = dataclasses.field(default_factory=dict)
    epochs: Sequence[int] = EPOCHS
    folder: pathlib.Path | None = None
    choices: dict[str, Choice] = dataclasses.field(init=False, default_factory=dict)
    fitted: dict[str, tuple[_Tried, Sequence[Row]]] = dataclasses.field(init=False, default_factory=dict)

    def __post_init__(self):
        if not self.configs or not self.epochs or min(self.epochs) < 0:
            raise ValueError(
                f"losses and epochs to choose among are {[c.loss for c in self.configs]} and {list(self.epochs)}, "
                "expected at least one of each, and epochs from 0 up"
            )

    def fit(
        self, name: str, *, train: Sequence[Row], personal: Sequence[Row], judged: Sequence[Row]
    ) -> scorers.PersonalScorer | scorers.Untrained:
        """See `hydra.Learner.fit`. Without a single row to learn from, the scorer leaves everything as it is."""
        with telling.once(name):
            return self._fit(name, train, personal, judged)

    def _fit(
        self, name: str, train: Sequence[Row], personal: Sequence[Row], judged: Sequence[Row]
    ) -> scorers.PersonalScorer | scorers.Untrained:
        judges = {row.user_id for row in judged}
        halves = [
            half for half in cross_fitting.halves([row for row in personal if row.user_id in judges]) if all(half)
        ]
        encoded: dict[bool, tuple[Sequence[Row], list[str], training.Examples]] = {}
        tried: list[_Tried] = []
        configs = self.configs
        if name in self.losses:
            configs = [dataclasses.replace(self.configs[0], loss=self.losses[name])]
        for config in _suiting(configs, train) if train else ():
            if (ordinal := config.loss == "ordinal") not in encoded:
                taught = scorers.taught(train, config.loss)
                encoded[ordinal] = taught, *scorers.examples_of(taught, self.encode)
            rows, users, examples = encoded[ordinal]
            if not users:
                continue
            # Training users' own heads are fitted once it is known how: `with_training_users`.
            config = dataclasses.replace(config, family=self.families.get(name, config.family), fit_bank=False)
            label = f"{name} ({config.loss})"
            with progress.bar(f"{label}: {scorers.stages_of(config)}") as advance:
                folder = self.folder / f"{name}-{config.loss}" if self.folder else None
                pooled = scorers.pretrain(
                    config, self.encode, users, examples, rows=rows, checkpoint=folder, progress=advance
                )
            by_epochs, curve = self._personalised(label, config, pooled, personal)
            qualities = {n: chosen_qualities(scorer, judged) for n, scorer in by_epochs.items()}
            for learned, asked in halves:
                for n, scorer in self._personalised(label, config, pooled, learned)[0].items():
                    qualities[n] += chosen_qualities(scorer, asked)
            tried += [
                _Tried(
                    epochs=n,
                    config=config,
                    scorer=scorer,
                    curve=curve if n else [],
                    quality=mean(qualities[n]),
                    pools=len(qualities[n]),
                )
                for n, scorer in by_epochs.items()
            ]
        if not tried:
            _log.info(untaught(name))
            return scorers.Untrained()
        best = max(tried, key=lambda setting: (round(setting.quality, 9), -setting.epochs))
        curves = {stage: [float(loss) for loss in curve] for stage, curve in best.scorer.fitted.curves.items()}
        self.choices[name] = Choice(
            epochs=best.epochs,
            loss=best.config.loss,
            family=best.config.family,
            quality={f"{one.config.loss}/{one.epochs}": one.quality if judged else None for one in tried},
            curves=curves | ({"new users": best.curve} if best.epochs else {}),
            pools=best.pools,
        )
        self.fitted[name] = best, train
        return best.scorer

    def with_training_users(self, name: str) -> scorers.TrainedScorer:
        """A scorer that was fitted, with heads of the training users too, for later answers.

        It is not what others learn from: a head must not score there what it was fitted on.
        """
        if name not in self.fitted:
            return scorers.Untrained()
        best, train = self.fitted[name]
        return scorers.with_heads(best.scorer, scorers.personalise(best.scorer, best.config, train, epochs=best.epochs))

    def cross_fit(
        self, name: str, scorer: scorers.TrainedScorer, *, train: Sequence[Row], personal: Sequence[Row]
    ) -> scorers.TrainedScorer:
        """See `hydra.Learner.cross_fit`; with the settings that validation users chose for the scorer."""
        if not isinstance(scorer, scorers.PersonalScorer):
            return scorer  # it has learned nothing
        with progress.bar(f"{name}: cross-fitting", unit="fits") as advance, telling.silent():
            epochs = self.choices[name].epochs
            return cross_fitting.cross_fit(
                scorer,
                train=train,
                personal=personal,
                epochs=epochs,
                encode=self.encode,
                checkpoint=self.folder / f"{name}-halves" if self.folder else None,
                advance=advance,
            )

    def _personalised(
        self, label: str, config: training.FitConfig, pooled: scorers.PersonalScorer, rows: Sequence[Row]
    ) -> tuple[dict[int, scorers.PersonalScorer], list[float]]:
        """The scorer by number of epochs, in rising order of the learner's, and the training loss of the heads."""
        wanted = [n for n in self.epochs if n > 0] if scorers.taught(rows, config.loss) else []
        by_epochs = {} if wanted and 0 not in self.epochs else {0: pooled}
        if not wanted:
            return by_epochs, []
        with progress.bar(f"{label}: personalising", unit="users") as advance:
            headed, curve = scorers.personalise_each(pooled, config, rows, epochs=wanted, progress=advance)
        return by_epochs | headed, curve


def untaught(name: str) -> str:
    """That a scorer has learned nothing, and why, in a sentence without a full stop."""
    nothing = "no records to try" if name == "reranker" else "no questions with answers of different quality"
    return f"the {name} learned nothing, since training users have {nothing}: everything stays in its order"


def chosen_qualities(scorer: scorers.TrainedScorer, judged: Sequence[Row]) -> list[float]:
    """The quality of the row with the highest score (the first of equals), one of each pool."""
    pools: dict[str, list[int]] = {}
    for i, row in enumerate(judged):
        pools.setdefault(row.pool, []).append(i)
    scores = scorer.scores(judged)
    return [judged[places[int(np.argmax(scores[places]))]].quality for places in pools.values()]


def mean(qualities: Sequence[float]) -> float:
    """0 of none."""
    return float(np.mean(qualities)) if qualities else 0.0


def _suiting(configs: Sequence[training.FitConfig], rows: Sequence[Row]) -> list[training.FitConfig]:
    """The alternatives with `cross_entropy` in the place of `ordinal` where the rows are no candidates for ratings."""
    if scorers.rated(rows):
        return list(configs)
    plain = (dataclasses.replace(c, loss="cross_entropy") if c.loss == "ordinal" else c for c in configs)
    return list(dict.fromkeys(plain))
