"""HYDRA: personalise a black-box LLM by a reranker of records and an adapter of answers.

Zhuang et al., NeurIPS 2024, arXiv 2406.02888. Both scorers are a shared base with a head per user:

    s(x) = f_u(z),  z = base(x),  x = (query, record) for the reranker and (query, candidate) for the adapter

    1. retrieve   H' = the N records of the profile that BM25 ranks highest for the query
    2. rerank     H* = the k of them with the highest s_R(q, h); learned from the LLM's answers when shown h alone
    3. sample     b candidates from the LLM, given H* and q
    4. adapt      the candidate with the highest s_A(q, o); learned from candidates for records asked as queries

Training users fit what all users share (with a trainable base, base and heads together; on a frozen base, which is
what runs use, the pooled head); new users fit a head alone, from their own profiles.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from hydrajax.methods import stages, surface
from hydrajax.methods import trials as trials_lib
from hydrajax.methods.lab import Lab
from hydrajax.methods.scorers import Row, Scorer
from hydrajax.types import Candidate, Feedback, Query, Record

Pools = Mapping[str, Sequence[Candidate]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class People:
    """Who is who. Ids and real queries of three groups without a common user.

    Attributes:
      train: ids of the users whose data trains base and heads.
      validation: ids of users cut from the training users; every setting is chosen on their queries.
      new: ids of the users who are reported; only their profiles are learned from.
      label_queries: real queries of training users whose records are labelled for the reranker.
      validation_queries, new_queries: real queries that are answered.
      feedback: what users said of answers that they were shown, besides their profiles; the adapter learns from it.
        It is never about the real queries.
    """

    train: Sequence[str]
    validation: Sequence[str]
    new: Sequence[str]
    label_queries: Sequence[Query]
    validation_queries: Sequence[Query]
    new_queries: Sequence[Query]
    feedback: Sequence[Feedback] = ()


@runtime_checkable
class Learner(Protocol):
    """Fits a scorer: pretraining on `train`, heads for the users of `heads`, settings by `judged`."""

    def fit(self, name: str, *, train: Sequence[Row], heads: Sequence[Row], judged: Sequence[Row]) -> Scorer:
        """
        Args:
          name: of the scorer, for checkpoints and curves.
          train: rows of training users.
          heads: rows of validation and new users, from their own profiles.
          judged: rows of the validation users' real queries with known quality.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What HYDRA did for the new users' queries.

    Attributes:
      reranker, adapters: the trained scorers; adapters by method, `hydra` and `hydra_adapter` (one and the same where
        pools are shared).
      records: H* by query id, most relevant first, for validation and new queries.
      pools: candidates by source (`zero_shot`, `reranked`) and query id, the greedy answer first.
      shown: k, the number of records of H*.
    """

    reranker: Scorer
    adapters: Mapping[str, Scorer]
    records: Mapping[str, Sequence[Record]]
    pools: Mapping[str, Pools]
    shown: int


def hydra(lab: Lab, learner: Learner, people: People, shown: int) -> Result:
    """The whole system, from profiles to candidates and the scorers that choose among them.

    Args:
      lab: task, LLM, settings.
      learner: fits scorers.
      people: training, validation and new users.
      shown: k, records in a prompt.
    """
    s = lab.settings
    learned = (*people.train, *people.validation, *people.new)
    pseudo = lab.pseudo_queries(learned, population=people.train)
    asked = [*people.validation_queries, *people.new_queries]

    tried = trials_lib.record_trials(
        lab, [*_first(pseudo, s.trial_queries), *people.label_queries, *people.validation_queries]
    )
    reranker = learner.fit("reranker", **_division(people, reranker_rows(lab, tried)))
    records = rerank(lab, reranker, asked, shown)

    pools = {
        "zero_shot": lab.pools(
            "zero_shot", {}, asked, samples=s.samples, source="zero_shot", stage=stages.ZERO_SHOT_ASKED
        ),
        "reranked": lab.pools("rag", records, asked, samples=s.samples, source="reranked", stage=stages.RERANKED_ASKED),
    }
    if s.adapter_pools == "reranked":
        adapters = _own_adapters(lab, learner, people, reranker, pseudo, pools, shown)
    else:
        adapter = _common_adapter(lab, learner, people, pseudo, pools, shown)
        adapters = {"hydra": adapter, "hydra_adapter": adapter}
    return Result(reranker=reranker, adapters=adapters, records=records, pools=pools, shown=shown)


def rerank(
    lab: Lab, reranker: Scorer, queries: Sequence[Query], k: int, *, pooled: bool = False
) -> dict[str, tuple[Record, ...]]:
    """H*: the k of the N retrieved records with the highest s_R(q, h), best first; ties keep the retriever's order.

    Args:
      lab: retrieves.
      reranker: scores.
      queries: for which records are wanted.
      k: how many.
      pooled: by the pooled head for everybody.
    """
    retrieved = {query.id: lab.retrieve(query, lab.settings.retrieved) for query in queries}
    rows = [record_row(lab, query, record) for query in queries for record in retrieved[query.id]]
    scores = iter(reranker.scores(rows, pooled=pooled))
    chosen = {}
    for query in queries:
        records = retrieved[query.id]
        own = np.array([next(scores) for _ in records])
        chosen[query.id] = tuple(records[i] for i in np.argsort(-own, kind="stable")[:k])
    return chosen


def candidate_scores(
    lab: Lab,
    adapter: Scorer,
    queries: Sequence[Query],
    pools: Pools,
    *,
    heads: Mapping[str, str] | None = None,
    pooled: bool = False,
) -> dict[str, np.ndarray]:
    """s_A(q, o) of every candidate, by query id; the answer is its argmax (the first of equals)."""
    rows = [row for query in queries for row in candidate_rows(lab, query, pools[query.id])]
    scores = adapter.scores(rows, heads=heads, pooled=pooled)
    ends = np.cumsum([len(pools[query.id]) for query in queries])[:-1]
    return {query.id: own for query, own in zip(queries, np.split(scores, ends), strict=True)}


def _own_adapters(
    lab: Lab,
    learner: Learner,
    people: People,
    reranker: Scorer,
    pseudo: Sequence[Query],
    pools: Mapping[str, Pools],
    shown: int,
) -> dict[str, Scorer]:
    """The paper's: each method learns from b candidates of the prompt that it chooses among."""
    b = lab.settings.samples
    zero = lab.pools("zero_shot", {}, pseudo, samples=b, source="zero_shot", stage=stages.ZERO_SHOT_LEARNED)
    records = rerank(lab, reranker, pseudo, shown)
    rest = lab.pools("rag", records, pseudo, samples=b, source="reranked", stage=stages.SHOWN_LEARNED)
    told = feedback_rows(lab, people.feedback)
    adapters = {}
    for method, name, learned, pool in (
        ("hydra", "adapter", rest, "reranked"),
        ("hydra_adapter", "zero-shot adapter", zero, "zero_shot"),
    ):
        rows = [*told, *labelled_rows(lab, pseudo, learned, "learned")]
        judged = labelled_rows(lab, people.validation_queries, pools[pool], "judged")
        adapters[method] = learner.fit(name, **_division(people, [*rows, *judged]))
    return adapters


