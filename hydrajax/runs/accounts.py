"""What a run takes: the time of its stages, what it asked of LLMs or would ask, and what a new user costs."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hydrajax.evaluation import roster
from hydrajax.llm import models, planner, sampler
from hydrajax.methods import llm_stages
from hydrajax.methods.lab import Lab

_TRIALS = (llm_stages.PARAPHRASES, llm_stages.RECORD_TRIALS)
_ZERO, _SHOWN, _ASKED = llm_stages.ZERO_SHOT_LEARNED, llm_stages.SHOWN_LEARNED, llm_stages.RERANKED_ASKED

# Stages that a method needs, and the share of each: hydra_reranker asks for one answer where hydra asks for b + 1.
_OWN_POOLS: Mapping[str, Sequence[str]] = {
    **{name: (llm_stages.learned(name, "whole"), llm_stages.notes(name), name) for name in roster.PROMPTS},
    "hydra_reranker": (*_TRIALS, _ASKED),
    "hydra_adapter": (llm_stages.PARAPHRASES, _ZERO, llm_stages.ZERO_SHOT_ASKED),
    "hydra": (*_TRIALS, _SHOWN, _ASKED),
}


@dataclasses.dataclass(frozen=True)
class Clock:
    """Times stages and says when one is done."""

    say: Callable[[str], None]
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    start: float = dataclasses.field(default_factory=time.monotonic)

    @property
    def total(self) -> float:
        """Seconds since the clock was made."""
        return time.monotonic() - self.start

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times what is done inside."""
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 2)
        self.say(f"{name}: {self.seconds[name]:.1f} s")


def llm(sampled: sampler.Sampler) -> dict[str, Any]:
    """What was asked so far, as `results.json` has it."""
    usage = dataclasses.asdict(sampled.usage)
    del usage["cache_read"]
    return usage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """What all trainings of bases take together.

    Attributes:
      fits: how many.
      examples: in an epoch of each, all together; at most, since what is alike teaches nothing.
      epochs: of each.
      tokens: that go through a base while it learns, forwards; None where its tokenizer cannot be had.
      seconds: the least and the most; None where they are not known.
    """

    fits: int
    examples: int
    epochs: int
    tokens: int | None = None
    seconds: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would ask for.

    Attributes:
      model: the LLM's name.
      stages: by stage.
      tokens: of prompts and answers together, the least and the most, by what answers will decide.
      cost_usd: None where no price is known.
      seconds: estimate of the time in calls, by stage.
      calls: the least and the most, likewise.
      asking_on: strategies that ask on by what answers say, which no count can know.
      training: of bases, where any is trained.
    """

    model: str
    stages: dict[str, planner.StagePlan]
    tokens: tuple[int, int]
    cost_usd: float | None
    seconds: Mapping[str, float]
    calls: tuple[int, int]
    asking_on: tuple[str, ...] = ()
    training: Training | None = None


def plan(counting: planner.Planner, *, parallel: int, batch: bool) -> Plan:
    """What a planner has counted.

    Args:
      counting: after everything was asked of it.
      parallel: requests under way at once.
      batch: whether they go in Message Batches, at half the price.
    """
    return Plan(
        model=counting.model,
        stages=counting.stages,
        tokens=(counting.tokens, counting.tokens),
        cost_usd=counting.cost(batch=batch),
        seconds={
            name: models.seconds(counting.model, s.calls, s.fresh_input_tokens, s.output_tokens, parallel=parallel)
            for name, s in counting.stages.items()
        },
        calls=(counting.calls, counting.calls),
    )


def new_user(lab: Lab, user_ids: Sequence[str]) -> dict[str, dict[str, float | None]]:
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
    costs = {}
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
        costs[method] = {**mean, "cost_usd": price.cost(mean["input_tokens"], mean["output_tokens"])}
    return costs


def _union(strategies: Sequence[str]) -> dict[str, Sequence[str]]:
    """What the union's methods ask for: all sources learn of the user, answer the user's records, and the queries."""
    if not strategies:
        return {}
    needed = [llm_stages.PARAPHRASES]
    for name in strategies:
        asked = [llm_stages.union_learned(name), llm_stages.union_asked(name)]
        needed += [
            llm_stages.learned(name, "whole"),
            llm_stages.learned(name, "half"),
            *map(llm_stages.notes, asked),
            *asked,
        ]
    return {"union": needed, "llm_choice": (*needed, llm_stages.LLM_CHOICE)}


def summed(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Numbers of several runs added up; texts as in the first, None where any part has None."""
    return {name: _total([part[name] for part in parts]) for name in parts[0]}


def averaged(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means of numbers of several runs; None where any part has None."""
    return {
        name: total / len(parts) if isinstance(total, int | float) else total for name, total in summed(parts).items()
    }


def _total(values: Sequence[Any]) -> Any:
    if any(value is None for value in values):
        return None
    return values[0] if isinstance(values[0], str) else sum(values)
