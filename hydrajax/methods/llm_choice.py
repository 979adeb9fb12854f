"""The LLM chooses among candidates itself: a control at the cost of one more call a query.

Candidates are numbered and quoted as data; with them the LLM sees the user's most relevant records. An answer that is
not one number of a candidate leaves the choice to the vote, and is counted in `Context.faults`.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from hydrajax.methods import controls, stages
from hydrajax.methods.lab import Lab
from hydrajax.prompting import templates, turns
from hydrajax.types import Message, Query

FAULT = "llm_choice: chosen by the vote"
MAX_TOKENS = 8


def choose(
    lab: Lab, queries: Sequence[Query], pools: Mapping[str, Sequence[tuple[str, int]]], shown: int
) -> dict[str, int]:
    """Which candidate the LLM prefers, by query id.

    Args:
      lab: task and LLM.
      queries: what is asked.
      pools: (text, votes) of each candidate, by query id; a pool of one is not asked about.
      shown: most relevant records in the prompt.

    Returns:
      indices into the pools.
    """
    asked = [query for query in queries if len(pools[query.id]) > 1]
    requests = [
        dataclasses.replace(
            lab.ctx.request(
                messages(lab, query, [text for text, _ in pools[query.id]], shown),
                temperature=lab.greedy,
                user_id=query.user_id,
            ),
            max_tokens=MAX_TOKENS,
        )
        for query in asked
    ]
    answers = lab.ctx.llm.sample(requests, stage=stages.LLM_CHOICE)
    lab.charge(stages.LLM_CHOICE, [query.user_id for query in asked], answers)
    chosen = {query.id: 0 for query in queries}
    for query, answer in zip(asked, answers, strict=True):
        pool = pools[query.id]
        number = parse(answer.text, len(pool))
        if number is None:
            lab.ctx.faults[FAULT] += 1
            votes = [n for _, n in pool]
            chosen[query.id] = controls.vote(
                lab.ctx.task, [text for text, _ in pool], votes if sum(votes) else [1] * len(pool)
            )
        else:
            chosen[query.id] = number
    return chosen


def messages(lab: Lab, query: Query, candidates: Sequence[str], shown: int) -> tuple[Message, ...]:
    """The conversation of `rag` with the candidates under the question."""
    conversation = turns.conversation(query, lab.retrieve(query, shown), lab.ctx)
    listed = "\n".join(f"{i}. {templates.tagged('answer', [text])}" for i, text in enumerate(candidates, start=1))
    slots = {"question": conversation[-1].text, "candidates": listed, "count": str(len(candidates))}
    return (*conversation[:-1], dataclasses.replace(conversation[-1], text=templates.fill("choose.txt", slots)))


def parse(answer: str, count: int) -> int | None:
    """The index of the one number that the answer holds and that a candidate has; None where it is no such answer.

    `3`, `3.`, `"3"` and `Answer: 3` are read; two numbers, a word more, or a number of no candidate are not.
    """
    found = re.fullmatch(r"\W*(?:(?:the )?(?:best )?(?:answer|number)(?: is)?\W*)?(\d{1,4})\W*", answer.strip().lower())
    number = int(found.group(1)) if found else 0
    return number - 1 if 1 <= number <= count else None