def _common_adapter(
    lab: Lab, learner: Learner, people: People, pseudo: Sequence[Query], pools: Mapping[str, Pools], shown: int
) -> Scorer:
    """One adapter for both methods, from pools that need no reranker, or from feedback alone."""
    s = lab.settings
    rows = feedback_rows(lab, people.feedback)
    half = s.shared_samples if s.adapter_pools == "shared" else s.samples
    if s.adapter_pools != "feedback":
        zero = lab.pools("zero_shot", {}, pseudo, samples=half, source="zero_shot", stage=stages.ZERO_SHOT_LEARNED)
        rows += labelled_rows(lab, pseudo, zero, "zero-shot")
    if s.adapter_pools == "shared":
        retrieved = {query.id: lab.retrieve(query, shown) for query in pseudo}
        rest = lab.pools("rag", retrieved, pseudo, samples=half, source="reranked", stage=stages.SHOWN_LEARNED)
        rows += labelled_rows(lab, pseudo, rest, "with records")
    for name, own in pools.items():
        rows += labelled_rows(lab, people.validation_queries, own, name)
    return learner.fit("adapter", **_division(people, rows))


def _first(queries: Sequence[Query], n: int | None) -> list[Query]:
    """The first n queries of each user, all where n is None."""
    by_user: dict[str, list[Query]] = {}
    for query in queries:
        by_user.setdefault(query.user_id, []).append(query)
    return [query for own in by_user.values() for query in own[:n]]


