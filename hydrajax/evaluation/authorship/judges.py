"""Judges of authorship: which of two texts is more likely by an author? And win rates out of their verdicts.

Two texts are cut to the same number of words before they are compared: length alone would tell a short generation from
a real article. A judge says how often it is right where that is known, on real texts of the author and of others;
without that a win rate means nothing. Real texts of two authors differ in their subject as well, and texts that begin
with the same sentence hardly do: what a judge knows of style alone is less than that accuracy.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from hydrajax.evaluation import intervals
from hydrajax.evaluation.authorship import classifier as authorship_classifier
from hydrajax.llm import request, sampler
from hydrajax.prompting import templates
from hydrajax.types import Message

PROMPT = "same_author.txt"
VERDICT_TOKENS = 4
_VERDICT = re.compile(r"\W*([AB])\W*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Duel:
    """Two texts, one of which is more likely by the author."""

    author: str
    first: str
    second: str

    def cut(self, limit: int | None = None) -> "Duel":
        """Both texts to the words of the shorter one, and to `limit`."""
        first, second = self.first.split(), self.second.split()
        words = min(len(first), len(second), len(first) if limit is None else limit)
        return dataclasses.replace(self, first=" ".join(first[:words]), second=" ".join(second[:words]))


@runtime_checkable
class Judge(Protocol):
    """Decides duels.

    Attributes:
      kind: `classifier` or `llm`.
      unreadable: verdicts so far that could not be read, and counted as half.
    """

    kind: str
    unreadable: int

    def decide(self, duels: Sequence[Duel]) -> list[float]:
        """1 where the first text is more likely by the author, 0 where the second is, 1/2 where neither."""
        ...


class ClassifierJudge:
    """Prefers the text to which a classifier of authors gives the higher log P(author | text)."""

    kind = "classifier"
    unreadable = 0

    def __init__(self, classifier: authorship_classifier.Classifier):
        self.classifier = classifier

    def decide(self, duels: Sequence[Duel]) -> list[float]:
        unique = list(dict.fromkeys(text for duel in duels for text in (duel.first, duel.second)))
        if not unique:
            return []
        log_p = dict(zip(unique, self.classifier.log_probabilities(unique), strict=True))
        authors = [self.classifier.authors.index(duel.author) for duel in duels]
        gaps = [log_p[duel.first][i] - log_p[duel.second][i] for duel, i in zip(duels, authors, strict=True)]
        return [float(np.sign(gap) + 1) / 2 for gap in gaps]


class LlmJudge:
    """Asks an LLM, which sees another text of the author, in both orders; an unreadable answer counts as half.

    Args:
      known: a real text of each author, neither shown nor judged.
      temperature: 0 for greedy answers, None where the model takes none.
      words: of the known text at most its beginning.
    """

    kind = "llm"

    def __init__(self, llm: sampler.Sampler, known: Mapping[str, str], *, temperature: float | None, words: int = 150):
        self.unreadable = 0
        self._llm = llm
        self._known = {author: " ".join(text.split()[:words]) for author, text in known.items()}
        self._temperature = temperature

    def decide(self, duels: Sequence[Duel]) -> list[float]:
        asked = [
            self._request(duel.author, *texts)
            for duel in duels
            for texts in ((duel.first, duel.second), (duel.second, duel.first))
        ]
        answers = self._llm.sample(asked, stage="judge")
        verdicts = [read_verdict(answer.text) for answer in answers]
        self.unreadable += sum(verdict is None for verdict in verdicts)
        shares = [0.5 if verdict is None else float(verdict == "A") for verdict in verdicts]
        return [(straight + 1 - turned) / 2 for straight, turned in zip(shares[::2], shares[1::2], strict=True)]

    def _request(self, author: str, a: str, b: str) -> request.Request:
        texts = {"text": self._known[author], "a": a, "b": b}
        slots = {name: templates.tagged("text", [text]) for name, text in texts.items()}
        return request.Request(
            messages=(Message(role="user", text=templates.fill(PROMPT, slots)),),
            max_tokens=VERDICT_TOKENS,
            temperature=self._temperature,
            group=author,
        )


def read_verdict(answer: str) -> str | None:
    """`A` or `B` where the answer is that letter and nothing else but marks."""
    match = _VERDICT.fullmatch(answer.strip())
    return match.group(1) if match else None


def contest(
    judge: Judge, pairs: Sequence[tuple[str, Sequence[str], Sequence[str]]], *, limit: int | None = None
) -> list[float]:
    """How often the first side wins, for each pair of sides, in [0, 1].

    Args:
      pairs: (author, texts of one side, texts of the other); sample i meets sample i, the shorter side goes round. An
        empty text loses against any other, without a judge.
      limit: most words that are compared.

    Raises:
      ValueError: a side has no text.
    """
    duels, decided, wins = [], [], []
    for author, ours, theirs in pairs:
        if not ours or not theirs:
            raise ValueError(f"a side has no text for author {author!r}, expected at least one")
        rounds = max(len(ours), len(theirs))
        wins.append(np.full(rounds, 0.5))
        for i in range(rounds):
            a, b = ours[i % len(ours)].strip(), theirs[i % len(theirs)].strip()
            if a and b:
                duels.append(Duel(author=author, first=a, second=b).cut(limit))
                decided.append((wins[-1], i))
            else:
                wins[-1][i] = (bool(a) - bool(b) + 1) / 2
    for (of_pair, i), share in zip(decided, judge.decide(duels), strict=True):
        of_pair[i] = share
    return [float(np.mean(of_pair)) for of_pair in wins]


def win_rate(authors: Sequence[str], wins: Sequence[float], *, seed: int = 0) -> intervals.Interval:
    """The mean over authors of each author's mean, with an interval over authors.

    Args:
      authors: whose text each of the wins is about.
      wins: in [0, 1].
    """
    names, member = np.unique(authors, return_inverse=True)
    means = np.bincount(member, weights=wins) / np.bincount(member)
    return intervals.mean_over_users(means, intervals.resample_weights(len(names), seed=seed))


def real_accuracy(
    judge: Judge, pairs: Sequence[tuple[str, str, str]], *, limit: int | None, seed: int = 0
) -> intervals.Interval:
    """How often a judge prefers an author's real text to a real text of another author.

    Args:
      pairs: (author, text, another author's text), see `rivals` and `alike`.
      limit: most words that are compared.
    """
    wins = contest(judge, [(author, [text], [rival]) for author, text, rival in pairs], limit=limit)
    return win_rate([author for author, _, _ in pairs], wins, seed=seed)


def rivals(real: Sequence[tuple[str, str]], others: int | None = None) -> list[tuple[str, str, str]]:
    """Each (author, text) with texts of other authors: the next ones in turn, by default all."""
    pairs = []
    for place, (author, text) in enumerate(real):
        following = [rival for owner, rival in (*real[place:], *real[:place]) if owner != author]
        pairs += [(author, text, rival) for rival in following[:others]]
    return pairs


def alike(real: Sequence[tuple[str, str]], features: np.ndarray) -> list[tuple[str, str, str]]:
    """Each (author, text) with the text of another author that is nearest in its subject.

    Args:
      real: (author, text), of two authors or more.
      features: [N, D] of the texts, each of length 1.
    """
    similarity = features @ features.T
    owners = np.array([author for author, _ in real])
    similarity[owners[:, None] == owners] = -np.inf
    nearest = similarity.argmax(axis=1)
    return [(author, text, real[int(i)][1]) for (author, text), i in zip(real, nearest, strict=True)]
