"""ROUGE-1 and ROUGE-L of the `rouge-score` package, without stemming, as a plain mean of F over questions.

LaMP's official evaluation calls the `evaluate` package, which reports the median of an unseeded bootstrap of the same
per-question F: close to the mean, and different from run to run. HYDRA's public code trains and reports by a module of
generation metrics whose source it does not include.
"""

import functools
from collections.abc import Sequence

import numpy as np

from hydrajax.metrics import _checks


def rouge1(predictions: Sequence[str], golds: Sequence[str]) -> float:
    """Mean over questions of the F-measure of shared words.

    Raises:
      ValueError: no prediction at all, or as many predictions as golds are not given.
    """
    _checks.paired(predictions, golds)
    return float(mean_value(rouge1_counts(predictions, golds).sum(0)))


def rougeL(predictions: Sequence[str], golds: Sequence[str]) -> float:  # noqa: N802 (the metric's name)
    """Mean over questions of the F-measure of the longest common subsequence of words.

    Raises:
      ValueError: no prediction at all, or as many predictions as golds are not given.
    """
    _checks.paired(predictions, golds)
    return float(mean_value(rougeL_counts(predictions, golds).sum(0)))


def rouge_pair(prediction: str, gold: str) -> tuple[float, float]:
    """ROUGE-1 and ROUGE-L (F) of one prediction. An empty text, or one without letters and digits, scores 0."""
    return _pair(prediction, gold)


def rouge1_counts(predictions: Sequence[str], golds: Sequence[str]) -> np.ndarray:
    """What ROUGE-1 needs of each question, [N, 2]: F, 1."""
    return _measures(predictions, golds, 0)


def rougeL_counts(predictions: Sequence[str], golds: Sequence[str]) -> np.ndarray:  # noqa: N802
    """What ROUGE-L needs of each question, [N, 2]: F, 1."""
    return _measures(predictions, golds, 1)


def mean_value(sums: np.ndarray) -> np.ndarray | np.floating:
    """The mean from sums of (value, 1), [..., 2] -> [...]."""
    return sums[..., 0] / sums[..., 1]


def _measures(predictions: Sequence[str], golds: Sequence[str], which: int) -> np.ndarray:
    pairs = zip(predictions, golds, strict=True)
    return np.array([(_pair(prediction, gold)[which], 1.0) for prediction, gold in pairs]).reshape(-1, 2)


# The same candidate is judged as a sample, as a label and as the answer of several methods: each pair is scored once.
@functools.lru_cache(maxsize=1 << 16)
def _pair(prediction: str, gold: str) -> tuple[float, float]:
    scores = _scorer().score(gold, prediction)
    return float(scores["rouge1"].fmeasure), float(scores["rougeL"].fmeasure)


@functools.cache
def _scorer():
    # Imported late: the package pulls in nltk, two seconds that importing hydrajax must not cost.
    from rouge_score import rouge_scorer

    return rouge_scorer.RougeScorer(["rouge1", "rougeL"], use_stemmer=False)
