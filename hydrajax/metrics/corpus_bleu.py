"""Corpus BLEU of the `sacrebleu` package (0 to 100), and the counts from which any resample's BLEU follows exactly.

LaMP's training code reports the same package's score with its defaults (its evaluation script has ROUGE alone); what it
does not report is the signature, without which a BLEU cannot be compared: `signature()`.
"""

import functools
from collections.abc import Sequence

import numpy as np

ORDER = 4


def signature() -> str:
    """sacrebleu's signature of the metric: references, case, tokenizer, smoothing, version."""
    # Imported late: importing hydrajax costs nothing that a run may not need.
    from sacrebleu import metrics

    scorer = metrics.BLEU()
    # The signature is known only to a scorer that has seen how many references there are.
    scorer.corpus_score(["a"], [["a"]])
    return str(scorer.get_signature())


def bleu_counts(predictions: Sequence[str], golds: Sequence[str]) -> np.ndarray:
    """What corpus BLEU needs of each question, [N, 2 + 2 * 4].

    Columns: words of the prediction, words of the gold, matched n-grams and n-grams of the prediction for n = 1 .. 4.
    """
    rows = [_sentence_counts(prediction, gold) for prediction, gold in zip(predictions, golds, strict=True)]
    return np.array(rows, float).reshape(-1, 2 + 2 * ORDER)


def bleu_value(sums: np.ndarray) -> np.ndarray | np.floating:
    """Corpus BLEU (0 to 100) from sums of `bleu_counts`, [..., 10] -> [...].

    BLEU = 100 min(1, exp(1 - ref / sys)) exp(mean_n log p_n), p_n = matched_n / n-grams_n. Where matched_n = 0, p_n is
    1 / (2^j n-grams_n) for the j-th such n (sacrebleu's "exp" smoothing). 0 where nothing matches, or where no
    prediction has a 4-gram.
    """
    system, reference = sums[..., 0], sums[..., 1]
    matched, total = sums[..., 2 : 2 + ORDER], sums[..., 2 + ORDER :]
    missing = matched == 0
    smoothed = np.where(missing, 0.5 ** np.cumsum(missing, axis=-1), matched)
    precisions = smoothed / np.maximum(total, 1.0)
    brevity = np.exp(np.minimum(0.0, 1.0 - reference / np.maximum(system, 1.0)))
    score = 100.0 * brevity * np.exp(np.mean(np.log(precisions), axis=-1))
    return np.where(np.any(matched > 0, axis=-1) & np.all(total > 0, axis=-1), score, 0.0)


@functools.lru_cache(maxsize=1 << 16)
def _sentence_counts(prediction: str, gold: str) -> tuple[int | float, ...]:
    score = _sentence().sentence_score(prediction, [gold])
    return (score.sys_len, score.ref_len, *score.counts, *score.totals)


@functools.cache
def _sentence():
    from sacrebleu import metrics

    # effective_order concerns the sentence's score, which is not used, and silences a warning; the counts are the same.
    return metrics.BLEU(effective_order=True)
