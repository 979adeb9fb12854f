"""`sample(requests) -> answers`: every answer comes from the store, or goes into it before anything uses it.

How an answer is had (one by one, in batches, from the embedded server) is the transport's business; nothing above
this module knows.
"""

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from hydrajax import progress
from hydrajax.llm import batches, direct, in_batches, request, store
from hydrajax.llm.background import Background
from hydrajax.llm.budget import Account, Budget
from hydrajax.llm.job import Job
from hydrajax.llm.rate_limit import RateLimiter
from hydrajax.llm.usage import Usage

_log = logging.getLogger(__name__)
Bar = Callable[[str], contextlib.AbstractContextManager[progress.Advance]]


answers_bar = functools.partial(progress.bar, unit="answers")


@runtime_checkable
class Sampler(Protocol):
    """What strategies and methods need of an LLM."""

    model: str
    usage: Usage

    def sample(self, requests: Sequence[request.Request], *, stage: str) -> list[request.Answer]:
        """One answer per request, in order. Equal requests (content and sample number) get one answer."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of requests.

    Attributes:
      answers: one a request, in order; None where there is none.
      failures: position of a request -> why it never will be answered.
    """

    answers: list[request.Answer | None]
    failures: Mapping[int, request.LLMError]


class StoredSampler:
    """Answers from the store; the rest from a transport, each stored as it arrives.

    Args:
      budget: what may be spent by this sampler.
      beside: another LLM's sampler, which spends of the same budget.
    """

    def __init__(
        self,
        transport: request.Transport,
        answers: store.Store,
        *,
        budget: Budget = Budget(),  # noqa: B008 (frozen)
        beside: "StoredSampler | None" = None,
    ):
        self.model = transport.model
        self.usage = Usage(model=transport.model)
        self._transport = transport
        self._batches = transport if isinstance(transport, batches.Batches) and transport.sends else None
        self.store = answers
        self._account: Account = Account(budget, transport.model, beside=None if beside is None else beside._account)
        # Money set aside for batches, and the batches of this run, are those of all of its jobs.
        self._job = functools.partial(
            Job, store=answers, usage=self.usage, account=self._account, reserved=set(), submitted=set()
        )
        self._limiter: RateLimiter | None = None
        self._background = Background()

    def sample(self, requests: Sequence[request.Request], *, stage: str) -> list[request.Answer]:
        """See `Sampler.sample`.

        Raises:
          request.Stopped: a budget is spent.
          request.LLMError: a request failed for good, after everything else was done; or every request would fail, and
            then nothing more is sent. What had been sent is awaited and stored, so a repeated call goes on from there.
          KeyboardInterrupt: likewise; a second one does not wait for what is under way.
        """
        outcome = self.sample_all(requests, stage=stage)
        if outcome.failures:
            done, failed = sum(answer is not None for answer in outcome.answers), len(outcome.failures)
            first = outcome.failures[min(outcome.failures)]
            many = "" if failed == 1 else f"{failed} requests failed for good, the first: "
            raise request.LLMError(
                f"{many}{first} ({done} of {len(requests)} answers are stored; run again to try the rest)"
            ) from first
        return [answer for answer in outcome.answers if answer is not None]

    def submit(self, requests: Sequence[request.Request]) -> None:
        """Submits what is missing as batches and does not wait for results: `sample_all` does, afterwards.

        So that the batches of many portions are under way together. What cannot be submitted now, `sample_all` submits.
        Other transports do nothing.
        """
        if self._batches is None:
            return
        wanted = {(request.key(self.model, r), r.sample): r for r in requests}
        stored = self.store.get_many(wanted)
        missing = {k: r for k, r in wanted.items() if k not in stored}
        job = self._job(wanted=missing, answers={}, advance=progress.silent)
        self._run(job, in_batches.send(job, self._batches, wait_for_results=False))

    def sample_all(self, requests: Sequence[request.Request], *, stage: str, bar: Bar = answers_bar) -> Outcome:
        """`sample`, with requests that failed for good listed instead of raised.

        Args:
          requests: what is asked.
          stage: named in progress.
          bar: makes a progress bar for the stage.

        Raises:
          request.Stopped, request.LLMError, KeyboardInterrupt: as in `sample`, but for such failures.
        """
        keys = [(request.key(self.model, r), r.sample) for r in requests]
        answers = dict(self.store.get_many(keys))
        for answer in answers.values():
            self.usage.add(answer)
        missing = {k: r for k, r in zip(keys, requests, strict=True) if k not in answers}
        failures: Mapping[store.Key, request.LLMError] = {}
        if missing:
            with bar(stage) as advance:
                job = self._job(wanted=missing, answers=answers, advance=advance)
                self._run(job, self._send(job))
            if job.stop is not None:
                raise _error(job) from job.fatal
            failures = job.failures
        return Outcome(
            answers=[answers.get(k) for k in keys],
            failures={i: failures[k] for i, k in enumerate(keys) if k in failures},
        )

    def close(self) -> None:
        """Stops the transport, and with it an embedded server."""
        self._background.run(self._transport.close())
        self._background.close()

    def _run(self, job: Job, work: Coroutine[Any, Any, None]) -> None:
        def interrupted() -> None:
            job.stop = "it was interrupted"
            if self._batches is not None:
                _log.warning("interrupted: batches that were submitted go on; the same command takes their answers")
            else:
                _log.warning("interrupted: what is under way is waited for, a second interrupt breaks it off")
            if self._limiter is not None:
                self._limiter.wake()

        self._background.run(work, interrupted=interrupted)

    async def _send(self, job: Job) -> None:
        if self._batches is not None:
            await in_batches.send(job, self._batches)
            return
        if self._limiter is None:
            self._limiter = RateLimiter(self._transport.parallel)
        await direct.send(job, self._transport, self._limiter)


def _error(job: Job) -> request.LLMError:
    """Why a job was stopped, and what is stored all the same."""
    received = len(job.wanted) - len(job.missing()) - len(job.failures)
    left = f"{received} of {len(job.wanted)} answers that were missing were received and stored"
    if job.fatal is not None:
        return request.LLMError(f"{job.fatal} ({left}; run again to go on)")
    return request.Stopped(f"{job.stop}: {left}, {len(job.missing())} are left; the same command goes on")
