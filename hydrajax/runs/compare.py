"""All methods and controls on one set of queries, as prediction rows."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from hydrajax.data import tasks
from hydrajax.evaluation import roster
from hydrajax.methods import baselines, controls, hydra, stages
from hydrajax.methods.lab import Lab
from hydrajax.methods.union import classifier
from hydrajax.runs import compare_union, prediction
from hydrajax.types import Candidate, Query, Record, Split

Embed = Callable[[Sequence[str]], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """Everything that a report needs of the comparison.

    Attributes:
      rows: prediction rows of the new users' queries.
      best_source, best_prompt: the best single source, and the best prompt baseline, by the validation users.
      validation: mean quality on the validation queries, by single source.
      union: what the union's training users chose; None where there is no union.
    """

    rows: list[dict[str, Any]]
    best_source: str
    best_prompt: str
    validation: dict[str, float]
    union: dict[str, Any] | None = None


def compare(
    lab: Lab,
    people: hydra.People,
    prompts: Mapping[str, baselines.Baseline],
    result: hydra.Result,
    train: tuple[Split, Split],
    embed: Embed,
) -> Compared:
    """Answers of every method and control to the new users' queries, and the best single source.

    Args:
      lab: task, LLM, settings, seed.
      people: validation queries choose the best source, new queries are answered.
      prompts: prompt baselines; their answers cover validation and new queries.
      result: of HYDRA.
      train: training and validation users, for controls that learn from others. Validation queries are answered by
        what was learned from training users alone, new ones by what was learned from both.
      embed: texts -> features, for the factorised classifier.
    """
    asked = [*people.validation_queries, *people.new_queries]
    single = _prompt_answers(prompts, asked)
    both = together(train)
    for queries, known in ((people.validation_queries, train[0]), (people.new_queries, both)):
        for method, answers in _plain_controls(lab, queries, known, embed).items():
            single.setdefault(method, {}).update(answers)
    # What the training users alone cannot teach is left out for everybody.
    single = {method: answers for method, answers in single.items() if len(answers) == len(asked)}
    # One answer, as every prompt baseline has one: where it is empty, it is not replaced by a sample as in the pool.
    pooled = hydra.rerank(lab, result.reranker, asked, result.shown, pooled=True)
    for method, records in ((stages.RERANKER_ALONE, result.records), (stages.POOLED_RERANKER, pooled)):
        alone = lab.answers("rag", records, asked, stage=method)
        single[method] = {q.id: alone[q.id].text for q in asked}
    validation = {
        method: float(np.mean([lab.quality(q, answers[q.id]) for q in people.validation_queries]))
        for method, answers in single.items()
    }
    chosen = _choices(lab, people, result)
    rows = [_row(lab, query, prompts, result, single, chosen) for query in people.new_queries]
    union = None
    if lab.settings.strategies:
        shown = {name: prompts[name].shown for name in lab.settings.strategies}
        union = compare_union.add(lab, compare_union.questions(lab, people, both), shown, embed, rows)
    return Compared(
        rows=rows,
        best_source=best(validation),
        best_prompt=best(validation, roster.PROMPTS),
        validation=validation,
        union=union,
    )


def together(splits: Sequence[Split]) -> Split:
    """Training and validation users as one."""
    return Split(
        name="train",
        users={user_id: user for split in splits for user_id, user in split.users.items()},
        queries=tuple(query for split in splits for query in split.queries),
    )


def best(qualities: Mapping[str, float], among: Collection[str] | None = None) -> str:
    """The method of the highest quality, the first of equals; `among` these, by default among all."""
    return max(
        (method for method in qualities if among is None or method in among),
        key=lambda method: round(qualities[method], 9),
    )


def _prompt_answers(prompts: Mapping[str, baselines.Baseline], queries: Sequence[Query]) -> dict[str, dict[str, str]]:
    return {name: {q.id: prompt.answers[q.id].text for q in queries} for name, prompt in prompts.items()}


def _plain_controls(lab: Lab, queries: Sequence[Query], train: Split, embed: Embed) -> dict[str, dict[str, str]]:
    """Controls that answer without an LLM, each where the task allows."""
    task = lab.ctx.task
    found: dict[str, dict[str, str]] = {}
    profiles = {q.id: lab.users[q.user_id].profile for q in queries}
    if task.kind in ("classification", "rating") and task.answer is not None:
        everyone = [record for user in train.users.values() for record in user.profile]
        default = controls.most_frequent_label(task, everyone)
        found["most_frequent_label"] = {
            q.id: controls.most_frequent_label(task, profiles[q.id], default) for q in queries
        }
    if task.answer is not None:
        found["nearest_record"] = {q.id: controls.nearest_record(task, lab.retrieve(q, 1)) for q in queries}
    if task.kind in ("generation", "reward"):
        found["query_text"] = {q.id: controls.query_text(task, q) for q in queries}
        if task.kind == "generation":
            found["query_first_sentence"] = {q.id: controls.query_first_sentence(task, q) for q in queries}
    labelled = (task.normalise(task.record_answer(r)) for user in train.users.values() for r in user.profile)
    if task.kind == "classification" and task.inputs and any(label in task.labels for label in labelled):
        model = classifier.fit(task, train, embed, seed=lab.seed)
        users = [lab.users[q.user_id] for q in queries]
        answers = classifier.predict(model, task, queries, users, embed)
        found["factorised_classifier"] = {q.id: a for q, a in zip(queries, answers, strict=True)}
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Choices:
    """Indices into the pools, by method and query id, and the scores behind them."""

    pools: Mapping[str, str]
    indices: Mapping[str, Mapping[str, Sequence[int]]]
    scores: Mapping[str, Mapping[str, np.ndarray]]


def _choices(lab: Lab, people: hydra.People, result: hydra.Result) -> _Choices:
    queries = people.new_queries
    pool, zero_shot = result.pools["reranked"], result.pools["zero_shot"]
    scores = {
        "hydra": hydra.candidate_scores(lab, result.adapters["hydra"], queries, pool),
        "pooled_head": hydra.candidate_scores(lab, result.adapters["hydra"], queries, pool, pooled=True),
        "hydra_adapter": hydra.candidate_scores(lab, result.adapters["hydra_adapter"], queries, zero_shot),
    }
    indices: dict[str, dict[str, Sequence[int]]] = {
        method: {q.id: (int(np.argmax(own[q.id])),) for q in queries} for method, own in scores.items()
    }
    users = sorted({q.user_id for q in queries})
    if len(users) > 1:
        lent = controls.derangements(users, seed=lab.seed, n=lab.settings.derangements)
        draws = [hydra.candidate_scores(lab, result.adapters["hydra"], queries, pool, heads=heads) for heads in lent]
        indices["shuffled_heads"] = {q.id: tuple(int(np.argmax(own[q.id])) for own in draws) for q in queries}
    pools = dict.fromkeys(indices, "reranked") | {"hydra_adapter": "zero_shot"}
    for prefix, name, own in (("", "reranked", pool), ("zero_shot_", "zero_shot", zero_shot)):
        chosen: dict[str, dict[str, Sequence[int]]] = {
            "random": {q.id: _random(lab, q, own[q.id]) for q in queries},
            "oracle": {q.id: (controls.oracle([lab.quality(q, c.text) for c in own[q.id]]),) for q in queries},
            "vote": {q.id: (_vote(lab, own[q.id]),) for q in queries},
        }
        for method, picks in chosen.items():
            indices[prefix + method], pools[prefix + method] = picks, name
    return _Choices(pools=pools, indices=indices, scores=scores)


def _random(lab: Lab, query: Query, pool: Sequence[Candidate]) -> tuple[int, ...]:
    return controls.random_choices([candidate.votes for candidate in pool], seed=lab.seed, query_id=query.id)


def _vote(lab: Lab, pool: Sequence[Candidate]) -> int:
    texts = [lab.ctx.task.normalise(candidate.text) for candidate in pool]
    return controls.vote(lab.ctx.task, texts, [candidate.votes for candidate in pool])


def _row(
    lab: Lab,
    query: Query,
    prompts: Mapping[str, baselines.Baseline],
    result: hydra.Result,
    single: Mapping[str, Mapping[str, str]],
    chosen: _Choices,
) -> dict[str, Any]:
    task = lab.ctx.task
    records = {name: prompt.records[query.id] for name, prompt in prompts.items() if prompt.records.get(query.id)}
    records["hydra"] = result.records[query.id]
    pools = {
        name: [
            prediction.candidate(
                lab,
                query,
                candidate,
                {m: float(own[query.id][i]) for m, own in chosen.scores.items() if chosen.pools[m] == name},
            )
            for i, candidate in enumerate(pool[query.id])
        ]
        for name, pool in result.pools.items()
    }
    answers: dict[str, dict[str, Any]] = {
        method: prediction.answer(lab, query, [texts[query.id]], None) for method, texts in single.items()
    }
    first = result.pools["reranked"][query.id][0]
    if task.normalise(first.text) == task.normalise(single["hydra_reranker"][query.id]):
        answers["hydra_reranker"]["candidate"] = ["reranked", 0]
    for method, by_query in chosen.indices.items():
        pool_name = chosen.pools[method]
        picks = by_query[query.id]
        texts = [result.pools[pool_name][query.id][i].text for i in picks]
        candidate = [pool_name, picks[0]] if len(picks) == 1 else None
        answers[method] = prediction.answer(lab, query, texts, candidate)
    names = _names(task, records)
    return {
        "query": query.id,
        "user": query.user_id,
        "input": task.query_text(query),
        "gold": query.gold,
        "records": {method: [names[task.record_text(record)] for record in own] for method, own in records.items()},
        "record_texts": {name: text for text, name in names.items()},
        "pools": pools,
        "answers": answers,
    }


def _names(task: tasks.Task, records: Mapping[str, Sequence[Record]]) -> dict[str, str]:
    """Names of records by text: their ids, told apart where records of several users have the same id."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for record in (record for own in records.values() for record in own):
        text = task.record_text(record)
        if text in found:
            continue
        name, other = record.id, 2
        while name in taken:
            name, other = f"{record.id} ({other})", other + 1
        found[text] = name
        taken.add(name)
    return found
