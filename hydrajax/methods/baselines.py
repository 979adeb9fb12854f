"""The prompt baselines: zero-shot, random or retrieved records, a profile summary; k chosen on validation users."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from hydrajax.methods import sampling, selection
from hydrajax.methods.answers import Answer
from hydrajax.methods.lab import Lab
from hydrajax.types import Query

STRATEGIES = ("zero_shot", "icl_random", "rag", "pag")

ChooseK = Callable[[Lab, str, Sequence[Query]], tuple[int, dict[int, float]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Baseline:
    """One prompt baseline's answers.

    Attributes:
      k: number of records shown, the one that served the validation users best; 0 for none.
      validation: mean quality on the validation queries by k.
      answers: the greedy ones.
    """

    k: int
    validation: Mapping[int, float]
    answers: Sequence[Answer]


def answer(
    lab: Lab,
    strategy: str,
    validation: Sequence[Query],
    queries: Sequence[Query],
    choose_k: ChooseK = selection.choose_k,
) -> Baseline:
    """A prompt baseline with its k chosen on the validation queries.

    Args:
      validation: queries with golds.
    """
    k, means = choose_k(lab, strategy, validation)
    prompts = sampling.prompts(lab, strategy, queries, k)
    return Baseline(k=k, validation=means, answers=sampling.answer(lab, strategy, prompts, stage=strategy))
