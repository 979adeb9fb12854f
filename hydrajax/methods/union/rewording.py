"""Which words of a paraphrase its author had written: a candidate without a call, for tasks that undo paraphrases.

A paraphrase adds words ("the person mentions that"). A logistic regression over the words of other users' questions
gives each word w of a question the probability p_w that its author used it, from how often w was kept elsewhere, how
often the author's own texts have it, and its place and form. Of n words of falling p, those k are kept that maximise

    E[ROUGE-1] = 2 (p_1 + ... + p_k) / (k + g),    g the expected length of what the author wrote, linear in n
"""

import collections
import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from hydrajax.methods import logistic
from hydrajax.types import DataError

Pair = tuple[str, str, Sequence[str]]  # a question, what its author wrote, the author's other texts
REGULARISATION = 1.0
PRIOR_WORDS = 2.0  # how many unseen words stand behind the share of a word that was kept


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rewording:
    """A fitted model.

    Attributes:
      asked, kept: by word, in how many questions it occurs, and in how many of these its author used it.
      written: by word, in how many of the authors' other texts it occurs.
      texts: how many these are.
      regression: of a word's features, standardised: whether it was kept.
      length: (slope, offset) of g over n.
    """

    asked: Mapping[str, int]
    kept: Mapping[str, int]
    written: Mapping[str, int]
    texts: int
    regression: Any = None
    length: tuple[float, float] = (1.0, 0.0)


def fit(pairs: Sequence[Pair]) -> Rewording:
    """Learns from questions of other users; a word's share of being kept is taken without the question itself.

    Raises:
      DataError: there is no question, or every word of every question was kept, or none.
    """
    asked = collections.Counter(word for question, *_ in pairs for word in set(_words(question)))
    kept = collections.Counter(word for question, gold, _ in pairs for word in {*_words(question)} & {*_words(gold)})
    written = collections.Counter(word for *_, texts in pairs for text in texts for word in set(_words(text)))
    blank = Rewording(asked=asked, kept=kept, written=written, texts=sum(len(texts) for *_, texts in pairs))
    rows = [_features(blank, question, texts, known=set(_words(gold))) for question, gold, texts in pairs]
    target = [word in set(_words(gold)) for question, gold, _ in pairs for word in _words(question)]
    if len(set(target)) < 2:
        raise DataError(f"{len(pairs)} questions do not say which words their authors had used, expected some of both")
    regression = logistic.fit(np.concatenate(rows), target, c=REGULARISATION, max_iter=500, standardise=True)
    asked_sizes = [len(_words(question)) for question, *_ in pairs]
    slope, offset = 1.0, 0.0
    if len(set(asked_sizes)) > 1:
        slope, offset = np.polyfit(asked_sizes, [len(_words(gold)) for _, gold, _ in pairs], 1)
    return dataclasses.replace(blank, regression=regression, length=(float(slope), float(offset)))


def versions(model: Rewording, question: str, texts: Sequence[str]) -> list[tuple[str, float]]:
    """The question's text without the words that are hardly the author's, and whole, with E[ROUGE-1] of each.

    Words keep their order and form; what belongs to no word goes with the word before it.

    Args:
      question: the text of the query.
      texts: what else the author wrote.
    """
    words = _words(question)
    if not words:
        return [(question, 0.0)] if question.strip() else []
    p = model.regression.predict_proba(_features(model, question, texts))[:, 1]
    length = max(1.0, model.length[0] * len(words) + model.length[1])
    order = np.argsort(-p, kind="stable")
    expected = 2 * np.cumsum(p[order]) / (np.arange(1, len(p) + 1) + length)
    best = int(np.argmax(expected))
    chosen = set(order[: best + 1].tolist())
    whole = (question, float(expected[-1]))
    return [(_keep(question, chosen), float(expected[best])), whole] if len(chosen) < len(words) else [whole]


def _keep(text: str, chosen: set[int]) -> str:
    """The words with these numbers and the marks that follow them; a blank stands where words were left out."""
    pieces = re.findall(r"[^A-Za-z0-9]*[A-Za-z0-9]+(?:[^A-Za-z0-9]*$|[^A-Za-z0-9\s@#]*)", text)
    kept = [piece if i - 1 in chosen else f" {piece}" for i, piece in enumerate(pieces) if i in chosen]
    return " ".join("".join(kept).split())


def _words(text: str) -> list[str]:
    """As ROUGE reads them."""
    return re.findall(r"[a-z0-9]+", text.lower())


def _features(
    model: Rewording, question: str, texts: Sequence[str], known: set[str] | None = None
) -> Float[np.ndarray, "T F"]:
    """One row a word; with `known`, the words of the gold, what the model counted in this very question is left out."""
    words = _words(question)
    in_texts = collections.Counter(word for text in texts for word in set(_words(text)))
    counted = in_texts if known is not None else collections.Counter()
    total = model.texts - (len(texts) if known is not None else 0)
    capitals = _inside(re.findall(r"[A-Z][A-Za-z0-9]+", question))
    addressed = _inside(re.findall(r"[@#]\w+", question))
    seen = known is not None
    odds = []
    for word in words:
        kept = model.kept.get(word, 0) - (seen and word in (known or ())) + PRIOR_WORDS / 2
        asked = model.asked.get(word, 0) - seen + PRIOR_WORDS
        odds.append(np.log(kept / (asked - kept)))
    rows = [
        (
            odds[i],
            np.log((in_texts[word] + 0.1) / max(1, len(texts))),
            in_texts[word] > 0,
            np.log((model.written.get(word, 0) - counted[word] + 0.5) / max(1, total)),
            np.log(model.asked.get(word, 0) - seen + 0.5),
            word in capitals,
            word in addressed,
            i / len(words),
            len(word),
            len(words) / 20,
            float(np.mean(odds)),
            word.isdigit(),
            words.count(word) - 1,
        )
        for i, word in enumerate(words)
    ]
    return np.array(rows, float).reshape(len(words), -1)


def _inside(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in _words(text)}
