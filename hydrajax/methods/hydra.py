"""HYDRA: personalise a black-box LLM by a reranker of records and an adapter of answers.

Zhuang et al., NeurIPS 2024, arXiv 2406.02888. Both scorers are a shared base with a head per user:

    s(x) = f_u(z),  z = base(x),  x = (query, record) for the reranker and (query, candidate) for the adapter;
                                  beside z stand what is known of x without a base: its label, its votes

    1. retrieve   H' = the N records of the profile that BM25 ranks highest for the query
    2. rerank     H* = the k of them with the highest s_R(q, h); learned from the LLM's answers when shown h alone
    3. sample     b candidates from the LLM, given H* and q
    4. adapt      the candidate with the highest s_A(q, o); learned from candidates for records asked as queries, with
                  H* in the prompt (`Settings.adapter_pools` "reranked", the paper's), without records ("zero_shot"),
                  half without and half with the first k of H' ("shared"), or what users said of answers ("feedback")

Training users fit what all users share (where the base is trained, base and heads together; then the pooled head);
new users fit a head alone, from their own profiles.
"""

import collections
import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from hydrajax.methods import answers, llm_stages, rows, sampling
from hydrajax.methods.answers import Answer, Pool, Prompt
from hydrajax.methods.lab import Lab
from hydrajax.methods.rows import Row
from hydrajax.methods.scorers import Heads, TrainedScorer, Untrained
from hydrajax.types import Feedback, Query


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

    @property
    def everybody(self) -> tuple[str, ...]:
        return (*self.train, *self.validation, *self.new)

    @property
    def asked(self) -> list[Query]:
        """Everything that is answered: validation queries, then new ones."""
        return [*self.validation_queries, *self.new_queries]


@runtime_checkable
class Learner(Protocol):
    """Fits a scorer: pretraining on `train`, heads for the users of `personal`, settings by `judged`."""

    def fit(self, name: str, *, train: Sequence[Row], personal: Sequence[Row], judged: Sequence[Row]) -> TrainedScorer:
        """
        Args:
          name: of the scorer, for checkpoints and curves.
          train: rows of training users.
          personal: rows of validation and new users, from their own profiles: what their heads learn from.
          judged: rows of the validation users' real queries with known quality.
        """
        ...

    def cross_fit(
        self, name: str, scorer: TrainedScorer, *, train: Sequence[Row], personal: Sequence[Row]
    ) -> TrainedScorer:
        """The scorer for the very queries that it learned from: each is scored by what did not learn from it.

        Args:
          name, scorer: of `fit`, and what it gave.
          train, personal: what it learned from.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class System:
    """What answers: the trained scorers, and k, the number of records of H*."""

    reranker: TrainedScorer
    adapter: TrainedScorer
    k: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What was learned, and what is answered to the validation and new queries, in this order (`People.asked`).

    Attributes:
      system: what answers.
      answers: HYDRA's.
      zero_shot: those of `hydra_adapter`, which chooses among candidates without records; by the adapter of the system
        too where one serves both.
    """

    system: System
    answers: Sequence[Answer]
    zero_shot: Sequence[Answer]


def hydra(lab: Lab, learner: Learner, people: People, k: int) -> Result:
    """The whole system, from profiles to answers.

    Args:
      k: records in a prompt, as validation users chose it (`selection.choose_k`).
    """
    pseudo = sampling.pseudo_queries(lab, people.everybody, population=people.train)
    retrieved = retrieve(lab, people.asked)
    reranker, cross_fitted = learn_reranker(lab, learner, people, pseudo)
    reranked = rerank(lab, reranker, retrieved, k)
    zero_shot = sample(lab, without_records(people.asked), llm_stages.ZERO_SHOT_ASKED, strategy="zero_shot")
    pools = sample(lab, reranked)
    adapter = learn_adapter(lab, learner, people, pseudo, cross_fitted, k, pools, zero_shot)
    zero_shot_adapter = adapter  # one for both, unless it has learned from candidates with records alone
    if lab.settings.adapter_pools == "reranked":
        zero_shot_adapter = learn_zero_shot_adapter(lab, learner, people, pseudo, zero_shot)
    return Result(
        system=System(reranker=reranker, adapter=adapter, k=k),
        answers=adapt(lab, adapter, pools),
        zero_shot=adapt(lab, zero_shot_adapter, zero_shot),
    )


