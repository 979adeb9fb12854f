"""The prompt baselines: zero-shot, random or retrieved records, a profile summary; k chosen on validation users."""

import dataclasses
from collections.abc import Mapping, Sequence

from hydrajax.llm import planner
from hydrajax.methods.lab import Lab
from hydrajax.prompting import registry
from hydrajax.types import Candidate, Query, Record

STRATEGIES = ("zero_shot", "icl_random", "rag", "pag")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Baseline:
    """One prompt baseline's answers.

    Attributes:
      shown: number of records k that served the validation users best; 0 for none.
      validation: mean quality on the validation queries by k.
      records: records shown, most relevant first, by query id.
      answers: greedy answer by query id.
    """

    shown: int
    validation: Mapping[int, float]
    records: Mapping[str, Sequence[Record]]
    answers: Mapping[str, Candidate]


def choose_shown(lab: Lab, strategy: str, validation: Sequence[Query]) -> tuple[int, dict[int, float]]:
    """The number of records k with the best mean quality on validation queries, the smaller one of equals.

    Returns:
      k, and the mean quality of each.
    """
    sizes = numbers_shown(lab, strategy)
    if len(sizes) == 1 or not validation:
        return sizes[0], {}
    counting = lab.ctx.llm if isinstance(lab.ctx.llm, planner.Planner) else None
    planned = counting.calls if counting else 0
    means = {}
    for k in sizes:
        shown = lab.shown(strategy, validation, k)
        answers = lab.answers(strategy, shown, validation, stage=f"{strategy}: choosing k")
        means[k] = sum(lab.quality(q, answers[q.id].text) for q in validation) / len(validation)
    if counting and counting.calls > planned:  # placeholders do not say which is best
        return counting.guess(sizes), means
    return max(sizes, key=lambda k: (round(means[k], 9), -k)), means


def answer(lab: Lab, strategy: str, validation: Sequence[Query], queries: Sequence[Query]) -> Baseline:
    """A prompt baseline with its k chosen on the validation queries."""
    k, means = choose_shown(lab, strategy, validation)
    records = lab.shown(strategy, queries, k)
    return Baseline(
        shown=k, validation=means, records=records, answers=lab.answers(strategy, records, queries, stage=strategy)
    )


def numbers_shown(lab: Lab, strategy: str) -> tuple[int, ...]:
    """The k to choose from: none where the strategy shows no records, also 0 where it says something without any."""
    of = registry.get(strategy)
    if of.retriever is None:
        return (0,)
    return (0, *lab.settings.shown) if of.alone else lab.settings.shown
