"""The union: candidates of several prompt strategies and proposals without a call, among which an adapter chooses.

    pool(q)   = merged answers of the strategies (b candidates spread over them) and of the sources of `proposals`
    x(q, o)   = by strategy the votes for o, by source whether o is its own answer and what it knows of o, and surface
    answer(q) = argmax_o f_u(x(q, o)),   f learned from training users, the head of u from u's own records

What is learned from is made as what is answered: pseudo-queries without their record, shared models out of fold by
user and text. Besides `union` there are its controls: one pooled head, random, oracle and majority choice from the same
pool, the proposals or the LLM's candidates alone.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from hydrajax import training
from hydrajax.methods import controls, cross_validation, stages
from hydrajax.methods.lab import Lab
from hydrajax.methods.scorers import Encode, Row, Scorer
from hydrajax.methods.union import bandit, proposals
from hydrajax.methods.union import pool as union_pool
from hydrajax.types import Candidate, Query, Split

RIDGES: Mapping[str, Sequence[float]] = {"listwise": (10.0, 100.0), "pairwise": (100.0, 1000.0)}


def configs(losses: Sequence[str] = ("pairwise",)) -> list[training.FitConfig]:
    """Fits to choose among: a linear head on few strong numbers, by loss and ridge."""
    return [
        training.FitConfig(family="linear", loss=loss, pooled_ridge=ridge, fit_bank=False)
        for loss in losses
        for ridge in RIDGES[loss]
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Questions:
    """Queries with known answers to learn from, and those to answer.

    Attributes:
      train: training users with their real queries, cleaned of what the new users ask.
      new: new users with their real queries.
      taught: pseudo-queries of training users.
      own: pseudo-queries of new users.
    """

    train: Split
    new: Split
    taught: Sequence[Query]
    own: Sequence[Query]

    @property
    def learned(self) -> list[Query]:
        """Training users' queries: real ones with a gold, and pseudo-queries."""
        return [*self.questions, *self.taught]

    @property
    def questions(self) -> list[Query]:
        """Training users' real queries with a gold."""
        return [query for query in self.train.queries if query.gold is not None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What the union answers to the new users' real queries.

    Attributes:
      pools: by variant (`union`, `union_no_llm`, `union_no_proposals`) and query id.
      chosen: (variant whose pool it is, indices by query id), by method; several indices are draws.
      scores: of the candidates by `union`, by query id.
      single: each source's and strategy's own answer, by name and query id.
      training: mean quality of these on the training users' queries, by name.
      choices: what was chosen on the training users, by variant.
      spread: mean number of candidates by strategy, for the new users' queries.
    """

    pools: Mapping[str, union_pool.Pools]
    chosen: Mapping[str, tuple[str, Mapping[str, Sequence[int]]]]
    scores: Mapping[str, np.ndarray]
    single: Mapping[str, Mapping[str, str]]
    training: Mapping[str, float]
    choices: Mapping[str, cross_validation.Choice]
    spread: Mapping[str, float]

    @property
    def best_source(self) -> str:
        """The source or strategy that served training users best, the first of equals."""
        return max(self.training, key=lambda name: round(self.training[name], 9))


def union(
    lab: Lab,
    asked: Questions,
    known: proposals.Known,
    encode: Encode,
    *,
    strategies: Sequence[str] = (),
    shown: Mapping[str, int] | None = None,
    thompson: bool = True,
    fits: Sequence[training.FitConfig] = (),
) -> Result:
    """Pools, adapters and answers.

    Args:
      lab: task, LLM, settings (`candidates` is b), seed.
      asked: who learns and who is answered.
      known: what sources look at.
      encode: pairs -> features of the base that the adapter reads besides; `nothing` for none.
      strategies: of prompts; without any nobody is called.
      shown: records in a strategy's prompt, by strategy; by default the first of the settings.
      thompson: whether a bandit a user decides how b is spread; else evenly.
      fits: what is chosen among, by default `configs()`.
    """
    sources = proposals.suiting(lab.ctx.task)
    fitted = proposals.fit_models(known, asked.train, asked.new, sources)
    proposed = proposals.propose(fitted, asked.new.users, asked.new.queries, sources)
    # Records are asked apart: what they ask is removed from others' records, which real questions need not forgo.
    if asked.own:
        about = dataclasses.replace(asked.new, queries=tuple(asked.own))
        again = proposals.fit_models(fitted, asked.train, about, sources)
        proposed = _together(proposed, proposals.propose(again, asked.new.users, asked.own, sources))
    for queries in (asked.questions, asked.taught):
        proposed = _together(proposed, proposals.out_of_fold(fitted, asked.train, queries, sources))
    said, counts = sample(lab, asked, strategies, shown or {}, thompson=thompson)

    variants = {"union": (tuple(strategies), tuple(sources))}
    if strategies:
        variants |= {"union_no_llm": ((), tuple(sources)), "union_no_proposals": (tuple(strategies), ())}
    everything = [*asked.learned, *asked.own, *asked.new.queries]
    pools, choices, chosen, scores = {}, {}, {}, {}
    for variant, (spoken, silent) in variants.items():
        pool = union_pool.merge(lab, everything, {s: said[s] for s in spoken}, {s: proposed[s] for s in silent})
        choice = learn(lab, asked, pool, spoken, silent, encode, fits or configs())
        scored = _scores(union_pool.rows(lab, asked.new.queries, pool, spoken, silent), choice.scorer)
        pools[variant] = {query.id: pool[query.id] for query in asked.new.queries}
        choices[variant] = choice
        chosen[variant] = (variant, {q: (int(np.argmax(own)),) for q, own in scored.items()})
        if variant == "union":
            scores = scored
            chosen |= _others(lab, asked.new.queries, pool, spoken, silent, choice)
    single = {name: _first(lab, asked.new.queries, by_query) for name, by_query in proposed.items()}
    single |= {name: _first(lab, asked.new.queries, by_query) for name, by_query in said.items()}
    questions = asked.questions or asked.taught
    own_answers = {name: _first(lab, questions, by_query) for name, by_query in proposed.items()}
    own_answers |= {name: _first(lab, questions, by_query) for name, by_query in said.items()}
    return Result(
        pools=pools,
        chosen=chosen,
        scores=scores,
        single=single,
        training={
            name: float(np.mean([lab.quality(q, texts[q.id]) for q in questions])) if questions else 0.0
            for name, texts in own_answers.items()
        },
        choices=choices,
        spread={
            strategy: float(np.mean([counts[q.id][a] for q in asked.new.queries]))
            for a, strategy in enumerate(strategies)
        },
    )


def learn(
    lab: Lab,
    asked: Questions,
    pools: union_pool.Pools,
    strategies: Sequence[str],
    sources: Sequence[str],
    encode: Encode,
    fits: Sequence[training.FitConfig],
) -> cross_validation.Choice:
    """The adapter of a variant, its settings chosen on training users."""
    made = [
        union_pool.differing(union_pool.rows(lab, queries, pools, strategies, sources))
        for queries in (asked.questions, asked.taught, asked.own)
    ]
    return cross_validation.choose(
        cross_validation.Rows(questions=made[0], records=made[1], own=made[2]), encode, fits, seed=lab.seed
    )


def sample(
    lab: Lab, asked: Questions, strategies: Sequence[str], shown: Mapping[str, int], *, thompson: bool
) -> tuple[dict[str, dict[str, list[Candidate]]], dict[str, np.ndarray]]:
    """The strategies' candidates by strategy and query id, and how many each query has of each.

    Pseudo-queries have b spread evenly. What they show of a user decides, by the user's bandit, how b is spread over
    the user's real queries.
    """
    b = lab.settings.candidates
    even = bandit.evenly(b, len(strategies)) if strategies else np.zeros(0, int)
    pseudo = [*asked.taught, *asked.own]
    real = [*asked.questions, *asked.new.queries]
    counts = {query.id: even for query in (*pseudo, *real)}
    if not strategies:
        return {}, counts
    said = _ask(lab, pseudo, strategies, shown, counts, stages.union_learned)
    if thompson:
        rewards = {
            user_id: [
                [_mean_quality(lab, q, said[s][q.id]) for q in pseudo if q.user_id == user_id and said[s].get(q.id)]
                for s in strategies
            ]
            for user_id in {query.user_id for query in (*pseudo, *real)}
        }
        learned = {user_id: own for user_id, own in rewards.items() if user_id in asked.train.users}
        beliefs = {
            user_id: bandit.posterior(
                bandit.prior(lab.ctx.task, len(strategies), {u: r for u, r in learned.items() if u != user_id}), own
            )
            for user_id, own in rewards.items()
        }
        counts |= {q.id: bandit.spread(beliefs[q.user_id], b, seed=lab.seed, name=q.id) for q in real}
    for strategy, by_query in _ask(lab, real, strategies, shown, counts, stages.union_asked).items():
        said[strategy].update(by_query)
    return said, counts


def nothing(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Features of no base at all, [N, 0]: the adapter reads numbers alone."""
    return np.zeros((len(pairs), 0), np.float32)


def _together(one: union_pool.Proposed, other: union_pool.Proposed) -> dict[str, proposals.Proposals]:
    return {name: {**one[name], **other[name]} for name in one}


def _ask(lab, queries, strategies, shown, counts, stage) -> dict[str, dict[str, list[Candidate]]]:
    found: dict[str, dict[str, list[Candidate]]] = {strategy: {} for strategy in strategies}
    for a, strategy in enumerate(strategies):
        by_number: dict[int, list[Query]] = collections.defaultdict(list)
        for query in queries:
            by_number[int(counts[query.id][a])].append(query)
        for number, own in sorted(by_number.items()):
            if number:
                records = lab.shown(strategy, own, shown.get(strategy, lab.settings.shown[0]))
                found[strategy].update(
                    lab.pools(strategy, records, own, samples=number - 1, source=strategy, stage=stage(strategy))
                )
    return found


def _others(lab, queries, pools, strategies, sources, choice):
    """Other choices from the pools of the union."""
    made = union_pool.rows(lab, queries, pools, strategies, sources)
    chosen: dict[str, dict[str, Sequence[int]]] = {}
    for method, found in (
        ("union_pooled", _scores(made, choice.scorer, pooled=True)),
        ("union_own_heads", _scores(made, choice.headed)),
    ):
        chosen[method] = {q: (int(np.argmax(own)),) for q, own in found.items()}
    backing = {q.id: [merged.backing for merged in pools[q.id]] for q in queries}
    backing = {q: own if sum(own) else [1] * len(own) for q, own in backing.items()}
    texts = {q.id: [merged.text for merged in pools[q.id]] for q in queries}
    chosen["union_random"] = {
        q.id: controls.random_choices(backing[q.id], seed=lab.seed, query_id=q.id) for q in queries
    }
    chosen["union_oracle"] = {q.id: (controls.oracle([lab.quality(q, text) for text in texts[q.id]]),) for q in queries}
    chosen["union_vote"] = {q.id: (controls.vote(lab.ctx.task, texts[q.id], backing[q.id]),) for q in queries}
    return {method: ("union", indices) for method, indices in chosen.items()}


def _scores(found: Sequence[Row], scorer: Scorer, *, pooled: bool = False) -> dict[str, np.ndarray]:
    """Scores by query id."""
    scores: dict[str, list[float]] = {}
    for row, score in zip(found, scorer.scores(found, pooled=pooled), strict=True):
        scores.setdefault(row.query_id, []).append(float(score))
    return {query_id: np.array(own) for query_id, own in scores.items()}


def _mean_quality(lab: Lab, query: Query, candidates: Sequence[Candidate]) -> float:
    """Over the samples."""
    total = sum(candidate.votes for candidate in candidates)
    return sum(candidate.votes * lab.quality(query, candidate.text) for candidate in candidates) / total


def _first(
    lab: Lab, queries: Sequence[Query], by_query: Mapping[str, Sequence[proposals.Proposal | Candidate]]
) -> dict[str, str]:
    """A source's or strategy's own answer, its first; empty where there is none."""
    normalise = lab.ctx.task.normalise
    return {q.id: normalise(by_query[q.id][0].text) if by_query.get(q.id) else "" for q in queries}
