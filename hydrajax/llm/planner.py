"""Counts what a run would ask for, instead of asking."""

import dataclasses
import os.path
import re
from collections.abc import Sequence

from hydrajax.llm import models, request, store
from hydrajax.llm.usage import Usage

_PLACEHOLDER = re.compile(r"[0-9a-f]{6}-\d+( the| word)*\.")


@dataclasses.dataclass(kw_only=True)
class StagePlan:
    """What a stage would ask for."""

    calls: int = 0
    cached: int = 0
    input_tokens: int = 0
    fresh_input_tokens: int = 0
    output_tokens: int = 0


class Planner:
    """Counts instead of calling. Stored answers are used, so a plan of a half-finished run shows what is left.

    Tokens are estimated: prompts by `request.estimate_input_tokens`, answers by their limit, both times what the model
    made of them so far (`Store.habits`), or usually does (`models.Model`). `fresh_input_tokens` leaves out the prefix
    that a request shares with the one sent before it, as a server with a prompt cache does.

    Args:
      answers: where those that there are already are read from.
    """

    def __init__(self, model: str, answers: store.Store):
        self.model = model
        self.usage = Usage(model=model)
        self.stages: dict[str, StagePlan] = {}
        self._store = answers
        self._planned: set[tuple[str, int]] = set()
        self._previous = ""
        row = models.find(model)
        habits = answers.habits(model)
        # Habits count what a model thinks, and so do its limits; what is typical says nothing of thinking.
        self._limit = row.limit if habits else lambda max_tokens: max_tokens
        self._read, self._written = habits or (row.tokens_per_estimate, row.filled)

    def sample(self, requests: Sequence[request.Request], *, stage: str) -> list[request.Answer]:
        """See `Sampler.sample`; a request without a stored answer gets a placeholder of its expected length."""
        plan = self.stages.setdefault(stage, StagePlan())
        keys = [(request.key(self.model, r), r.sample) for r in requests]
        stored = self._store.get_many(keys)
        answers: dict[tuple[str, int], request.Answer] = {}
        # In the order in which they would be sent, since that decides what the prompt cache saves.
        for k, wanted in sorted(zip(keys, requests, strict=True), key=lambda pair: request.order(pair[1])):
            if k in answers:
                continue
            if k in stored:
                answers[k] = stored[k]
                plan.cached += k not in self._planned
                self._planned.add(k)
                continue
            length = max(1, round(self._limit(wanted.max_tokens) * self._written))
            answer = request.Answer(
                # Different answers, since prompts that are made of answers differ as well; and sentences, since what
                # is no English sentence is not put into a prompt by a strategy that learns of users.
                text=" ".join([f"{k[0][:6]}-{wanted.sample}", *(["the", "word"] * length)[: length - 1]]) + ".",
                stop_reason="end_turn",
                input_tokens=round(request.estimate_input_tokens(wanted) * self._read),
                output_tokens=length,
            )
            answers[k] = answer
            if k not in self._planned:
                self._planned.add(k)
                plan.calls += 1
                plan.input_tokens += answer.input_tokens
                plan.fresh_input_tokens += self._fresh_tokens(wanted)
                plan.output_tokens += answer.output_tokens
        return [answers[k] for k in keys]

    @property
    def calls(self) -> int:
        """Calls counted so far."""
        return sum(stage.calls for stage in self.stages.values())

    @property
    def tokens(self) -> int:
        """Tokens counted so far, of prompts and answers together."""
        return sum(stage.input_tokens + stage.output_tokens for stage in self.stages.values())

    def cost(self, *, batch: bool = False) -> float | None:
        """US dollars of all stages, None where the model's price is unknown."""
        read = sum(s.input_tokens for s in self.stages.values())
        written = sum(s.output_tokens for s in self.stages.values())
        return models.find(self.model).cost(read, written, batch=batch)

    def _fresh_tokens(self, wanted: request.Request) -> int:
        text = "\n".join(message.text for message in wanted.messages)
        shared = len(os.path.commonprefix([text, self._previous]))
        self._previous = text
        return round(request.estimate_turn_tokens(text[shared:]) * self._read)

    def close(self) -> None:
        """Nothing was opened."""


def is_placeholder(answer: str) -> bool:
    """Whether a planner made up this answer, since there is none yet.

    For what reads answers and asks on by what they say: a placeholder says nothing, and the plan would stop there.
    """
    return _PLACEHOLDER.fullmatch(answer) is not None
