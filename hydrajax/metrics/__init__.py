"""Metrics: pure functions of predictions and golds, and the graded quality that labels are made of.

Predictions are normalised answers (`Task.normalise`). Each file says where its metric differs from LaMP's official
evaluation and from HYDRA's public code.
"""

from hydrajax.metrics.corpus_bleu import bleu
from hydrajax.metrics.corpus_bleu import signature as bleu_signature
from hydrajax.metrics.graded import quality
from hydrajax.metrics.labels import accuracy, macro_f1
from hydrajax.metrics.ratings import mae, rmse
from hydrajax.metrics.rouge import rouge1, rouge_pair, rougeL
from hydrajax.metrics.statistics import STATISTICS, Statistic, compute

__all__ = [
    "STATISTICS",
    "Statistic",
    "accuracy",
    "bleu",
    "bleu_signature",
    "compute",
    "macro_f1",
    "mae",
    "quality",
    "rmse",
    "rouge1",
    "rougeL",
    "rouge_pair",
]
