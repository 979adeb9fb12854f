"""Metrics of rating tasks (LaMP_3): MAE and RMSE.

As in LaMP's official evaluation a prediction is read with `float`, in range or not, and what cannot be read counts as
the end of the scale that is farther from the gold. One deviation: `nan` and `inf`, which `float` reads, count as
unreadable. HYDRA's public code reports on the first run of digits in the answer instead ("I would give 4" is a 4 there
and unreadable here), and where it makes its training labels an answer is right that merely contains the gold's digit.
"""

import math
from collections.abc import Sequence

import numpy as np

from hydrajax.metrics import _sums
from hydrajax.types import DataError

Scale = tuple[float, float]
STARS: Scale = (1.0, 5.0)


def mae(predictions: Sequence[str], golds: Sequence[str], scale: Scale = STARS) -> float:
    """Mean absolute error, in the unit of the scale (its lowest and highest rating).

    Raises:
      DataError: a gold is no number.
      ValueError: no prediction at all, or as many predictions as golds are not given.
    """
    _sums.paired(predictions, golds)
    return float(_sums.mean(mae_counts(predictions, golds, scale).sum(0)))


def rmse(predictions: Sequence[str], golds: Sequence[str], scale: Scale = STARS) -> float:
    """Root of the mean squared error, in the unit of the scale (its lowest and highest rating).

    Raises:
      DataError: a gold is no number.
      ValueError: no prediction at all, or as many predictions as golds are not given.
    """
    _sums.paired(predictions, golds)
    return float(rmse_value(rmse_counts(predictions, golds, scale).sum(0)))


def number(text: str) -> float | None:
    """The text as a finite number, None where it is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def read(prediction: str, gold: str, scale: Scale = STARS) -> tuple[float, float]:
    """A prediction and its gold as numbers; an unreadable prediction is the farther end of the scale.

    Raises:
      DataError: the gold is no number.
    """
    lowest, highest = scale
    true = number(gold)
    if true is None:
        raise DataError(f"the gold rating is {gold!r}, expected a number from {lowest:g} to {highest:g}")
    predicted = number(prediction)
    if predicted is None:
        predicted = lowest if abs(lowest - true) > abs(highest - true) else highest
    return predicted, true


def mae_counts(predictions: Sequence[str], golds: Sequence[str], scale: Scale = STARS) -> np.ndarray:
    """What MAE needs of each question, [N, 2]: absolute error, 1."""
    return _errors(predictions, golds, scale, 1)


def rmse_counts(predictions: Sequence[str], golds: Sequence[str], scale: Scale = STARS) -> np.ndarray:
    """What RMSE needs of each question, [N, 2]: squared error, 1."""
    return _errors(predictions, golds, scale, 2)


def rmse_value(sums: np.ndarray) -> np.ndarray | np.floating:
    """RMSE from sums of `rmse_counts`, [..., 2] -> [...]."""
    return np.sqrt(_sums.mean(sums))


def _errors(predictions: Sequence[str], golds: Sequence[str], scale: Scale, power: int) -> np.ndarray:
    pairs = [read(prediction, gold, scale) for prediction, gold in zip(predictions, golds, strict=True)]
    return _sums.counts(abs(predicted - true) ** power for predicted, true in pairs)
