"""`sample(requests) -> answers`: every answer comes from the store, or goes into it before anything uses it."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from hydrajax import progress
from hydrajax.llm import models, request, store

Bar = Callable[[str], contextlib.AbstractContextManager[progress.Advance]]


@dataclasses.dataclass(kw_only=True)
class Usage:
    """What was asked of the LLM so far. `calls` were sent, `cached` were read from the store; tokens of both apart."""

    calls: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def add(self, answer: request.Answer) -> None:
        if answer.cached:
            self.cached += 1
        else:
            self.calls += 1
            self.input_tokens += answer.input_tokens
            self.output_tokens += answer.output_tokens


@runtime_checkable
class Sampler(Protocol):
    """What strategies and methods need of an LLM."""

    model: str
    usage: Usage

    def sample(self, requests: Sequence[request.Request], *, stage: str) -> list[request.Answer]:
        """One answer per request, in order. Equal requests (content and sample number) get one answer."""
        ...


class StoredSampler:
    """Answers from the store; the rest from a transport, a bounded number at once, each stored as it arrives.

    Args:
      transport: the way to the LLM.
      answers: the store.
      bar: makes a progress bar for a stage.
    """

    def __init__(self, transport: request.Transport, answers: store.Store, *, bar: Bar = progress.bar):
        self.model = transport.model
        self.usage = Usage()
        self._transport = transport
        self._store = answers
        self._bar = bar
        self._runner: asyncio.Runner | None = None

    def sample(self, requests: Sequence[request.Request], *, stage: str) -> list[request.Answer]:
        """See `Sampler.sample`.

        Raises:
          request.LLMError: a request failed for good. Nothing more is sent then; what had been sent is awaited and
            stored, so that a repeated call goes on from there.
        """
        keys = [(request.key(self.model, r), r.sample) for r in requests]
        answers = dict(self._store.get_many(keys))
        for answer in answers.values():
            self.usage.add(answer)
        missing = {k: r for k, r in zip(keys, requests, strict=True) if k not in answers}
        if missing:
            # Requests with the same beginning go one after another, so that the server's prompt cache pays.
            missing = dict(sorted(missing.items(), key=lambda item: _order(item[1])))
            if self._runner is None:
                self._runner = asyncio.Runner()
            with self._bar(stage) as advance:
                self._runner.run(self._send(missing, answers, advance))
        return [answers[k] for k in keys]

    async def _send(
        self,
        missing: Mapping[tuple[str, int], request.Request],
        answers: dict[tuple[str, int], request.Answer],
        advance: progress.Advance,
    ) -> None:
        waiting = iter(missing.items())
        failures: list[Exception] = []
        done = 0

        async def work() -> None:
            nonlocal done
            for (row_key, sample), wanted in waiting:
                try:
                    answer = await self._transport.complete(wanted)
                except request.LLMError as error:
                    failures.append(error)
                    return
                answers[row_key, sample] = self._store.put(row_key, sample, self.model, answer)
                self.usage.add(answer)
                done += 1
                advance(done, len(missing))
                if failures:
                    return

        await asyncio.gather(*(work() for _ in range(min(self._transport.parallel, len(missing)))))
        if failures:
            raise request.LLMError(
                f"{failures[0]} ({done} of {len(missing)} answers were received and stored; run again to go on)"
            ) from failures[0]

    def close(self) -> None:
        """Stops the transport, and with it an embedded server."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        self._runner.run(self._transport.close())
        self._runner.close()
        self._runner = None


def _order(wanted: request.Request) -> tuple[str, ...]:
    turns = (wanted.system or "", *(message.text for message in wanted.messages))
    return (*turns, str(wanted.temperature), f"{wanted.sample:06d}")


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

    `fresh_input_tokens` leaves out the prefix that a request shares with the one sent before it, as a server with a
    prompt cache does.
    """

    def __init__(self, model: str, answers: store.Store):
        self.model = model
        self.usage = Usage()
        self.stages: dict[str, StagePlan] = {}
        self._store = answers
        self._planned: set[tuple[str, int]] = set()
        self._previous = ""

    def sample(self, requests: Sequence[request.Request], *, stage: str) -> list[request.Answer]:
        """See `Sampler.sample`; a request without a stored answer gets a placeholder of half the allowed length."""
        plan = self.stages.setdefault(stage, StagePlan())
        keys = [(request.key(self.model, r), r.sample) for r in requests]
        stored = self._store.get_many(keys)
        answers: dict[tuple[str, int], request.Answer] = {}
        # In the order in which they would be sent, since that decides what the prompt cache saves.
        for k, wanted in sorted(zip(keys, requests, strict=True), key=lambda pair: _order(pair[1])):
            if k in answers:
                continue
            if k in stored:
                answers[k] = stored[k]
                plan.cached += k not in self._planned
                self._planned.add(k)
                continue
            answer = request.Answer(
                # Different answers, since prompts that are made of answers differ as well.
                text=" ".join([f"{k[0][:6]}-{wanted.sample}", *["word"] * (wanted.max_tokens // 2 - 1)]),
                stop_reason="end_turn",
                input_tokens=request.estimate_input_tokens(wanted),
                output_tokens=max(1, wanted.max_tokens // 2),
            )
            answers[k] = answer
            if k not in self._planned:
                self._planned.add(k)
                plan.calls += 1
                plan.input_tokens += answer.input_tokens
                plan.fresh_input_tokens += self._fresh_tokens(wanted)
                plan.output_tokens += answer.output_tokens
        return [answers[k] for k in keys]

    def cost(self) -> float | None:
        """US dollars of all stages, None where the model's price is unknown."""
        row = models.find(self.model)
        return row.cost(
            sum(s.input_tokens for s in self.stages.values()), sum(s.output_tokens for s in self.stages.values())
        )

    def _fresh_tokens(self, wanted: request.Request) -> int:
        text = "\n".join(message.text for message in wanted.messages)
        shared = 0
        for a, b in zip(text, self._previous, strict=False):
            if a != b:
                break
            shared += 1
        self._previous = text
        return request.count_tokens(text[shared:]) + 5

    def close(self) -> None:
        """Nothing was opened."""
