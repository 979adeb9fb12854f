"""What a new user costs, by method, from the lab's ledger."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydrajax.evaluation import results, roster
from hydrajax.llm import models
from hydrajax.methods import stages
from hydrajax.methods.lab import Lab

_TRIALS = (stages.PARAPHRASES, stages.RECORD_TRIALS)
_ZERO, _SHOWN, _ASKED = stages.ZERO_SHOT_LEARNED, stages.SHOWN_LEARNED, stages.RERANKED_ASKED

# Stages that a method needs, and the share of each: hydra_reranker asks for one answer where hydra asks for b + 1.
_OWN_POOLS: Mapping[str, Sequence[str]] = {
    **{name: (stages.learned(name, "whole"), stages.notes(name), name) for name in roster.PROMPTS},
    "hydra_reranker": (*_TRIALS, _ASKED),
    "hydra_adapter": (stages.PARAPHRASES, _ZERO, stages.ZERO_SHOT_ASKED),
    "hydra": (*_TRIALS, _SHOWN, _ASKED),
}


def new_user(lab: Lab, user_ids: Sequence[str]) -> dict[str, results.NewUser]:
    """Mean calls, tokens and dollars of a new user: what is learned of the user, and answers to the user's queries.

    Answers from the store count as if they had been paid for in this run.
    """
    needed_by = dict(_OWN_POOLS)
    if lab.settings.adapter_pools == "shared":
        needed_by["hydra_adapter"] = (*needed_by["hydra_adapter"], _SHOWN)
        needed_by["hydra"] = (*needed_by["hydra"], _ZERO)
    if lab.settings.adapter_pools in ("zero_shot", "feedback"):
        needed_by["hydra"] = (*_TRIALS, _ZERO, _ASKED)
    needed_by |= _union(lab.settings.strategies)
    price = models.find(lab.ctx.llm.model)
    found = {}
    booked = {stage for stage, _ in lab.ledger}
    for method, needed in needed_by.items():
        if method in roster.PROMPTS and method not in booked:
            continue
        totals = {"calls": 0.0, "input_tokens": 0.0, "output_tokens": 0.0}
        for stage in needed:
            share = 1 / (lab.settings.samples + 1) if method == "hydra_reranker" and stage == _ASKED else 1.0
            for user_id in user_ids:
                entry: Mapping[str, int] = lab.ledger.get((stage, user_id), {})
                for name in totals:
                    totals[name] += share * entry.get(name, 0)
        mean = {name: round(total / max(1, len(user_ids)), 3) for name, total in totals.items()}
        found[method] = results.NewUser(**mean, cost_usd=price.cost(mean["input_tokens"], mean["output_tokens"]))
    return found


def _union(strategies: Sequence[str]) -> dict[str, Sequence[str]]:
    """What the union's methods ask for: all sources learn of the user, answer the user's records, and the queries."""
    if not strategies:
        return {}
    needed = [stages.PARAPHRASES]
    for name in strategies:
        asked = [stages.union_learned(name), stages.union_asked(name)]
        needed += [stages.learned(name, "whole"), stages.learned(name, "half"), *map(stages.notes, asked), *asked]
    return {"union": needed, "llm_choice": (*needed, stages.LLM_CHOICE)}


def summed(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Numbers of several runs added up; texts as in the first, None where any part has None."""
    return {name: _total([part[name] for part in parts]) for name in parts[0]}


def averaged(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means of numbers of several runs; None where any part has None."""
    totals = {name: _total([part[name] for part in parts]) for name in parts[0]}
    return {name: total / len(parts) if isinstance(total, int | float) else total for name, total in totals.items()}


def _total(values: Sequence[Any]) -> Any:
    if any(value is None for value in values):
        return None
    return values[0] if isinstance(values[0], str) else sum(values)
