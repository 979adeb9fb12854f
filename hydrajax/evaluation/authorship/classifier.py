"""Who wrote a text: a classifier of authors, trained on texts of theirs that nobody who imitates them has seen.

A log-linear pool of two logistic regressions:

    log P(author | text) = log softmax( w log P_ngrams + (1 - w) log P_base )

P_ngrams is on tf-idf of character n-grams (2 to 5, inside words) and word n-grams (1 and 2), P_base on the base's
features; of a text longer than a chunk both are the mean of the chunks' logarithms. C of both is chosen by
cross-validation on the training texts, the chunks of a text always in one fold, and w on the predictions out of fold.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hydrajax.methods import logistic
from hydrajax.prompting.contract import Embed
from hydrajax.types import DataError

NGRAMS_C = (300.0, 3000.0)
BASE_C = (0.1, 1.0)
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regression:
    """One of the two regressions.

    Attributes:
      featurise: chunks -> features, a matrix with one row a chunk.
      fitted: scikit-learn's regression, on all training chunks.
      out_of_fold: [T, A], log P of each training text by a regression that was not fitted on it.
    """

    featurise: Callable[[Sequence[str]], Any]
    fitted: Any
    out_of_fold: np.ndarray

    def log_probabilities(self, chunked: Sequence[str], text_of: np.ndarray) -> np.ndarray:
        """[N, A], of the texts that the chunks belong to."""
        return _per_text(self.fitted.predict_log_proba(self.featurise(chunked)), text_of)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classifier:
    """A fitted classifier.

    Attributes:
      authors: in the order of the columns.
      ngrams, base: the regressions; no base where no embedding was given.
      weight: w, of the n-grams.
      chunk_words: words of a chunk.
      accuracy: share of training texts whose author is found out of fold (after w was chosen on them, so a little
        optimistic).
    """

    authors: tuple[str, ...]
    ngrams: Regression
    base: Regression | None
    weight: float
    chunk_words: int
    accuracy: float

    def log_probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """log P(author | text), [N, A]."""
        chunked, text_of = _chunked(texts, self.chunk_words)
        ngrams = self.ngrams.log_probabilities(chunked, text_of)
        base = None if self.base is None else self.base.log_probabilities(chunked, text_of)
        return _pool(ngrams, base, self.weight)


def fit(
    texts: Mapping[str, Sequence[str]],
    *,
    embed: Embed | None = None,
    chunk_words: int = 150,
    folds: int = 4,
    seed: int = 0,
) -> Classifier:
    """Fits the classifier.

    Args:
      texts: of each author, two or more; none that is judged, and none that was shown to whoever is judged.
      embed: texts -> features [N, D] of the base; None leaves that regression out.
      chunk_words: words of a chunk; about the length of what will be judged.
      seed: of the division into folds.

    Raises:
      DataError: fewer than two authors, or an author with fewer than two texts.
    """
    few = sorted(author for author, of_author in texts.items() if len(of_author) < 2)
    if len(texts) < 2 or few:
        named = f", {few[0]!r} has {len(texts[few[0]])}" if few else ""
        raise DataError(
            f"a judge of authors got {len(texts)} authors{named}, expected two authors or more with two texts or more"
        )
    authors = tuple(sorted(texts))
    target = np.repeat(np.arange(len(authors)), [len(texts[author]) for author in authors])
    chunked, text_of = _chunked([text for author in authors for text in texts[author]], chunk_words)
    fold = _folds(target, min(folds, *map(len, texts.values())), seed)
    ngrams = _fit(_ngrams(chunked), NGRAMS_C, chunked, text_of, target, fold)
    base, weight = None, 1.0
    if embed is not None:
        base = _fit(_standardised(embed, chunked), BASE_C, chunked, text_of, target, fold)
        pools = {w: _pool(ngrams.out_of_fold, base.out_of_fold, w) for w in WEIGHTS}
        weight = max(WEIGHTS, key=lambda w: _mean_log_probability(pools[w], target))
    pooled = _pool(ngrams.out_of_fold, None if base is None else base.out_of_fold, weight)
    return Classifier(
        authors=authors,
        ngrams=ngrams,
        base=base,
        weight=weight,
        chunk_words=chunk_words,
        accuracy=float(np.mean(pooled.argmax(axis=1) == target)),
    )


def chunks(text: str, words: int) -> list[str]:
    """The text in pieces of so many words; a last piece of less than half of that belongs to the one before it."""
    split = text.split()
    starts = [i for i in range(0, len(split), words) if i == 0 or len(split) - i >= words / 2] or [0]
    ends = [*starts[1:], len(split)]
    return [" ".join(split[start:end]) for start, end in zip(starts, ends, strict=True)]


def _chunked(texts: Sequence[str], words: int) -> tuple[list[str], np.ndarray]:
    """The chunks of all texts, and to which text each of them belongs."""
    by_text = [chunks(text, words) for text in texts]
    return [chunk for of_text in by_text for chunk in of_text], np.repeat(
        np.arange(len(texts)), list(map(len, by_text))
    )


def _fit(featurise, grid, chunked, text_of, target, fold) -> Regression:
    features, labels = featurise(chunked), target[text_of]

    def fitted(c: float, rows: np.ndarray):
        return logistic.fit(features[rows], labels[rows], c=c, max_iter=1000, tol=1e-3)

    out_of_fold = {}
    for c in grid:
        log_p = np.zeros((len(labels), target.max() + 1))
        for held_out in (fold[text_of] == i for i in np.unique(fold)):
            log_p[held_out] = fitted(c, ~held_out).predict_log_proba(features[held_out])
        out_of_fold[c] = _per_text(log_p, text_of)
    best = max(grid, key=lambda c: _mean_log_probability(logistic.log_softmax(out_of_fold[c]), target))
    return Regression(
        featurise=featurise, fitted=fitted(best, np.ones(len(labels), bool)), out_of_fold=out_of_fold[best]
    )


def _ngrams(chunked: Sequence[str]):
    """Texts -> tf-idf; n-grams and their frequencies are those of all training texts, whoever wrote them."""
    from sklearn import pipeline
    from sklearn.feature_extraction import text

    kinds = {"char_wb": (2, 5), "word": (1, 2)}
    both = pipeline.make_union(
        *(
            text.TfidfVectorizer(
                analyzer=kind,
                ngram_range=sizes,
                min_df=2,
                max_features=40_000,
                sublinear_tf=True,
                lowercase=False,
                dtype=np.float32,
            )
            for kind, sizes in kinds.items()
        )
    )
    return both.fit(chunked).transform


def _standardised(embed: Embed, chunked: Sequence[str]):
    features = np.asarray(embed(chunked), np.float64)
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)
    return lambda texts: (np.asarray(embed(texts), np.float64) - mean) / scale


def _folds(target: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each text: every author's texts spread evenly, so that every fold has all authors."""
    rng, fold = np.random.default_rng(seed), np.zeros(len(target), int)
    for author in np.unique(target):
        places = np.flatnonzero(target == author)
        fold[places] = rng.permutation(len(places)) % folds
    return fold


def _per_text(log_p: np.ndarray, text_of: np.ndarray) -> np.ndarray:
    """[N, A], the mean over the chunks of each text."""
    counts = np.bincount(text_of)
    sums = np.zeros((len(counts), log_p.shape[1]))
    np.add.at(sums, text_of, log_p)
    return sums / counts[:, None]


def _pool(ngrams: np.ndarray, base: np.ndarray | None, weight: float) -> np.ndarray:
    if base is None:
        return logistic.log_softmax(ngrams)
    return logistic.log_softmax(weight * logistic.log_softmax(ngrams) + (1 - weight) * logistic.log_softmax(base))


def _mean_log_probability(log_p: np.ndarray, target: np.ndarray) -> float:
    return float(np.mean(log_p[np.arange(len(target)), target]))
