"""The lines of `predictions.jsonl`: what was compared, a line for each query of the new users."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydrajax.data import tasks
from hydrajax.methods import llm_stages
from hydrajax.methods.answers import Answer
from hydrajax.methods.comparison import Compared
from hydrajax.methods.lab import Lab
from hydrajax.types import Query, Record

SCORED = ("hydra", "pooled_head", "hydra_adapter", "union")  # methods of whose scores a report tells


def rows(lab: Lab, compared: Compared) -> list[dict[str, Any]]:
    """A row a query: the records that prompts and HYDRA showed, pools with their candidates, answers by method."""
    made = []
    for i, query in enumerate(compared.queries):
        single = {method: given[i] for method, given in compared.single.items()}
        chosen = {
            pool: {method: draws[i] for method, draws in by_method.items()}
            for pool, by_method in compared.chosen.items()
        }
        records = {name: single[name].records for name in compared.prompts if single[name].records}
        records["hydra"] = chosen["reranked"]["hydra"][0].records
        names = _names(lab.ctx.task, records)
        made.append(
            {
                "query": query.id,
                "user": query.user_id,
                "input": lab.ctx.task.query_text(query),
                "gold": query.gold,
                "records": {
                    method: [names[lab.ctx.task.record_text(record)] for record in shown]
                    for method, shown in records.items()
                },
                "record_texts": {name: text for text, name in names.items()},
                "pools": {pool: _candidates(lab, query, by_method) for pool, by_method in chosen.items()},
                "answers": _answers(lab, single, chosen),
            }
        )
    return made


def _candidates(lab: Lab, query: Query, by_method: Mapping[str, Sequence[Answer]]) -> list[dict[str, Any]]:
    """The candidates of a pool, with their qualities, and their scores by the methods of `SCORED`."""
    scored = {method: by_method[method][0] for method in SCORED if method in by_method}
    (any_answer, *_), *_ = by_method.values()
    return [
        {
            "text": candidate.text,
            "source": candidate.source,
            "votes": candidate.votes,
            "stop_reason": candidate.stop_reason,
            "prediction": lab.ctx.task.normalise(candidate.text),
            "quality": lab.quality(query, candidate.text),
            "scores": {method: round(answer.scores[i], 6) for method, answer in scored.items()},
        }
        for i, candidate in enumerate(any_answer.candidates)
    ]


def _answers(
    lab: Lab, single: Mapping[str, Answer], chosen: Mapping[str, Mapping[str, Sequence[Answer]]]
) -> dict[str, dict[str, Any]]:
    """Answers by method, with their places [pool, index]: None where an answer is not one of a pool, or is drawn."""
    answers = {method: _answer(lab, [answer], None) for method, answer in single.items()}
    reranked, first = answers[llm_stages.RERANKER_ALONE], chosen["reranked"]["hydra"][0].candidates[0]
    if reranked["predictions"] == [lab.ctx.task.normalise(first.text)]:
        reranked["candidate"] = ["reranked", 0]
    for pool, by_method in chosen.items():
        for method, draws in by_method.items():
            answers[method] = _answer(lab, draws, [pool, draws[0].choice] if len(draws) == 1 else None)
    return answers


def _answer(lab: Lab, draws: Sequence[Answer], place: list[Any] | None) -> dict[str, Any]:
    row: dict[str, Any] = {"predictions": [lab.ctx.task.normalise(draw.text) for draw in draws], "candidate": place}
    if lab.reward is not None:
        row["rewards"] = [lab.quality(draw.query, draw.text) for draw in draws]
    return row


def _names(task: tasks.Task, records: Mapping[str, Sequence[Record]]) -> dict[str, str]:
    """Names of records by text: their ids, told apart where records of several users have the same id."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for record in (record for shown in records.values() for record in shown):
        text = task.record_text(record)
        if text in names:
            continue
        name, other = record.id, 2
        while name in taken:
            name, other = f"{record.id} ({other})", other + 1
        names[text] = name
        taken.add(name)
    return names
