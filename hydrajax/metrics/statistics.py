"""Every metric as (what it needs of each question, how sums of that become its value).

A metric of this form is recomputed exactly on any resample of the questions by adding up rows, which makes thousands of
resamples of macro-F1, RMSE and corpus BLEU a matrix product.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from hydrajax.data import tasks
from hydrajax.metrics import _sums, corpus_bleu, labels, ratings, rouge


@dataclasses.dataclass(frozen=True)
class Statistic:
    """A metric that is a function of sums over questions.

    Attributes:
      counts: (task, predictions, golds) -> [N, S], what the metric needs of each question.
      value: sums [..., S] -> values [...].
      higher_is_better: False for errors.
      per_user: whether the metric of one user's few questions means anything (not so for macro-F1, RMSE and BLEU,
        which are not means over questions).
    """

    counts: Callable[[tasks.Task, Sequence[str], Sequence[str]], np.ndarray]
    value: Callable[[np.ndarray], np.ndarray | np.floating]
    higher_is_better: bool = True
    per_user: bool = True


def reward_counts(rewards: Sequence[int | float]) -> np.ndarray:
    """What the mean reward needs of each question, [N, 2]: the simulated user's reward of the answer, 1."""
    return _sums.counts(rewards)


def _no_golds(task: tasks.Task, predictions: Sequence[str], golds: Sequence[str]) -> np.ndarray:
    raise ValueError(f"task {task.name} is judged by rewards, use reward_counts")


# By their names in `Task.metrics`.
STATISTICS: Mapping[str, Statistic] = {
    "accuracy": Statistic(lambda task, p, g: labels.accuracy_counts(p, g), _sums.mean),
    "macro_f1": Statistic(
        lambda task, p, g: labels.macro_f1_counts(p, g, task.labels),
        labels.macro_f1_value,
        per_user=False,
    ),
    "mae": Statistic(
        lambda task, p, g: ratings.error_counts(p, g, task.scale, power=1), _sums.mean, higher_is_better=False
    ),
    "rmse": Statistic(
        lambda task, p, g: ratings.error_counts(p, g, task.scale, power=2),
        ratings.rmse_value,
        higher_is_better=False,
        per_user=False,
    ),
    "rouge1": Statistic(lambda task, p, g: rouge.counts(p, g, 0), _sums.mean),
    "rougeL": Statistic(lambda task, p, g: rouge.counts(p, g, 1), _sums.mean),
    "bleu": Statistic(lambda task, p, g: corpus_bleu.bleu_counts(p, g), corpus_bleu.bleu_value, per_user=False),
    "reward": Statistic(_no_golds, _sums.mean),
}


def compute(task: tasks.Task, predictions: Sequence[str], golds: Sequence[str]) -> dict[str, float]:
    """All metrics of the task.

    Args:
      task: of any kind but `reward`.
      predictions: normalised answers (`Task.normalise`), one a question.
      golds: what the users answered, in the same order.

    Raises:
      DataError: the gold of a rating is no number.
      ValueError: no prediction at all, as many predictions as golds are not given, or the task is judged by rewards.
    """
    if len(predictions) != len(golds):
        raise ValueError(f"metrics got {len(predictions)} predictions and {len(golds)} golds, expected as many of each")
    if not golds:
        raise ValueError("metrics got no predictions, expected at least one")
    chosen = {name: STATISTICS[name] for name in task.metrics}
    return {name: float(s.value(s.counts(task, predictions, golds).sum(0))) for name, s in chosen.items()}
