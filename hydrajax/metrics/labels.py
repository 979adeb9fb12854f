"""Metrics of label tasks: accuracy and macro-F1.

LaMP's official evaluation strips a prediction and compares it with the list of labels; what equals none of them is
class -1, which is never right. Here predictions come as `Task.normalise` leaves them (its first line, letter case and
surrounding quotes, brackets and full stops forgiven), and only in that are these numbers more lenient than the official
ones. HYDRA's public code lowers the case and cuts the prediction at its first comma, exclamation mark or bracket, and
where it makes its training labels an answer is right that merely contains the gold. None of that is done here.
"""

from collections.abc import Sequence

import numpy as np

from hydrajax.metrics import _sums


def accuracy_counts(predictions: Sequence[str], golds: Sequence[str]) -> np.ndarray:
    """What accuracy, the share of predictions that equal their gold, needs of each question, [N, 2]: right, 1."""
    pairs = zip(predictions, golds, strict=True)
    return _sums.counts(prediction.strip() == gold.strip() for prediction, gold in pairs)


def macro_f1_counts(predictions: Sequence[str], golds: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """What macro-F1 needs of each question, [N, 3 labels]: true positives, predicted, gold, each by label."""
    index = {label: i for i, label in enumerate(labels)}
    counts = np.zeros((len(golds), 3, len(labels)))
    for row, prediction, gold in zip(counts, predictions, golds, strict=True):
        predicted, true = index.get(prediction.strip(), -1), index.get(gold.strip(), -1)
        if predicted >= 0:
            row[1, predicted] = 1.0
            row[0, predicted] = predicted == true
        if true >= 0:
            row[2, true] = 1.0
    return counts.reshape(len(golds), -1)


def macro_f1_value(sums: np.ndarray) -> np.ndarray | np.floating:
    """Macro-F1 from sums of `macro_f1_counts`, [..., 3 labels] -> [...].

    Unweighted mean over *all* labels of F1 = 2 TP / (predicted + gold). A label that is neither predicted nor a gold
    counts as 0, as in scikit-learn's `f1_score(..., average="macro", zero_division=0)`, so a small sample lowers the
    value; a prediction outside the labels counts for no label.
    """
    right, predicted, gold = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1), -2, 0)
    return np.mean(2.0 * right / np.maximum(predicted + gold, 1.0), axis=-1)