def answer(lab: Lab, system: System, queries: Sequence[Query]) -> list[Answer]:
    """HYDRA's answers, once its scorers are trained: the four steps."""
    retrieved = retrieve(lab, queries)
    reranked = rerank(lab, system.reranker, retrieved, system.k)
    pools = sample(lab, reranked)
    return adapt(lab, system.adapter, pools)


def without_records(queries: Sequence[Query]) -> list[Prompt]:
    """The queries alone."""
    return [Prompt(query=query) for query in queries]


def retrieve(lab: Lab, queries: Sequence[Query]) -> list[Prompt]:
    """Step 1, H'."""
    return [Prompt(query=query, records=lab.retrieve(query, lab.settings.retrieved)) for query in queries]


def rerank(
    lab: Lab, reranker: TrainedScorer, retrieved: Sequence[Prompt], k: int, *, pooled: bool = False
) -> list[Prompt]:
    """Step 2, H*: the k records with the highest s_R(q, h), best first; records of equal score keep their order.

    Args:
      pooled: by the pooled head for everybody.
    """
    pairs = [rows.of_record(lab, prompt.query, record) for prompt in retrieved for record in prompt.records]
    by_prompt = answers.split(reranker.scores(pairs, pooled=pooled), [len(prompt.records) for prompt in retrieved])
    orders = [np.argsort(-scores, kind="stable")[:k] for scores in by_prompt]
    return [
        dataclasses.replace(prompt, records=tuple(prompt.records[i] for i in order))
        for prompt, order in zip(retrieved, orders, strict=True)
    ]


def sample(
    lab: Lab,
    prompts: Sequence[Prompt],
    stage: str = llm_stages.RERANKED_ASKED,
    *,
    strategy: str = "rag",
    samples: int | None = None,
) -> list[Pool]:
    """Step 3: b samples (or `samples`) and the greedy answer, given H* and q; without records for `zero_shot`."""
    # Reranked records are put to the LLM as `rag` puts the retriever's: the source says who picked them.
    source = "reranked" if strategy == "rag" else strategy
    b, greedy = lab.settings.samples if samples is None else samples, lab.settings.greedy
    return sampling.sample(lab, strategy, prompts, samples=b, source=source, stage=stage, greedy=greedy)


def adapt(
    lab: Lab, adapter: TrainedScorer, pools: Sequence[Pool], *, heads: Heads = None, pooled: bool = False
) -> list[Answer]:
    """Step 4: the candidate with the highest s_A(q, o), the first of equals.

    Where s_A was learned by cumulative logits (`methods.ordinal`), that is the one with the least expected error.

    Args:
      heads: see `TrainedScorer.scores`.
      pooled: by the pooled head for everybody.
    """
    pairs = [row for pool in pools for row in rows.of_candidates(lab, pool)]
    return answers.best_of_each(pools, adapter.scores(pairs, heads=heads, pooled=pooled))


def learn_reranker(
    lab: Lab, learner: Learner, people: People, pseudo: Sequence[Query]
) -> tuple[TrainedScorer, TrainedScorer]:
    """s_R, from the LLM's answers to queries with one record shown alone; and what ranks the records of the adapter's
    pseudo-queries, which never scores a query that it learned from."""
    tried = [*_first_of_each(pseudo, lab.settings.trial_queries), *people.label_queries, *people.validation_queries]
    parts = _division(people, rows.tried_records(lab, tried))
    reranker = learner.fit("reranker", **parts)
    if lab.settings.adapter_pools != "reranked":
        # Shared pools have the retriever's order, so that they can be sampled before a reranker is trained.
        return reranker, Untrained()
    return reranker, learner.cross_fit("reranker", reranker, train=parts["train"], personal=parts["personal"])


