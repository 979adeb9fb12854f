"""What metrics have in common: numbers of each question, whose sums the metric is a function of."""

from collections.abc import Iterable

import numpy as np


def counts(values: Iterable[float]) -> np.ndarray:
    """What a mean over questions needs of each, [N, 2]: its value, 1."""
    array = np.array(list(values), float)
    return np.stack([array, np.ones_like(array)], axis=-1)


def mean(sums: np.ndarray) -> np.ndarray | np.floating:
    """The mean from sums of `counts`, [..., 2] -> [...]."""
    return sums[..., 0] / sums[..., 1]
