"""A bank of hypotheses made better on labelled examples (HypoGeniC, Zhou et al. 2024, arXiv 2404.04326).

    reward(h) = right / n + alpha sqrt(log t / n)        n examples were tried with h, t examples were seen

Each example i of N is tried with the k best hypotheses (all, where there are fewer). Where at least .8 k i / N of them
are wrong it goes to a list; at 10 of these, 5 new hypotheses are made of them, and the best 20 of all stay. A new
hypothesis is tried on the examples that it was made of, which gives it a first reward.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

Example = TypeVar("Example")


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
        for name in ("size", "tried", "wrong", "proposed"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.alpha < 0 or not 0 <= self.wrong_share <= 1:
            raise ValueError(
                f"alpha is {self.alpha} and wrong_share {self.wrong_share}, expected 0 or more, and 0 to 1"
            )


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


def refine(
    hypotheses: Sequence[str],
    examples: Sequence[Example],
    *,
    predict: Callable[[Sequence[str], Example], Sequence[bool]],
    propose: Callable[[Sequence[Example]], Sequence[str]],
    settings: BankSettings = BankSettings(),  # noqa: B008 (frozen)
) -> tuple[Hypothesis, ...]:
    """The bank after all examples, the best first.

    Args:
      hypotheses: to begin with.
      examples: labelled, none of which a hypothesis is later judged on.
      predict: (hypotheses, example) -> whether each of them leads to the right label.
      propose: examples that most were wrong about -> new hypotheses; what is beyond the settings' number, empty or
        known already is left out.
      settings: the numbers.
    """
    bank = [Hypothesis(text=text) for text in dict.fromkeys(hypotheses)][: settings.size]
    wrong: list[Example] = []
    for seen, example in enumerate(examples, start=1):
        bank = _ranked(bank, seen - 1, settings)
        chosen, rest = bank[: settings.tried], bank[settings.tried :]
        verdicts = predict([hypothesis.text for hypothesis in chosen], example)
        bank = [_told(h, right) for h, right in zip(chosen, verdicts, strict=True)] + rest
        misses = sum(not right for right in verdicts)
        if misses and misses >= settings.wrong_share * len(chosen) * seen / len(examples):
            wrong.append(example)
        if len(wrong) == settings.wrong:
            bank = _ranked([*bank, *_new(bank, wrong, predict, propose, settings)], seen, settings)[: settings.size]
            wrong = []
    return tuple(_ranked(bank, len(examples), settings))


def _new(bank, wrong, predict, propose, settings: BankSettings) -> list[Hypothesis]:
    known = {hypothesis.text for hypothesis in bank}
    texts = [text for text in dict.fromkeys(propose(wrong)) if text.strip() and text not in known]
    texts = texts[: settings.proposed]
    found = [Hypothesis(text=text) for text in texts]
    for example in wrong if found else ():
        found = [_told(h, right) for h, right in zip(found, predict(texts, example), strict=True)]
    return found


def _ranked(bank: Sequence[Hypothesis], seen: int, settings: BankSettings) -> list[Hypothesis]:
    return sorted(bank, key=lambda hypothesis: -reward(hypothesis, seen, settings.alpha))


def _told(hypothesis: Hypothesis, right: bool) -> Hypothesis:
    return dataclasses.replace(hypothesis, right=hypothesis.right + bool(right), tried=hypothesis.tried + 1)
