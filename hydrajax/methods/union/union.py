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
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from hydrajax import training
from hydrajax.data import folds
from hydrajax.methods import answers, controls, cross_validation, llm_stages, rows, sampling, selection, telling
from hydrajax.methods.answers import Draws
from hydrajax.methods.hydra import People
from hydrajax.methods.lab import Lab
from hydrajax.methods.scorers import Encode
from hydrajax.methods.union import bandit, proposals
from hydrajax.methods.union import pool as union_pool
from hydrajax.types import Candidate, Query, Split

RIDGES: Mapping[str, Sequence[float]] = {"listwise": (10.0, 100.0), "pairwise": (100.0, 1000.0)}

Texts = list[str]  # one a query
BySource = Mapping[str, Mapping[str, Sequence[proposals.Proposal | Candidate]]]  # and query id


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
      train_pseudo, new_pseudo: pseudo-queries of training users and of new users.
    """

    train: Split
    new: Split
    train_pseudo: Sequence[Query]
    new_pseudo: Sequence[Query]

    @property
    def train_real(self) -> list[Query]:
        """Training users' real queries with a gold."""
        return [query for query in self.train.queries if query.gold is not None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What the union answers to the new users' real queries.

    Attributes:
      answers: by variant (`union`, `union_no_llm`, `union_no_proposals`), whose pools they are from, and by method; the
        candidates are `pool.Merged`.
      single: each source's and strategy's own answers, by name.
      training: mean quality of these on the training users' queries, by name.
      choices: what was chosen on the training users, by variant.
      spread: mean number of candidates by strategy, for the new users' queries.
    """

    answers: Mapping[str, Mapping[str, Draws]]
    single: Mapping[str, Texts]
    training: Mapping[str, float]
    choices: Mapping[str, cross_validation.Choice]
    spread: Mapping[str, float]

    @property
    def best_source(self) -> str:
        """The source or strategy that served training users best, the first of equals."""
        return max(self.training, key=lambda name: round(self.training[name], 9))


def questions(lab: Lab, people: People, train: Sequence[Split]) -> Questions:
    """What is learned from, everybody but the new users and their own records, and what is answered.

    Args:
      train: training and validation users.
    """
    pseudo = sampling.pseudo_queries(lab, people.everybody, population=people.train)
    new = {user_id: lab.users[user_id] for user_id in people.new}
    return Questions(
        train=dataclasses.replace(folds.union(train), name="train"),
        new=Split(name="new", users=new, queries=tuple(people.new_queries)),
        train_pseudo=[query for query in pseudo if query.user_id not in new],
        new_pseudo=[query for query in pseudo if query.user_id in new],
    )


def union(
    lab: Lab,
    asked: Questions,
    known: proposals.Known,
    encode: Encode,
    *,
    strategies: Sequence[str] = (),
    ks: Mapping[str, int] | None = None,
    thompson: bool = True,
    fits: Sequence[training.FitConfig] = (),
) -> Result:
    """Pools, adapters and answers.

    Args:
      lab: task, LLM, settings (`candidates` is b), seed.
      encode: pairs -> features of the base that the adapter reads besides; `nothing` for none.
      strategies: of prompts; without any nobody is called.
      ks: records in a strategy's prompt, by strategy; by default the first of the settings.
      thompson: whether a bandit a user decides how b is spread; else evenly.
      fits: what is chosen among, by default `configs()`.
    """
    new = asked.new.queries
    proposed = propose(asked, known, proposals.suiting(lab.ctx.task))
    sampled, counts = sample(lab, asked, strategies, ks or {}, thompson=thompson)
    parts: dict[str, tuple[union_pool.Sampled, union_pool.Proposed]] = {"union": (sampled, proposed)}
    if strategies:
        parts |= {"union_no_llm": ({}, proposed), "union_no_proposals": (sampled, {})}
    chosen: dict[str, dict[str, Draws]] = {}
    choices = {}
    for variant, (samples_of, proposals_of) in parts.items():
        with telling.once(f"adapter of {variant}"):
            choice = learn(lab, asked, samples_of, proposals_of, encode, fits or configs())
        pools = union_pool.merge(lab, new, samples_of, proposals_of)
        read = union_pool.rows(lab, pools, tuple(samples_of), tuple(proposals_of))
        choices[variant] = choice
        chosen[variant] = {variant: answers.one_draw(answers.best_of_each(pools, choice.scorer.scores(read)))}
        if variant == "union":
            pooled = answers.best_of_each(pools, choice.scorer.scores(read, pooled=True))
            headed = answers.best_of_each(pools, choice.headed.scores(read))
            chosen[variant] |= {
                "union_pooled": answers.one_draw(pooled),
                "union_own_heads": answers.one_draw(headed),
                **{f"union_{name}": draws for name, draws in controls.unlearned(lab, pools).items()},
            }
    by_name: BySource = {**proposed, **sampled}
    train = asked.train_real or asked.train_pseudo
    return Result(
        answers=chosen,
        single={name: _own_answers(lab, new, by_query) for name, by_query in by_name.items()},
        training={
            name: selection.mean(
                [lab.quality(q, text) for q, text in zip(train, _own_answers(lab, train, by_query), strict=True)]
            )
            for name, by_query in by_name.items()
        },
        choices=choices,
        spread={
            strategy: selection.mean([float(counts[query.id][a]) for query in new])
            for a, strategy in enumerate(strategies)
        },
    )


def propose(
    asked: Questions, known: proposals.Known, sources: Mapping[str, proposals.Source]
) -> dict[str, proposals.Proposals]:
    """What every source proposes for all queries, by source and query id."""
    fitted = proposals.fit_models(known, asked.train, asked.new, sources)
    parts = [proposals.propose(fitted, asked.new.users, asked.new.queries, sources)]
    # Records are asked apart: what they ask is removed from others' records, which real questions need not forgo.
    if asked.new_pseudo:
        about = dataclasses.replace(asked.new, queries=tuple(asked.new_pseudo))
        again = proposals.fit_models(fitted, asked.train, about, sources)
        parts.append(proposals.propose(again, asked.new.users, asked.new_pseudo, sources))
    parts += [
        proposals.out_of_fold(fitted, asked.train, queries, sources)
        for queries in (asked.train_real, asked.train_pseudo)
    ]
    return {name: {query: made for part in parts for query, made in part[name].items()} for name in sources}


def learn(
    lab: Lab,
    asked: Questions,
    sampled: union_pool.Sampled,
    proposed: union_pool.Proposed,
    encode: Encode,
    fits: Sequence[training.FitConfig],
) -> cross_validation.Choice:
    """The adapter of a variant, its settings chosen on training users."""

    def teach(queries: Sequence[Query]) -> list[rows.Row]:
        pools = union_pool.merge(lab, queries, sampled, proposed)
        return rows.differing(union_pool.rows(lab, pools, tuple(sampled), tuple(proposed)))

    learned = cross_validation.Learned(
        questions=teach(asked.train_real), records=teach(asked.train_pseudo), new=teach(asked.new_pseudo)
    )
    return cross_validation.choose(learned, encode, fits, seed=lab.seed)


def sample(
    lab: Lab, asked: Questions, strategies: Sequence[str], ks: Mapping[str, int], *, thompson: bool
) -> tuple[dict[str, dict[str, Sequence[Candidate]]], dict[str, np.ndarray]]:
    """The strategies' candidates by strategy and query id, and how many each query has of each.

    Pseudo-queries have b spread evenly. What they show of a user decides, by the user's bandit, how b is spread over
    the user's real queries.
    """
    b = lab.settings.candidates
    even = bandit.evenly(b, len(strategies)) if strategies else np.zeros(0, int)
    pseudo = [*asked.train_pseudo, *asked.new_pseudo]
    real = [*asked.train_real, *asked.new.queries]
    counts = {query.id: even for query in (*pseudo, *real)}
    if not strategies:
        return {}, counts
    sampled = _sample(lab, pseudo, strategies, ks, counts, llm_stages.union_learned)
    if thompson:
        rewards = {
            user_id: [
                [
                    _mean_quality(lab, query, sampled[strategy][query.id])
                    for query in pseudo
                    if query.user_id == user_id and sampled[strategy].get(query.id)
                ]
                for strategy in strategies
            ]
            for user_id in {query.user_id for query in (*pseudo, *real)}
        }
        of_train = {user_id: of_user for user_id, of_user in rewards.items() if user_id in asked.train.users}
        beliefs = {
            user_id: bandit.posterior(
                bandit.prior(lab.ctx.task, len(strategies), {u: r for u, r in of_train.items() if u != user_id}),
                of_user,
            )
            for user_id, of_user in rewards.items()
        }
        counts |= {q.id: bandit.spread(beliefs[q.user_id], b, seed=lab.seed, name=q.id) for q in real}
    for strategy, by_query in _sample(lab, real, strategies, ks, counts, llm_stages.union_asked).items():
        sampled[strategy].update(by_query)
    return sampled, counts


def nothing(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Features of no base at all, [N, 0]: the adapter reads numbers alone."""
    return np.zeros((len(pairs), 0), np.float32)


def _sample(
    lab: Lab,
    queries: Sequence[Query],
    strategies: Sequence[str],
    ks: Mapping[str, int],
    counts: Mapping[str, np.ndarray],
    stage: Callable[[str], str],
) -> dict[str, dict[str, Sequence[Candidate]]]:
    sampled: dict[str, dict[str, Sequence[Candidate]]] = {strategy: {} for strategy in strategies}
    for a, strategy in enumerate(strategies):
        by_number: dict[int, list[Query]] = collections.defaultdict(list)
        for query in queries:
            by_number[int(counts[query.id][a])].append(query)
        for number, same in sorted(by_number.items()):
            if number:
                prompts = sampling.prompts(lab, strategy, same, ks.get(strategy, lab.settings.shown[0]))
                pools = sampling.sample(lab, strategy, prompts, samples=number - 1, stage=stage(strategy))
                sampled[strategy].update({pool.query.id: pool.candidates for pool in pools})
    return sampled


def _mean_quality(lab: Lab, query: Query, candidates: Sequence[Candidate]) -> float:
    """Over the samples."""
    total = sum(candidate.votes for candidate in candidates)
    return sum(candidate.votes * lab.quality(query, candidate.text) for candidate in candidates) / total


def _own_answers(
    lab: Lab, queries: Sequence[Query], by_query: Mapping[str, Sequence[proposals.Proposal | Candidate]]
) -> Texts:
    """A source's or strategy's own answers, its first; empty where there is none."""
    normalise = lab.ctx.task.normalise
    return [normalise(by_query[query.id][0].text) if by_query.get(query.id) else "" for query in queries]
