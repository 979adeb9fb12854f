"""HyPerAlign (Garbacea and Tan, arXiv 2505.00038): infer hypotheses of a user once, then prompt with them.

    1  hypotheses_u = LLM( a few texts that u wrote )        communication strategy, personality and style, attributes
    2  answer       = LLM( hypotheses_u, query )

Any strategy goes the same way: step 1 is what it learns of a user, step 2 its prompt.
"""

import itertools
from collections.abc import Sequence

from hydrajax.llm.request import count_tokens
from hydrajax.methods import sampling, user_models
from hydrajax.methods.answers import Pool, Prompt
from hydrajax.methods.lab import Lab
from hydrajax.prompting import contract
from hydrajax.types import Query, Record

STRATEGY = "hypotheses"


def hyperalign(
    lab: Lab, queries: Sequence[Query], *, strategy: str = STRATEGY, samples: int = 3, stage: str | None = None
) -> dict[str, list[str]]:
    """The two steps, for every query.

    Args:
      strategy: `hypotheses`, or another one that is compared with it.
      samples: answers to each prompt, the greedy one and others at the lab's temperature.
      stage: names the answers in progress and plans; by default the strategy.

    Returns:
      `samples` texts by query id; an empty one where the LLM gave no answer.
    """
    pools = sampling.sample(
        lab, strategy, prompts(lab, strategy, queries), samples=samples - 1, stage=stage or strategy
    )
    return {pool.query.id: _texts(lab, pool, samples) for pool in pools}


def prompts(lab: Lab, strategy: str, queries: Sequence[Query]) -> list[Prompt]:
    """The queries with the records that a strategy shows: as many as fit into a prompt.

    Where something is known of the user that speaks for itself, and names no records to go with it, none.
    """
    known = user_models.known(lab, strategy, queries)
    alone = {query_id for query_id, model in known.items() if lab.strategy(strategy).alone and not model.shown}
    most = max(len(lab.users[query.user_id].profile) for query in queries)
    return [
        Prompt(query=prompt.query, records=() if prompt.query.id in alone else fitting(prompt.records, lab.ctx))
        for prompt in sampling.prompts(lab, strategy, queries, most)
    ]


def fitting(records: Sequence[Record], ctx: contract.Context) -> tuple[Record, ...]:
    """The first records that fit into a prompt whole, one at least."""
    used = itertools.accumulate(count_tokens(ctx.task.record_text(record)) for record in records)
    fit = itertools.takewhile(lambda tokens: tokens <= ctx.settings.max_prompt_tokens, used)
    return tuple(records[: max(1, len(list(fit)))])


def _texts(lab: Lab, pool: Pool, samples: int) -> list[str]:
    # Empty answers and refusals are not in the pool; a pool of nothing else holds one of them.
    texts = [
        "" if candidate.stop_reason == "refusal" else lab.ctx.task.normalise(candidate.text)
        for candidate in pool.candidates
        for _ in range(candidate.votes)
    ]
    return [*texts, *[""] * (samples - len(texts))]
