"""Metrics: pure functions of predictions and golds, and the graded quality that labels are made of.

Predictions are normalised answers (`Task.normalise`). Each file says where its metric differs from LaMP's official
evaluation and from HYDRA's public code.
"""

from hydrajax.metrics.corpus_bleu import signature as bleu_signature
from hydrajax.metrics.graded import quality
from hydrajax.metrics.rouge import rouge_pair
from hydrajax.metrics.statistics import STATISTICS, compute

__all__ = ["STATISTICS", "bleu_signature", "compute", "quality", "rouge_pair"]