def learn_adapter(
    lab: Lab,
    learner: Learner,
    people: People,
    pseudo: Sequence[Query],
    cross_fitted: TrainedScorer,
    k: int,
    pools: Sequence[Pool] = (),
    zero_shot: Sequence[Pool] = (),
) -> TrainedScorer:
    """s_A, for candidates with reranked records; for those without any too where one adapter serves both (see
    `Settings.adapter_pools`).

    Args:
      people: who teaches, and what users said of answers.
      pseudo: everybody's records as queries.
      cross_fitted, k: give the records of what is learned from.
      pools, zero_shot: candidates for `People.asked`; those of validation queries judge.
    """
    kind, validation = lab.settings.adapter_pools, len(people.validation_queries)
    samples = lab.settings.shared_samples if kind == "shared" else lab.settings.samples
    labelled = rows.of_feedback(lab, people.feedback)
    if kind in ("shared", "zero_shot"):
        labelled += _zero_shot_rows(lab, pseudo, samples)
    if kind in ("shared", "reranked"):
        prompts = rerank(lab, cross_fitted, retrieve(lab, pseudo), k)
        sampled = sample(lab, prompts, llm_stages.SHOWN_LEARNED, samples=samples)
        labelled += rows.learned_candidates(lab, sampled, "reranked")
    if kind != "reranked":
        labelled += rows.tried_candidates(lab, zero_shot[:validation], "judged zero-shot")
    labelled += rows.tried_candidates(lab, pools[:validation], "judged reranked")
    return learner.fit("adapter", **_division(people, labelled))


def learn_zero_shot_adapter(
    lab: Lab, learner: Learner, people: People, pseudo: Sequence[Query], zero_shot: Sequence[Pool]
) -> TrainedScorer:
    """s_A for candidates without records, where it is one of its own; arguments as of `learn_adapter`."""
    labelled = [*rows.of_feedback(lab, people.feedback), *_zero_shot_rows(lab, pseudo, lab.settings.samples)]
    labelled += rows.tried_candidates(lab, zero_shot[: len(people.validation_queries)], "judged zero-shot")
    return learner.fit("zero-shot adapter", **_division(people, labelled))


def personalise(
    lab: Lab,
    learner: Learner,
    user_ids: Sequence[str],
    k: int,
    *,
    population: Sequence[str],
    headed: Collection[str] = ("reranker", "adapter"),
) -> System:
    """Heads of users who come after the training, from their own profiles alone.

    Args:
      learner: gives heads to what is trained already.
      k: of the trained system.
      population: the users who were trained on (see `sampling.pseudo_queries`).
      headed: scorers whose heads are wanted; nothing is asked for the others.
    """
    people = People(train=(), validation=(), new=user_ids, label_queries=(), validation_queries=(), new_queries=())
    pseudo = sampling.pseudo_queries(lab, user_ids, population=population)
    reranker, cross_fitted = learn_reranker(lab, learner, people, pseudo if "reranker" in headed else ())
    adapter = learn_adapter(lab, learner, people, pseudo if "adapter" in headed else (), cross_fitted, k)
    return System(reranker=reranker, adapter=adapter, k=k)


def _zero_shot_rows(lab: Lab, pseudo: Sequence[Query], samples: int) -> list[Row]:
    """Candidates for queries without records, and how good they are."""
    prompts, stage = without_records(pseudo), llm_stages.ZERO_SHOT_LEARNED
    sampled = sample(lab, prompts, stage, strategy="zero_shot", samples=samples)
    return rows.learned_candidates(lab, sampled, "zero-shot")


def _first_of_each(queries: Sequence[Query], n: int | None) -> list[Query]:
    """The first n queries of each user, all where n is None."""
    by_user: dict[str, list[Query]] = collections.defaultdict(list)
    for query in queries:
        by_user[query.user_id].append(query)
    return [query for of_user in by_user.values() for query in of_user[:n]]


def _division(people: People, labelled: Sequence[Row]) -> Mapping[str, list[Row]]:
    """Rows by their part: training users learn all, others' pseudo-queries make heads, their real queries judge."""
    train, real = set(people.train), {query.id for query in people.validation_queries}
    learned = [row for row in labelled if row.query_id not in real]
    return {
        "train": [row for row in learned if row.user_id in train],
        "personal": [row for row in learned if row.user_id not in train],
        "judged": [row for row in labelled if row.query_id in real],
    }
