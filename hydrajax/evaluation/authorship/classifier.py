"""Who wrote a text: a classifier of authors, trained on texts of theirs that nobody who imitates them has seen.

    log P(author | text) = log softmax( w log P_grams + (1 - w) log P_base )

P_grams is a logistic regression on tf-idf of character n-grams (2 to 5, inside words) and word n-grams (1 and 2),
P_base one on the base's features; of a text longer than a chunk both are the mean of the chunks' logarithms. C of both
and the weight w are chosen by cross-validation on the training texts, the chunks of a text always in one fold.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hydrajax.methods import logistic
from hydrajax.types import DataError

Embed = Callable[[Sequence[str]], np.ndarray]
GRAMS_C = (300.0, 3000.0)
BASE_C = (0.1, 1.0)
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """One of the two regressions.

    Attributes:
      featurise: chunks -> features, a matrix with one row a chunk.
      regression: scikit-learn's, fitted on all training chunks.
      regularisation: its C, the one of the best log-probability in cross-validation.
      left_out: [T, A], log P of each training text by a regression that was not fitted on it.
    """

    featurise: Callable[[Sequence[str]], Any]
    regression: Any
    regularisation: float
    left_out: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classifier:
    """A fitted classifier.

    Attributes:
      authors: in the order of the columns.
      grams, base: its parts; no base where no embedding was given.
      weight: w, of the n-grams.
      chunk_words: words of a chunk.
      accuracy: share of training texts whose author is found in cross-validation (after w was chosen on them, so a
        little optimistic).
    """

    authors: tuple[str, ...]
    grams: Part
    base: Part | None
    weight: float
    chunk_words: int
    accuracy: float

    def log_probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """log P(author | text), [N, A]."""
        cut = [chunks(text, self.chunk_words) for text in texts]
        flat = [chunk for own in cut for chunk in own]
        of = np.repeat(np.arange(len(cut)), [len(own) for own in cut])
        grams = _per_text(self.grams.regression.predict_log_proba(self.grams.featurise(flat)), of, len(cut))
        if self.base is None:
            return _normalised(grams)
        base = _per_text(self.base.regression.predict_log_proba(self.base.featurise(flat)), of, len(cut))
        return _mix(grams, base, self.weight)


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
      embed: texts -> features [N, D] of the base; None leaves that part out.
      chunk_words: words of a chunk; about the length of what will be judged.
      folds: of the cross-validation.
      seed: of the division into folds.

    Raises:
      DataError: fewer than two authors, or an author with fewer than two texts.
    """
    few = sorted(author for author, own in texts.items() if len(own) < 2)
    if len(texts) < 2 or few:
        named = f", {few[0]!r} has {len(texts[few[0]])}" if few else ""
        raise DataError(
            f"a judge of authors got {len(texts)} authors{named}, expected two authors or more with two texts or more"
        )
    authors = tuple(sorted(texts))
    listed = [(place, text) for place, author in enumerate(authors) for text in texts[author]]
    target = np.array([place for place, _ in listed])
    cut = [chunks(text, chunk_words) for _, text in listed]
    fold = _folds(target, min(folds, min(len(own) for own in texts.values())), seed)
    of = np.repeat(np.arange(len(cut)), [len(own) for own in cut])
    flat = [chunk for own in cut for chunk in own]
    grams = _fit_part(_grams(flat), flat, of, target, fold, GRAMS_C)
    base, weight, mixed = None, 1.0, _normalised(grams.left_out)
    if embed is not None:
        base = _fit_part(_standardised(embed, flat), flat, of, target, fold, BASE_C)
        tried = {w: _mix(grams.left_out, base.left_out, w) for w in WEIGHTS}
        weight = max(WEIGHTS, key=lambda w: _mean_log_probability(tried[w], target))
        mixed = tried[weight]
    return Classifier(
        authors=authors,
        grams=grams,
        base=base,
        weight=weight,
        chunk_words=chunk_words,
        accuracy=float(np.mean(mixed.argmax(axis=1) == target)),
    )


def chunks(text: str, words: int) -> list[str]:
    """The text in pieces of so many words; a last piece of less than half of that belongs to the one before it."""
    found = text.split()
    starts = [i for i in range(0, len(found), words) if i == 0 or len(found) - i >= words / 2] or [0]
    ends = [*starts[1:], len(found)]
    return [" ".join(found[start:end]) for start, end in zip(starts, ends, strict=True)]


def _fit_part(featurise, flat, of, target, fold, grid) -> Part:
    features, labels = featurise(flat), target[of]

    def fitted(c: float, rows: np.ndarray):
        return logistic.fit(features[rows], labels[rows], c=c, max_iter=1000, tol=1e-3)

    tried = {}
    for c in grid:
        left_out = np.zeros((len(target), target.max() + 1))
        for held in np.unique(fold):
            own = fold[of] == held
            log_p = fitted(c, ~own).predict_log_proba(features[own])
            places = np.flatnonzero(fold == held)
            left_out[places] = _per_text(log_p, np.searchsorted(places, of[own]), len(places))
        tried[c] = left_out
    best = max(grid, key=lambda c: _mean_log_probability(_normalised(tried[c]), target))
    everything = np.ones(len(of), bool)
    return Part(featurise=featurise, regression=fitted(best, everything), regularisation=best, left_out=tried[best])


def _grams(flat: Sequence[str]):
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
    return both.fit(flat).transform


def _standardised(embed: Embed, flat: Sequence[str]):
    seen = np.asarray(embed(flat), np.float64)
    mean, spread = seen.mean(axis=0), seen.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    return lambda texts: (np.asarray(embed(texts), np.float64) - mean) / scale


def _folds(target: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each text: every author's texts spread evenly, so that every fold has all authors."""
    rng, found = np.random.default_rng(seed), np.zeros(len(target), int)
    for author in np.unique(target):
        own = np.flatnonzero(target == author)
        found[own] = rng.permutation(len(own)) % folds
    return found


def _per_text(log_p: np.ndarray, of: np.ndarray, count: int) -> np.ndarray:
    """The mean over the chunks of each text, [count, A]."""
    sums = np.zeros((count, log_p.shape[1]))
    np.add.at(sums, of, log_p)
    return sums / np.bincount(of, minlength=count)[:, None]


def _mix(grams: np.ndarray, base: np.ndarray, weight: float) -> np.ndarray:
    return _normalised(weight * _normalised(grams) + (1 - weight) * _normalised(base))


def _normalised(log_p: np.ndarray) -> np.ndarray:
    top = log_p.max(axis=1, keepdims=True)
    return log_p - top - np.log(np.exp(log_p - top).sum(axis=1, keepdims=True))


def _mean_log_probability(log_p: np.ndarray, target: np.ndarray) -> float:
    return float(np.mean(log_p[np.arange(len(target)), target]))
