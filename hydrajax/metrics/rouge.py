"""ROUGE-1 and ROUGE-L of the `rouge-score` package, without stemming, as a plain mean of F over questions.

LaMP's official evaluation calls the `evaluate` package, which reports the median of an unseeded bootstrap of the same
per-question F: close to the mean, and different from run to run. HYDRA's public code trains and reports by a module of
generation metrics whose source it does not include.
"""

import functools
from collections.abc import Sequence

import numpy as np

from hydrajax.metrics import _sums


# The same candidate is judged as a sample, as a label and as the answer of several methods: each pair is scored once.
@functools.lru_cache(maxsize=1 << 16)
def rouge_pair(prediction: str, gold: str) -> tuple[float, float]:
    """ROUGE-1 and ROUGE-L (F) of one prediction. An empty text, or one without letters and digits, scores 0."""
    scores = _scorer().score(gold, prediction)
    return float(scores["rouge1"].fmeasure), float(scores["rougeL"].fmeasure)


def counts(predictions: Sequence[str], golds: Sequence[str], which: int) -> np.ndarray:
    """What ROUGE-1 (which 0) or ROUGE-L (1) needs of each question, [N, 2]: the F-measure, 1.

    That of ROUGE-1 is of shared words, that of ROUGE-L of their longest common subsequence.
    """
    return _sums.counts(rouge_pair(*pair)[which] for pair in zip(predictions, golds, strict=True))


@functools.cache
def _scorer():
    # Imported late: the package pulls in nltk, two seconds that importing hydrajax must not cost.
    from rouge_score import rouge_scorer

    return rouge_scorer.RougeScorer(["rouge1", "rougeL"], use_stemmer=False)
