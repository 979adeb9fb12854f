"""The union in a run, with the controls that belong to it: somebody else's records, and the LLM's own choice."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydrajax.methods import hydra, llm_choice, shuffled
from hydrajax.methods.lab import Lab
from hydrajax.methods.union import pool as union_pool
from hydrajax.methods.union import proposals
from hydrajax.methods.union import union as union_lib
from hydrajax.prompting.contract import Embed
from hydrajax.runs import prediction
from hydrajax.types import Candidate, Query, Split


def questions(lab: Lab, people: hydra.People, train: Split) -> union_lib.Questions:
    """What the union learns from, everybody but the new users and their own records, and what it answers.

    Args:
      lab: makes pseudo-queries.
      people: who is new.
      train: training and validation users.
    """
    everybody = (*people.train, *people.validation, *people.new)
    pseudo = lab.pseudo_queries(everybody, population=people.train)
    new = {user_id: lab.users[user_id] for user_id in people.new}
    return union_lib.Questions(
        train=train,
        new=Split(name="new", users=new, queries=tuple(people.new_queries)),
        taught=[query for query in pseudo if query.user_id not in new],
        own=[query for query in pseudo if query.user_id in new],
    )


def plan(lab: Lab, asked: union_lib.Questions, shown: Mapping[str, int]) -> None:
    """Puts the requests of the union and of its controls to a lab that counts them.

    What the bandit will learn from answers is not known yet: it spreads them almost evenly. Proposals are left out of
    the prompts in which the LLM chooses, but for the task's labels.
    """
    said, _ = union_lib.sample(lab, asked, lab.settings.strategies, shown, thompson=True)
    shuffled.answers(lab, shown, asked.new.queries)
    labels = [(label, 1) for label in lab.ctx.task.labels]
    pools = {
        query.id: labels or [(c.text, c.votes) for by_query in said.values() for c in by_query.get(query.id, ())]
        for query in asked.new.queries
    }
    llm_choice.choose(lab, asked.new.queries, pools, lab.settings.shown[0])


def add(
    lab: Lab,
    asked: union_lib.Questions,
    shown: Mapping[str, int],
    embed: Embed,
    rows: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Puts the answers of the union and of its controls, and its pools, into the rows of the new users' queries.

    Args:
      lab: task, LLM, settings, seed.
      asked: of `questions`.
      shown: records in a strategy's prompt, by strategy.
      embed: texts -> features, for proposals.
      rows: prediction rows, in the order of the new queries.

    Returns:
      what the training users chose: the best single source, the adapter's setting, and how the bandit spread b.
    """
    queries = asked.new.queries
    for method, by_query in shuffled.answers(lab, shown, queries).items():
        for row, query in zip(rows, queries, strict=True):
            row["answers"][method] = prediction.answer(lab, query, [by_query[query.id]], None)
    found = union_lib.union(
        lab,
        asked,
        proposals.Known(task=lab.ctx.task, embed=embed, seed=lab.seed),
        union_lib.nothing,
        strategies=lab.settings.strategies,
        shown=shown,
    )
    texts = {q: [(merged.text, merged.backing) for merged in pool] for q, pool in found.pools["union"].items()}
    preferred = llm_choice.choose(lab, queries, texts, lab.settings.shown[0])
    chosen = {**found.chosen, "llm_choice": ("union", {q: (i,) for q, i in preferred.items()})}
    for row, query in zip(rows, queries, strict=True):
        for variant, pools in found.pools.items():
            row["pools"][variant] = [_merged(lab, query, merged) for merged in pools[query.id]]
        for i, score in enumerate(found.scores[query.id]):
            row["pools"]["union"][i]["scores"] = {"union": round(float(score), 6)}
        for method, (variant, indices) in chosen.items():
            picks = indices[query.id]
            answers = [found.pools[variant][query.id][i].text for i in picks]
            place = [variant, picks[0]] if len(picks) == 1 else None
            row["answers"][method] = prediction.answer(lab, query, answers, place)
    return {
        "best_source": found.best_source,
        "sources": dict(found.training),
        "settings": {variant: choice.setting for variant, choice in found.choices.items()},
        "candidates": dict(found.spread),
    }


def _merged(lab: Lab, query: Query, merged: union_pool.Merged) -> dict[str, Any]:
    source = ", ".join(merged.own or merged.proposed or tuple(merged.votes))
    candidate = Candidate(text=merged.text, source=source, votes=merged.backing)
    return prediction.candidate(lab, query, candidate, {})
