"""The pool of the union: one candidate for each different answer, everybody who gave it, and what the adapter reads."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from hydrajax.methods import rows as rows_lib
from hydrajax.methods import surface
from hydrajax.methods.answers import Pool
from hydrajax.methods.lab import Lab
from hydrajax.methods.rows import Row
from hydrajax.methods.union import classifier, proposals
from hydrajax.types import Candidate, Query

Sampled = Mapping[str, Mapping[str, Sequence[Candidate]]]  # by strategy and query id
Proposed = Mapping[str, proposals.Proposals]  # by source and query id


@dataclasses.dataclass(frozen=True, kw_only=True)
class Merged(Candidate):
    """One answer with everybody who gave it; its text is normalised.

    Attributes:
      source: whose own answer it is, or else who proposes it; it follows from the rest.
      votes: one for each sample, and for each source whose own answer it is; it follows from the rest.
      samples: how many, by strategy.
      greedy_of: strategies whose greedy answer it is.
      first: sources whose own answer it is.
      proposed: sources that propose it.
      numbers: what these know of it, by `SOURCE: NUMBER`.
    """

    source: str = ""
    votes: int = 0
    samples: Mapping[str, int] = dataclasses.field(default_factory=dict)
    greedy_of: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    proposed: tuple[str, ...] = ()
    numbers: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "source", ", ".join(self.owners or self.proposed or tuple(self.samples)))
        object.__setattr__(self, "votes", sum(self.samples.values()) + len(self.first))

    @property
    def owners(self) -> tuple[str, ...]:
        """Strategies and sources whose own answer it is."""
        return (*self.greedy_of, *self.first)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnionPool(Pool):
    """A query with its merged candidates."""

    candidates: tuple[Merged, ...]


def merge(lab: Lab, queries: Sequence[Query], sampled: Sampled, proposed: Proposed) -> list[UnionPool]:
    """One pool a query: equal answers become one candidate that remembers all its sources.

    In label tasks an answer that is no label is left out where a label is there: it can't be right. An answer that
    nobody can read stays only where it is alone.
    """
    task = lab.ctx.task
    pools = []
    for query in queries:
        by_text: dict[str, Merged] = {}
        for strategy, by_query in sampled.items():
            for candidate in by_query.get(query.id, ()):
                text = task.normalise(candidate.text)
                old = by_text.get(text, Merged(text=text))
                samples = {**old.samples, strategy: old.samples.get(strategy, 0) + candidate.votes}
                greedy_of = (*old.greedy_of, strategy) if candidate.greedy else old.greedy_of
                by_text[text] = dataclasses.replace(old, samples=samples, greedy_of=greedy_of)
        for source, proposals_of in proposed.items():
            for place, proposal in enumerate(proposals_of.get(query.id, ())):
                text = task.normalise(proposal.text)
                old = by_text.get(text, Merged(text=text))
                if source in old.proposed:
                    continue
                names = (f"{source}: {number}" for number in proposals.SOURCES[source].numbers)
                by_text[text] = dataclasses.replace(
                    old,
                    first=old.first if place else (*old.first, source),
                    proposed=(*old.proposed, source),
                    numbers={**old.numbers, **dict(zip(names, proposal.numbers, strict=True))},
                )
        readable = [merged for merged in by_text.values() if merged.text]
        valid = [merged for merged in readable if merged.text in task.labels]
        pools.append(UnionPool(query=query, candidates=tuple(valid or readable or [Merged(text="")])))
    return pools


def features(lab: Lab, pool: UnionPool, strategies: Sequence[str], sources: Sequence[str]) -> Float[np.ndarray, "O X"]:
    """What the adapter reads of each candidate.

    By strategy: what its votes say of the candidate (label tasks: `classifier.worth` of the votes, smoothed;
    else the share of them), and whether it is the greedy answer. By source: whether it is the source's own answer, and
    the source's numbers; of what a source did not propose, its lowest number in the pool. In other than label tasks
    surface features, too.
    """
    task, candidates = lab.ctx.task, pool.candidates
    columns: list[Sequence[float]] = []
    for strategy in strategies:
        votes = np.array([merged.samples.get(strategy, 0) for merged in candidates], float)
        if task.kind in ("classification", "rating"):
            columns.append(_worth_of_votes(lab, candidates, votes))
        else:
            columns.append(votes / max(1.0, votes.sum()))
        columns.append([float(strategy in merged.greedy_of) for merged in candidates])
    for source in sources:
        columns.append([float(source in merged.first) for merged in candidates])
        for number in proposals.SOURCES[source].numbers:
            known = [merged.numbers.get(f"{source}: {number}") for merged in candidates]
            lowest = min((value for value in known if value is not None), default=0.0)
            columns.append([lowest if value is None else value for value in known])
    read = np.array(columns, float).T
    if task.kind in ("classification", "rating"):
        return read
    asked = task.query_text(pool.query)
    return np.concatenate([read, [surface.features(asked, merged.text) for merged in candidates]], axis=1)


def rows(lab: Lab, pools: Iterable[UnionPool], strategies: Sequence[str], sources: Sequence[str]) -> list[Row]:
    """A row for every candidate, with its features, and label and quality where the query has a gold."""
    task = lab.ctx.task
    made: list[Row] = []
    for pool in pools:
        read = features(lab, pool, strategies, sources)
        pairs = [
            rows_lib.pair(task, pool.query, merged.text, extras)
            for merged, extras in zip(pool.candidates, read, strict=True)
        ]
        qualities = [0.0] * len(pairs)
        if pool.query.gold is not None or lab.reward is not None:
            qualities = [lab.quality(pool.query, merged.text) for merged in pool.candidates]
        made += rows_lib.judged(task, pairs, qualities)
    return made


def _worth_of_votes(lab: Lab, candidates: Sequence[Merged], votes: np.ndarray) -> Sequence[float]:
    task = lab.ctx.task
    counts = np.full(len(task.labels), proposals.SMOOTHING)
    for merged, n in zip(candidates, votes, strict=True):
        if merged.text in task.labels:
            counts[task.labels.index(merged.text)] += n
    worth = classifier.worth(task, np.log(counts))
    by_label = dict(zip(task.labels, worth, strict=True))
    return [float(by_label.get(merged.text, worth.min())) for merged in candidates]
