"""Every method and control on the same queries: HYDRA and its variants, prompt baselines, answers without an LLM.

Settings and the best single source are chosen on the validation users; the new users are only answered.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hydrajax.data import folds
from hydrajax.methods import answers, baselines, controls, hydra, llm_choice, llm_stages, sampling, shuffled
from hydrajax.methods.answers import Answer, Draws
from hydrajax.methods.lab import Lab
from hydrajax.methods.union import classifier, proposals
from hydrajax.methods.union import union as union_lib
from hydrajax.prompting.contract import Embed
from hydrajax.types import Query, Split


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """Answers to the new users' queries, each sequence in the order of the queries, and what was chosen.

    Attributes:
      queries: the new users'.
      prompts: names of the prompt baselines.
      single: answers without alternatives, by method.
      chosen: answers that were chosen from a pool, by the pool's name and by method.
      best_source, best_prompt: the best single source, and the best prompt baseline, by the validation users; None
        without any.
      validation: mean quality on the validation queries, by single source.
      union: what the union's training users chose; None where there is no union.
    """

    queries: Sequence[Query]
    prompts: Sequence[str]
    single: Mapping[str, Sequence[Answer]]
    chosen: Mapping[str, Mapping[str, Draws]]
    best_source: str | None
    best_prompt: str | None
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
    """All answers, and the best single source.

    Args:
      people: validation queries choose the best source, new queries are answered.
      prompts: prompt baselines; their answers cover `people.asked`.
      train: training and validation users, for controls that learn from others. Validation queries are answered by
        what was learned from training users alone, new ones by what was learned from both.
      embed: texts -> features, for the factorised classifier.
    """
    first_new = len(people.validation_queries)
    single = {name: list(prompt.answers) for name, prompt in prompts.items()}
    single |= _without_llm(lab, people, train, embed) | _reranked(lab, people, result)
    validation = {
        method: float(np.mean([lab.quality(answer.query, answer.text) for answer in given[:first_new]]))
        for method, given in single.items()
        if first_new
    }
    new = {method: given[first_new:] for method, given in single.items()}
    chosen: dict[str, Mapping[str, Draws]] = {**_chosen(lab, people, result)}
    union = None
    if lab.settings.strategies:
        ks = {name: prompts[name].k for name in lab.settings.strategies}
        new |= shuffled.answers(lab, ks, people.new_queries)
        united = union_lib.union(
            lab,
            union_lib.questions(lab, people, train),
            proposals.Known(task=lab.ctx.task, embed=embed, seed=lab.seed),
            union_lib.nothing,
            strategies=lab.settings.strategies,
            ks=ks,
        )
        pools = [answer for (answer,) in united.answers["union"]["union"]]
        preferred = llm_choice.choose(lab, pools, lab.settings.shown[0])
        chosen |= united.answers
        chosen["union"] = {**chosen["union"], "llm_choice": answers.one_draw(preferred)}
        union = {
            "best_source": united.best_source,
            "sources": dict(united.training),
            "settings": {variant: choice.setting for variant, choice in united.choices.items()},
            "candidates": dict(united.spread),
        }
    return Compared(
        queries=people.new_queries,
        prompts=tuple(prompts),
        single=new,
        chosen=chosen,
        best_source=_best(validation, validation),
        best_prompt=_best(validation, prompts),
        validation=validation,
        union=union,
    )


def _best(quality: Mapping[str, float], among: Iterable[str]) -> str | None:
    """The method of the highest quality, the first of equals."""
    judged = [method for method in among if method in quality]
    return max(judged, key=lambda method: round(quality[method], 9), default=None)


def _reranked(lab: Lab, people: hydra.People, result: hydra.Result) -> dict[str, list[Answer]]:
    """The one answer with reranked records: where it is empty, it is not replaced by a sample as in the pool."""
    retrieved = hydra.retrieve(lab, people.asked)
    pooled = hydra.rerank(lab, result.system.reranker, retrieved, result.system.k, pooled=True)
    return {
        method: sampling.answer(lab, "rag", reranked, stage=method)
        for method, reranked in ((llm_stages.RERANKER_ALONE, result.answers), (llm_stages.POOLED_RERANKER, pooled))
    }


def _chosen(lab: Lab, people: hydra.People, result: hydra.Result) -> dict[str, dict[str, Draws]]:
    """What HYDRA and its controls choose from its pools with records and without, by pool and method."""
    pools, zero_shot = (given[len(people.validation_queries) :] for given in (result.answers, result.zero_shot))
    pooled = hydra.adapt(lab, result.system.adapter, pools, pooled=True)
    with_records: dict[str, Draws] = {
        "hydra": answers.one_draw(pools),
        "pooled_head": answers.one_draw(pooled),
    }
    users = sorted({query.user_id for query in people.new_queries})
    if len(users) > 1:
        lent = controls.derangements(users, seed=lab.seed, n=lab.settings.derangements)
        by_lent = [hydra.adapt(lab, result.system.adapter, pools, heads=heads) for heads in lent]
        with_records["shuffled_heads"] = list(zip(*by_lent, strict=True))
    with_records |= controls.unlearned(lab, pools)
    without_records: dict[str, Draws] = {
        "hydra_adapter": answers.one_draw(zero_shot),
        **{f"zero_shot_{name}": draws for name, draws in controls.unlearned(lab, zero_shot).items()},
    }
    return {"reranked": with_records, "zero_shot": without_records}


def _without_llm(lab: Lab, people: hydra.People, train: tuple[Split, Split], embed: Embed) -> dict[str, list[Answer]]:
    """Controls that answer without an LLM, each where the task allows, to everything that is asked.

    What the training users alone cannot teach is left out for everybody.
    """
    parts = ((people.validation_queries, train[0]), (people.new_queries, folds.union(train)))
    by_part = [_plain(lab, queries, known, embed) for queries, known in parts]
    return {
        method: [
            answers.only(query, text, method)
            for (queries, _), texts in zip(parts, by_part, strict=True)
            for query, text in zip(queries, texts[method], strict=True)
        ]
        for method in by_part[1]
        if all(method in texts for texts in by_part)
    }


def _plain(lab: Lab, queries: Sequence[Query], train: Split, embed: Embed) -> dict[str, list[str]]:
    """What these controls answer, learned from `train`."""
    task = lab.ctx.task
    texts: dict[str, list[str]] = {}
    users = [lab.users[query.user_id] for query in queries]
    records = [record for user in train.users.values() for record in user.profile]
    if task.kind in ("classification", "rating") and task.answer is not None:
        default = controls.most_frequent_label(task, records)
        texts["most_frequent_label"] = [controls.most_frequent_label(task, user.profile, default) for user in users]
    if task.answer is not None:
        texts["nearest_record"] = [controls.nearest_record(task, lab.retrieve(query, 1)) for query in queries]
    if task.kind in ("generation", "reward"):
        texts["query_text"] = [controls.query_text(task, query) for query in queries]
        if task.kind == "generation":
            texts["query_first_sentence"] = [controls.query_first_sentence(task, query) for query in queries]
    labelled = (task.normalise(task.record_answer(record)) for record in records)
    if task.kind == "classification" and task.inputs and any(label in task.labels for label in labelled):
        model = classifier.fit(task, train, embed, seed=lab.seed)
        texts["factorised_classifier"] = classifier.predict(model, task, queries, users, embed)
    return texts
