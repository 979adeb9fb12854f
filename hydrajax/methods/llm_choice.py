"""The LLM chooses among candidates itself: a control at the cost of one more call a query.

Candidates are numbered and quoted as data; with them the LLM sees the user's most relevant records. An answer that is
not one number of a candidate leaves the choice to the vote, and is counted in `Context.faults`.
"""

import dataclasses
import re
from collections.abc import Sequence

from hydrajax.methods import answers, controls, ledger, llm_stages
from hydrajax.methods.answers import Answer, Pool
from hydrajax.methods.lab import Lab
from hydrajax.prompting import templates, turns
from hydrajax.types import Message

FAULT = "llm_choice: chosen by the vote"
MAX_TOKENS = 8


def choose(lab: Lab, pools: Sequence[Pool], k: int) -> list[Answer]:
    """The candidates that the LLM prefers; a pool of one is not asked about.

    Args:
      k: most relevant records in the prompt.
    """
    requests = [
        lab.ctx.request(
            messages(lab, pool, k), temperature=lab.greedy, user_id=pool.query.user_id, max_tokens=MAX_TOKENS
        )
        for pool in pools
        if len(pool.candidates) > 1
    ]
    with ledger.charging(lab.ledger, llm_stages.LLM_CHOICE, lab.ctx) as ctx:
        replies = iter(ctx.llm.sample(requests, stage=llm_stages.LLM_CHOICE))
    chosen = []
    for pool in pools:
        number = parse(next(replies).text, len(pool.candidates)) if len(pool.candidates) > 1 else 0
        if number is None:
            lab.ctx.faults[FAULT] += 1
            number = controls.voted(lab, pool)
        chosen.append(answers.choose(pool, number))
    return chosen


def messages(lab: Lab, pool: Pool, k: int) -> tuple[Message, ...]:
    """The conversation of `rag` with the candidates under the question."""
    conversation = turns.conversation(pool.query, lab.retrieve(pool.query, k), lab.ctx)
    quoted = [templates.tagged("answer", [candidate.text]) for candidate in pool.candidates]
    listed = "\n".join(f"{i}. {text}" for i, text in enumerate(quoted, start=1))
    slots = {"question": conversation[-1].text, "candidates": listed, "count": str(len(quoted))}
    return (*conversation[:-1], dataclasses.replace(conversation[-1], text=templates.fill("choose.txt", slots)))


def parse(answer: str, count: int) -> int | None:
    """The index of the one number that the answer holds and that a candidate has; None where it is no such answer.

    `3`, `3.`, `"3"` and `Answer: 3` are read; two numbers, a word more, or a number of no candidate are not.
    """
    match = re.fullmatch(r"\W*(?:(?:the )?(?:best )?(?:answer|number)(?: is)?\W*)?(\d{1,4})\W*", answer.strip().lower())
    number = int(match.group(1)) if match else 0
    return number - 1 if 1 <= number <= count else None