def _division(people: People, rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by their part: training users learn all, others' pseudo-queries make heads, their real queries judge."""
    train, real = set(people.train), {query.id for query in people.validation_queries}
    judged = [row for row in rows if row.query_id in real]
    rest = [row for row in rows if row.query_id not in real]
    return {
        "train": [row for row in rest if row.user_id in train],
        "heads": [row for row in rest if row.user_id not in train],
        "judged": judged,
    }


def reranker_rows(lab: Lab, tried: Sequence[trials_lib.Trial]) -> list[Row]:
    """Rows (query, record) with the label r of every trial."""
    return [
        dataclasses.replace(record_row(lab, trial.query, trial.tried), label=trial.label, quality=trial.quality)
        for trial in tried
        if isinstance(trial.tried, Record)
    ]


def record_row(lab: Lab, query: Query, record: Record) -> Row:
    """The pair (query, record), the record's answer included."""
    task = lab.ctx.task
    return Row(
        user_id=query.user_id,
        query_id=query.id,
        pool=query.id,
        first=task.query_text(query),
        second=task.record_text(record),
    )


def candidate_rows(lab: Lab, query: Query, pool: Sequence[Candidate], name: str = "") -> list[Row]:
    """The pairs (query, candidate); extras: source, share of votes, whether it is greedy, and surface features."""
    task = lab.ctx.task
    asked = task.query_text(query)
    votes = sum(candidate.votes for candidate in pool)
    return [
        Row(
            user_id=query.user_id,
            query_id=query.id,
            pool=f"{name}|{query.id}",
            first=asked,
            second=task.normalise(candidate.text),
            extras=(
                float(candidate.source == "reranked"),
                candidate.votes / votes,
                float(candidate.greedy),
                *(surface.features(asked, task.normalise(candidate.text)) if lab.settings.surface else ()),
            ),
        )
        for candidate in pool
    ]


def feedback_rows(lab: Lab, feedback: Sequence[Feedback]) -> list[Row]:
    """The pairs (query, answer) of scores and comparisons; a gold alone has nothing to be better than."""
    rows = []
    for i, said in enumerate(feedback):
        scores = dict(said.scores or {})
        if said.preferred is not None:
            scores = {said.preferred[0]: 1.0, said.preferred[1]: 0.0}
        mean = sum(scores.values()) / max(1, len(scores))
        pool = [Candidate(text=text, source="feedback") for text in scores]
        if len(set(scores.values())) > 1:
            rows += [
                dataclasses.replace(row, label=float(score > mean), quality=score)
                for row, score in zip(
                    candidate_rows(lab, said.query, pool, f"feedback {i}"), scores.values(), strict=True
                )
            ]
    return rows


def labelled_rows(lab: Lab, queries: Sequence[Query], pools: Pools, name: str) -> list[Row]:
    """The rows of `candidate_rows` with label and quality; pools without any difference in quality teach nothing."""
    rows = []
    for query in queries:
        pool = pools[query.id]
        tried = trials_lib.candidate_trials(lab, [query], {query.id: pool})
        if len({trial.quality for trial in tried}) > 1:
            rows += [
                dataclasses.replace(row, label=trial.label, quality=trial.quality)
                for row, trial in zip(candidate_rows(lab, query, pool, name), tried, strict=True)
            ]
    return rows
