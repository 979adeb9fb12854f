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

Scale = tuple[float, float]  # the lowest and the highest rating


def number(text: str) -> float | None:
    """The text as a finite number, None where it is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def read(prediction: str, gold: str, scale: Scale) -> tuple[float, float]:
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


def error_counts(predictions: Sequence[str], golds: Sequence[str], scale: Scale, *, power: int) -> np.ndarray:
    """What MAE (power 1) and RMSE (power 2) need of each question, [N, 2]: |error|^power, 1.

    Raises:
      DataError: a gold is no number.
    """
    pairs = [read(prediction, gold, scale) for prediction, gold in zip(predictions, golds, strict=True)]
    return _sums.counts(abs(predicted - true) ** power for predicted, true in pairs)


def rmse_value(sums: np.ndarray) -> np.ndarray | np.floating:
    """RMSE from sums of squared errors, [..., 2] -> [...]."""
    return np.sqrt(_sums.mean(sums))
