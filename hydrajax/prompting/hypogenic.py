"""A bank of hypotheses made better on labelled examples (HypoGeniC, Zhou et al. 2024, arXiv 2404.04326).

    reward(h) = right / n + alpha sqrt(log t / n)        n examples were tried with h, t examples were seen

Each example i of N is tried with the k best hypotheses (all, where there are fewer). Where at least .8 k i / N of them
are wrong it goes to a list; at 10 of these, 5 new hypotheses are made of them, and the best 20 of all stay. A new
hypothesis is tried on the examples that it was made of, which gives it a first reward.

A bank is a generator, which is sent the answers to what it asks: many banks can be made side by side, their calls in
one batch (`together`).
"""

import dataclasses
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Generic, TypeVar

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predict(Generic[Example]):
    """Asks which hypotheses lead to the right label; the reply is a truth value by example and hypothesis."""

    hypotheses: tuple[str, ...]
    examples: tuple[Example, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Propose(Generic[Example]):
    """Asks for new hypotheses out of examples that most were wrong about; the reply is their texts.

    What is beyond the settings' number, empty or known already is left out.
    """

    examples: tuple[Example, ...]


Step = Predict[Example] | Propose[Example]
Bank = Generator[Step[Example], Any, tuple[Hypothesis, ...]]


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
    hypotheses: Sequence[str],
    examples: Sequence[Example],
    settings: BankSettings = BankSettings(),  # noqa: B008 (frozen)
) -> Bank[Example]:
    """Asks step by step, and returns the bank after all examples, that of the highest reward first.

    Args:
      hypotheses: to begin with.
      examples: labelled, none of which a hypothesis is later judged on.
      settings: the numbers.
    """
    bank = [Hypothesis(text=text) for text in dict.fromkeys(hypotheses)][: settings.size]
    wrong: list[Example] = []
    for seen, example in enumerate(examples, start=1):
        bank = _ranked(bank, seen - 1, settings)
        chosen, rest = bank[: settings.tried], bank[settings.tried :]
        (verdicts,) = yield _predict(chosen, [example])
        bank = [_told(h, right) for h, right in zip(chosen, verdicts, strict=True)] + rest
        misses = sum(not right for right in verdicts)
        if misses and misses >= settings.wrong_share * len(chosen) * seen / len(examples):
            wrong.append(example)
        if len(wrong) == settings.wrong:
            new = yield from _new(bank, wrong, settings)
            bank = _ranked([*bank, *new], seen, settings)[: settings.size]
            wrong = []
    return tuple(_ranked(bank, len(examples), settings))


def together(
    banks: Mapping[str, Bank[Example]],
    reply: Callable[[Mapping[str, Step[Example]]], Mapping[str, Any]],
) -> dict[str, tuple[Hypothesis, ...]]:
    """Makes banks side by side: in each round, every one that is not done yet asks one thing.

    Args:
      banks: by name.
      reply: what each asks, by name -> what it is sent.
    """
    done: dict[str, tuple[Hypothesis, ...]] = {}
    replies: Mapping[str, Any] = dict.fromkeys(banks)
    while replies:
        asked: dict[str, Step[Example]] = {}
        for name, sent in replies.items():
            try:
                asked[name] = banks[name].send(sent)
            except StopIteration as end:
                done[name] = end.value
        replies = reply(asked) if asked else {}
    return done


def _new(
    bank: Sequence[Hypothesis], wrong: Sequence[Example], settings: BankSettings
) -> Generator[Step[Example], Any, list[Hypothesis]]:
    known = {hypothesis.text for hypothesis in bank}
    proposed = yield Propose(examples=tuple(wrong))
    texts = [text for text in dict.fromkeys(proposed) if text.strip() and text not in known]
    found = [Hypothesis(text=text) for text in texts[: settings.proposed]]
    if found:
        for verdicts in (yield _predict(found, wrong)):
            found = [_told(h, right) for h, right in zip(found, verdicts, strict=True)]
    return found


def _predict(hypotheses: Sequence[Hypothesis], examples: Sequence[Example]) -> Predict[Example]:
    return Predict(hypotheses=tuple(hypothesis.text for hypothesis in hypotheses), examples=tuple(examples))


def _ranked(bank: Sequence[Hypothesis], seen: int, settings: BankSettings) -> list[Hypothesis]:
    return sorted(bank, key=lambda hypothesis: -reward(hypothesis, seen, settings.alpha))


def _told(hypothesis: Hypothesis, right: bool) -> Hypothesis:
    return dataclasses.replace(hypothesis, right=hypothesis.right + bool(right), tried=hypothesis.tried + 1)
