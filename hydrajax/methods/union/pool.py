"""The pool of the union: one candidate for each different answer, everybody who gave it, and what the adapter reads."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from hydrajax.methods import surface, trials
from hydrajax.methods.lab import Lab
from hydrajax.methods.scorers import Row
from hydrajax.methods.union import classifier, proposals
from hydrajax.types import Candidate, Query

Said = Mapping[str, Mapping[str, Sequence[Candidate]]]  # by strategy and query id
Proposed = Mapping[str, proposals.Proposals]  # by source and query id


@dataclasses.dataclass(frozen=True, kw_only=True)
class Merged:
    """One answer with everybody who gave it.

    Attributes:
      text: normalised.
      votes: samples by strategy.
      greedy: strategies whose greedy answer it is.
      first: sources whose own answer it is.
      proposed: sources that propose it.
      numbers: what these know of it, by `SOURCE: NUMBER`.
    """

    text: str
    votes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    greedy: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    proposed: tuple[str, ...] = ()
    numbers: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def own(self) -> tuple[str, ...]:
        """Strategies and sources whose own answer it is."""
        return (*self.greedy, *self.first)

    @property
    def backing(self) -> int:
        """One vote for each sample, and for each source whose own answer it is."""
        return sum(self.votes.values()) + len(self.first)


Pools = dict[str, list[Merged]]  # by query id


def merge(lab: Lab, queries: Sequence[Query], said: Said, proposed: Proposed) -> Pools:
    """One pool a query: equal answers become one candidate that remembers all its sources.

    In label tasks an answer that is no label is left out where a label is there: it can't be right. An answer that
    nobody can read stays only where it is alone.
    """
    task = lab.ctx.task
    pools = {}
    for query in queries:
        found: dict[str, Merged] = {}
        for strategy, by_query in said.items():
            for candidate in by_query.get(query.id, ()):
                text = task.normalise(candidate.text)
                old = found.get(text, Merged(text=text))
                votes = {**old.votes, strategy: old.votes.get(strategy, 0) + candidate.votes}
                greedy = (*old.greedy, strategy) if candidate.greedy else old.greedy
                found[text] = dataclasses.replace(old, votes=votes, greedy=greedy)
        for source, own in proposed.items():
            for place, proposal in enumerate(own.get(query.id, ())):
                text = task.normalise(proposal.text)
                old = found.get(text, Merged(text=text))
                if source in old.proposed:
                    continue
                names = (f"{source}: {number}" for number in proposals.SOURCES[source].numbers)
                found[text] = dataclasses.replace(
                    old,
                    first=old.first if place else (*old.first, source),
                    proposed=(*old.proposed, source),
                    numbers={**old.numbers, **dict(zip(names, proposal.numbers, strict=True))},
                )
        kept = [merged for merged in found.values() if merged.text]
        valid = [merged for merged in kept if merged.text in task.labels]
        pools[query.id] = valid or kept or [Merged(text="")]
    return pools


def features(lab: Lab, query: Query, pool: Sequence[Merged], strategies: Sequence[str], sources: Sequence[str]):
    """What the adapter reads of each candidate, [O, X].

    By strategy: what its votes say of the candidate (label tasks: `classifier.worth` of the votes, smoothed;
    else the share of them), and whether it is the greedy answer. By source: whether it is the source's own answer, and
    the source's numbers; of what a source did not propose, its lowest number in the pool. In other than label tasks
    surface features, too.
    """
    task = lab.ctx.task
    columns: list[Sequence[float]] = []
    for strategy in strategies:
        votes = np.array([merged.votes.get(strategy, 0) for merged in pool], float)
        if task.kind in ("classification", "rating"):
            columns.append(_worth_of_votes(lab, pool, votes))
        else:
            columns.append(votes / max(1.0, votes.sum()))
        columns.append([float(strategy in merged.greedy) for merged in pool])
    for source in sources:
        columns.append([float(source in merged.first) for merged in pool])
        for number in proposals.SOURCES[source].numbers:
            known = [merged.numbers.get(f"{source}: {number}") for merged in pool]
            lowest = min((value for value in known if value is not None), default=0.0)
            columns.append([lowest if value is None else value for value in known])
    found = np.array(columns, float).T
    if task.kind in ("classification", "rating"):
        return found
    asked = task.query_text(query)
    return np.concatenate([found, [surface.features(asked, merged.text) for merged in pool]], axis=1)


def rows(
    lab: Lab, queries: Sequence[Query], pools: Pools, strategies: Sequence[str], sources: Sequence[str]
) -> list[Row]:
    """A row for every candidate, with its features, and label and quality where the query has a gold."""
    task = lab.ctx.task
    found = []
    for query in queries:
        pool = pools[query.id]
        qualities = [0.0] * len(pool)
        if query.gold is not None or lab.reward is not None:
            qualities = [lab.quality(query, merged.text) for merged in pool]
        labels = trials.labels(task, qualities)
        found += [
            Row(
                user_id=query.user_id,
                query_id=query.id,
                pool=query.id,
                first=task.query_text(query),
                second=merged.text,
                extras=tuple(float(value) for value in own),
                label=label,
                quality=quality,
            )
            for merged, own, label, quality in zip(
                pool, features(lab, query, pool, strategies, sources), labels, qualities, strict=True
            )
        ]
    return found


def differing(found: Sequence[Row]) -> list[Row]:
    """The rows of pools in which qualities differ: the others teach nothing."""
    seen = collections.defaultdict(set)
    for row in found:
        seen[row.pool].add(row.quality)
    return [row for row in found if len(seen[row.pool]) > 1]


def _worth_of_votes(lab: Lab, pool: Sequence[Merged], votes: np.ndarray) -> Sequence[float]:
    task = lab.ctx.task
    counts = np.full(len(task.labels), proposals.SMOOTHING)
    for merged, n in zip(pool, votes, strict=True):
        if merged.text in task.labels:
            counts[task.labels.index(merged.text)] += n
    worth = classifier.worth(task, np.log(counts))
    by_label = dict(zip(task.labels, worth, strict=True))
    return [float(by_label.get(merged.text, worth.min())) for merged in pool]
