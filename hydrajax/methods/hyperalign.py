"""HyPerAlign (Garbacea and Tan, arXiv 2505.00038): infer hypotheses of a user once, then prompt with them.

    1  hypotheses_u = LLM( a few texts that u wrote )        communication strategy, personality and style, attributes
    2  answer       = LLM( hypotheses_u, query )

Any strategy goes the same way: step 1 is what it learns of a user, step 2 its prompt.
"""

from collections.abc import Mapping, Sequence

from hydrajax.llm.request import count_tokens
from hydrajax.methods.lab import Lab
from hydrajax.prompting import contract, registry
from hydrajax.types import Candidate, Query, Record

STRATEGY = "hypotheses"


def hyperalign(
    lab: Lab, queries: Sequence[Query], *, strategy: str = STRATEGY, samples: int = 3, stage: str | None = None
) -> dict[str, list[str]]:
    """The two steps, for every query.

    Args:
      lab: task, LLM, users and settings.
      queries: what is asked.
      strategy: `hypotheses`, or another one that is compared with it.
      samples: answers to each prompt, the greedy one and others at the lab's temperature.
      stage: names the answers in progress and plans; by default the strategy.

    Returns:
      `samples` texts by query id; an empty one where the LLM gave no answer.
    """
    known = lab.user_models(strategy, queries)
    shown = shown_records(lab, strategy, queries, known)
    pools = lab.pools(strategy, shown, queries, samples=samples - 1, source=strategy, stage=stage or strategy)
    return {query.id: _texts(lab, pools[query.id], samples) for query in queries}


def shown_records(
    lab: Lab, strategy: str, queries: Sequence[Query], known: Mapping[str, contract.UserModel]
) -> dict[str, Sequence[Record]]:
    """The records that a strategy shows: as many as fit into a prompt.

    Where something is known of the user that speaks for itself, and names no records to go with it, none.

    Args:
      lab: task, users and settings.
      strategy: whose prompts.
      queries: what is asked.
      known: user models by query id.
    """
    alone = {query_id for query_id, model in known.items() if registry.get(strategy).alone and not model.shown}
    most = max(len(lab.users[query.user_id].profile) for query in queries)
    found = lab.shown(strategy, queries, most)
    return {query_id: () if query_id in alone else fitting(own, lab.ctx) for query_id, own in found.items()}


def fitting(records: Sequence[Record], ctx: contract.Context) -> tuple[Record, ...]:
    """The first records that fit into a prompt whole, one at least."""
    used = 0
    kept: list[Record] = []
    for record in records:
        used += count_tokens(ctx.task.record_text(record))
        if kept and used > ctx.settings.max_prompt_tokens:
            break
        kept.append(record)
    return tuple(kept)


def _texts(lab: Lab, pool: Sequence[Candidate], samples: int) -> list[str]:
    texts = [lab.ctx.task.normalise(candidate.text) for candidate in pool for _ in range(candidate.votes)]
    # Empty answers and refusals are not in the pool; a pool of nothing else holds one of them.
    refused = [candidate.stop_reason == "refusal" for candidate in pool for _ in range(candidate.votes)]
    texts = ["" if no else text for text, no in zip(texts, refused, strict=True)]
    return [*texts, *[""] * (samples - len(texts))]
