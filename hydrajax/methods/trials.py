"""What the reranker and the adapter learn from: answers of the LLM whose quality for the user is known."""

import dataclasses
from collections.abc import Mapping, Sequence

from hydrajax.data import tasks
from hydrajax.methods import stages
from hydrajax.methods.lab import Lab
from hydrajax.types import Candidate, Query, Record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One record or one candidate, tried for a query.

    Attributes:
      query: whose answer is known.
      tried: the record that was shown alone, or the candidate.
      quality: of the answer (for records: of the answer that the record led to).
      label: 1.0 where it helped (records) or is right (candidates), else 0.0.
    """

    query: Query
    tried: Record | Candidate
    quality: float
    label: float


def record_trials(lab: Lab, queries: Sequence[Query]) -> list[Trial]:
    """Each of a query's top N records shown alone, as one demonstration (HYDRA, equation 2).

    Label: labels and ratings, whether the answer is right; texts and rewards, whether its quality is above the mean of
    this query's own records.
    """
    shown = {query.id: lab.retrieve(query, lab.settings.retrieved) for query in queries}
    pairs = [(query, record) for query in queries for record in shown[query.id]]
    # One query under N ids, so that each of its records gets a conversation of its own.
    asked = [dataclasses.replace(query, id=f"{query.id}#{i}") for i, (query, _) in enumerate(pairs)]
    alone = {q.id: (record,) for q, (_, record) in zip(asked, pairs, strict=True)}
    answers = lab.answers("rag", alone, asked, stage=stages.RECORD_TRIALS)
    qualities = [lab.quality(query, answers[q.id].text) for q, (query, _) in zip(asked, pairs, strict=True)]
    by_query: dict[str, list[float]] = {}
    for (query, _), quality in zip(pairs, qualities, strict=True):
        by_query.setdefault(query.id, []).append(quality)
    return [
        Trial(query=query, tried=record, quality=quality, label=_helped(lab.ctx.task, quality, by_query[query.id]))
        for (query, record), quality in zip(pairs, qualities, strict=True)
    ]


def candidate_trials(lab: Lab, queries: Sequence[Query], pools: Mapping[str, Sequence[Candidate]]) -> list[Trial]:
    """Every candidate of each pool with its quality.

    Label: labels and ratings, whether it is right; texts and rewards, whether its quality is above the pool's mean
    (the adapter learns the order of the candidates by their quality, so the label matters for the cross-entropy alone).
    """
    found = []
    for query in queries:
        pool = pools[query.id]
        qualities = [lab.quality(query, candidate.text) for candidate in pool]
        found += [
            Trial(query=query, tried=candidate, quality=quality, label=label)
            for candidate, quality, label in zip(pool, qualities, labels(lab.ctx.task, qualities), strict=True)
        ]
    return found


def labels(task: tasks.Task, qualities: Sequence[float]) -> list[float]:
    """What the cross-entropy learns of the candidates of one pool: see `candidate_trials`."""
    return [_helped(task, quality, qualities) for quality in qualities]


def _helped(task: tasks.Task, quality: float, pool: Sequence[float]) -> float:
    if task.kind in ("classification", "rating"):
        return float(quality >= 1.0)
    return float(quality > sum(pool) / len(pool) + 1e-9)
