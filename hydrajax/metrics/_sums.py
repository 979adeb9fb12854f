"""What metrics have in common: numbers of each question, whose sums the metric is a function of."""

from collections.abc import Iterable, Sequence

import numpy as np


def paired(predictions: Sequence[str], golds: Sequence[str]) -> None:
    """Raises ValueError unless there is at least one prediction and exactly one gold for each."""
    if len(predictions) != len(golds):
        raise ValueError(
            f"a metric got {len(predictions)} predictions and {len(golds)} golds, expected as many of each"
        )
    if not golds:
        raise ValueError("a metric got no predictions, expected at least one")


def counts(values: Iterable[float]) -> np.ndarray:
    """What a mean over questions needs of each, [N, 2]: its value, 1."""
    array = np.array(list(values), float)
    return np.stack([array, np.ones_like(array)], axis=-1)


def mean(sums: np.ndarray) -> np.ndarray | np.floating:
    """The mean from sums of `counts`, [..., 2] -> [...]."""
    return sums[..., 0] / sums[..., 1]
