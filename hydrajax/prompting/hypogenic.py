"""A bank of hypotheses made better on labelled examples (HypoGeniC, Zhou et al. 2024, arXiv 2404.04326).

    reward(h) = right / n + alpha sqrt(log t / n)        n examples were tried with h, t examples were seen

A hypothesis is tried on the examples that it was made of, the first ones too, which gives it a first reward. Each
further example i of N, those counted, is tried with the k best hypotheses (all, where there are fewer). Where at least
.8 k i / N of them are wrong it goes to a list; at 10 of these, 5 new hypotheses are made of them, and the best 20 of
all stay.

The banks of all users are made side by side, so that what they ask the LLM goes out together.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from hydrajax.types import check_least

Example = TypeVar("Example")
# By user: hypotheses and examples -> whether a hypothesis leads to the right label, [examples][hypotheses].
Predict = Callable[[Mapping[str, tuple[list[str], list[Example]]]], Mapping[str, Sequence[Sequence[bool]]]]
# By user: examples that most hypotheses were wrong about -> new hypotheses.
Propose = Callable[[Mapping[str, list[Example]]], Mapping[str, Sequence[str]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BankSettings:
    """The numbers of the paper.

    Attributes:
      size: hypotheses that stay at most.
      tried: k, hypotheses that each example is tried with.
      alpha: weight of what is not known yet.
      wrong_share: share of the k that have to be wrong at the last example.
      wrong: examples that new hypotheses are made of.
      proposed: new hypotheses at a time.
    """

    size: int = 20
    tried: int = 5
    alpha: float = 0.5
    wrong_share: float = 0.8
    wrong: int = 10
    proposed: int = 5

    def __post_init__(self):
        check_least(self, size=1, tried=1, wrong=1, proposed=1, alpha=0)
        if not 0 <= self.wrong_share <= 1:
            raise ValueError(f"wrong_share is {self.wrong_share}, expected 0 to 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """A hypothesis, and how often it was right of how many examples."""

    text: str
    right: int = 0
    tried: int = 0


def reward(hypothesis: Hypothesis, seen: int, alpha: float = 0.5) -> float:
    """accuracy + alpha sqrt(log t / n); infinite where it was never tried, so that everything is tried once."""
    if not hypothesis.tried:
        return math.inf
    return hypothesis.right / hypothesis.tried + alpha * math.sqrt(math.log(max(1, seen)) / hypothesis.tried)


def expected_accuracy(hypothesis: Hypothesis) -> float:
    """(right + 1) / (n + 2): what a hypothesis is worth once nothing more is tried.

    The reward favours what is hardly known, to try it; here the mean under a uniform prior favours what has proved
    itself, 4 of 4 before 1 of 1, and what was never tried is worth a guess.
    """
    return (hypothesis.right + 1) / (hypothesis.tried + 2)


def refine(
    hypotheses: Mapping[str, Sequence[str]],
    examples: Mapping[str, Sequence[Example]],
    predict: Predict[Example],
    propose: Propose[Example],
    settings: BankSettings = BankSettings(),  # noqa: B008 (frozen)
    made_of: Mapping[str, Sequence[Example]] | None = None,
) -> dict[str, tuple[Hypothesis, ...]]:
    """The bank of every user after all examples, the hypothesis of the highest reward first.

    First `predict` is asked about what the hypotheses were made of. Each step asks it once more and, where somebody has
    enough failed examples, `propose` and `predict` once more, whatever the number of users; a user's bank depends on
    nobody else's.

    Args:
      hypotheses: to begin with, by user.
      examples: labelled, by user; hypotheses are later judged on none of them.
      predict, propose: ask the LLM. Of what is proposed, empty texts, known ones and those beyond the settings' number
        are left out.
      settings: the numbers.
      made_of: examples that the first hypotheses were made of, by user; a user without any begins with hypotheses that
        were never tried.
    """
    banks = {
        user: [Hypothesis(text=text) for text in dict.fromkeys(texts)][: settings.size]
        for user, texts in hypotheses.items()
    }
    first = {user: list(of_user) for user, of_user in (made_of or {}).items() if of_user and banks.get(user)}
    banks |= _tried({user: banks[user] for user in first}, first, predict)
    before = {user: len(first.get(user, ())) for user in banks}
    failed: dict[str, list[Example]] = {user: [] for user in banks}
    for seen in range(1, 1 + max(map(len, examples.values()), default=0)):
        here = {user: examples[user][seen - 1] for user in banks if seen <= len(examples[user])}
        for user in here:
            banks[user] = _ranked(banks[user], before[user] + seen - 1, settings)
        chosen = {user: banks[user][: settings.tried] for user in here}
        tried = _tried(chosen, {user: [example] for user, example in here.items()}, predict)
        for user, example in here.items():
            wrong = sum(new.right == old.right for new, old in zip(tried[user], chosen[user], strict=True))
            progress = (before[user] + seen) / (before[user] + len(examples[user]))
            if wrong and wrong >= settings.wrong_share * len(chosen[user]) * progress:
                failed[user].append(example)
            banks[user] = [*tried[user], *banks[user][settings.tried :]]
        full = {user: failed[user] for user in here if len(failed[user]) == settings.wrong}
        if full:
            proposed = propose(full)
            new = {user: _unknown(proposed[user], banks[user])[: settings.proposed] for user in full}
            for user, made in _tried({user: made for user, made in new.items() if made}, full, predict).items():
                banks[user] = _ranked([*banks[user], *made], before[user] + seen, settings)[: settings.size]
            failed |= {user: [] for user in full}
    return {user: tuple(_ranked(bank, before[user] + len(examples[user]), settings)) for user, bank in banks.items()}


def _tried(
    hypotheses: Mapping[str, Sequence[Hypothesis]], examples: Mapping[str, list[Example]], predict: Predict[Example]
) -> dict[str, list[Hypothesis]]:
    """The hypotheses with what they were right about counted."""
    asked = {user: ([h.text for h in listed], examples[user]) for user, listed in hypotheses.items()}
    verdicts = predict(asked) if asked else {}
    return {
        user: [
            dataclasses.replace(h, right=h.right + sum(column), tried=h.tried + len(column))
            for h, *column in zip(listed, *verdicts[user], strict=True)
        ]
        for user, listed in hypotheses.items()
    }


def _unknown(texts: Sequence[str], bank: Sequence[Hypothesis]) -> list[Hypothesis]:
    known = {hypothesis.text for hypothesis in bank}
    return [Hypothesis(text=text) for text in dict.fromkeys(texts) if text.strip() and text not in known]


def _ranked(bank: Sequence[Hypothesis], seen: int, settings: BankSettings) -> list[Hypothesis]:
    return sorted(bank, key=lambda hypothesis: -reward(hypothesis, seen, settings.alpha))
