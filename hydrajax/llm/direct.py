"""Requests sent one by one: as many at once as the server takes, each repeated until it is answered or hopeless."""

import asyncio
import contextlib

from hydrajax.llm import in_batches, models, request
from hydrajax.llm.job import Job
from hydrajax.llm.queue import Queue
from hydrajax.llm.rate_limit import Pace, backoff
from hydrajax.llm.request import Answer, LLMError, Rejected, Transient, Transport
from hydrajax.llm.store import Key

ATTEMPTS = 10
FIRST_ATTEMPTS = 3  # where no request was answered so far
ALL_REJECTED = 100  # and none answered: then it is the settings, not the requests
COMPLAINTS = 100  # a server that is busy is waited for longer than one that fails
LOOK = 0.2  # seconds between two looks at requests that another process has sent


async def send(job: Job, transport: Transport, pace: Pace) -> None:
    """Sends what is missing; returns when all is answered or given up, or the job was stopped."""
    row = models.find(job.model)

    def warms(wanted: request.Request) -> bool:
        return row.cache_minimum is not None and request.estimate_input_tokens(wanted) >= row.cache_minimum

    queue = Queue({key: job.wanted[key] for key in job.missing()}, in_turn=transport.in_turn, warms=warms)
    elsewhere: dict[Key, str] = {}
    looks = in_batches.Looks()
    under_way: set[asyncio.Task[None]] = set()
    wake = asyncio.Event()

    def finished(task: asyncio.Task[None]) -> None:
        under_way.discard(task)
        wake.set()
        if not task.cancelled() and task.exception() is not None:
            job.stop, job.fatal = "an error", LLMError(f"{type(task.exception()).__name__}: {task.exception()}")

    try:
        while not job.stop:
            key = queue.pop()
            if key is None:
                if not (under_way or elsewhere or len(queue)):
                    break
                await _rest(wake, LOOK if elsewhere else 1.0, queue.wait())
                await _look(job, queue, elsewhere, transport, looks)
                continue
            there = job.store.claim(key)
            if isinstance(there, Answer):
                _arrived(job, queue, key, there)
                continue
            if there is not None:
                elsewhere[key] = there
                continue
            limit = job.account.reserve(job.wanted[key])
            if limit is not None:
                queue.later(key, 0.0)
                if under_way:  # what they cost less than was set aside may do for this one
                    await _rest(wake, 1.0, None)
                    continue
                job.stop = f"the budget of {limit} is spent"
                break
            if not await pace.enter(lambda: bool(job.stop)):
                job.account.settle(job.wanted[key], None)
                break
            task = asyncio.create_task(_attempt(job, transport, pace, queue, key))
            under_way.add(task)
            task.add_done_callback(finished)
        if under_way:
            await asyncio.wait(under_way)
    except asyncio.CancelledError:
        for task in under_way:
            task.cancel()
        raise
    finally:
        job.store.release(job.missing())
        job.flush()


def _arrived(job: Job, queue: Queue, key: Key, answer: Answer) -> None:
    queue.done(key)
    job.received(key, answer)


async def _attempt(job: Job, transport: Transport, pace: Pace, queue: Queue, key: Key) -> None:
    wanted, answer = job.wanted[key], None
    try:
        answer = await transport.complete(wanted)
        pace.answered(transport.limits)
    except Transient as error:
        job.note(error.kind)
        job.attempts[key] += 1
        busy = error.kind in ("rate_limited", "overloaded")
        if busy:
            pace.complained(error.retry_after, limited=error.kind == "rate_limited")
        if error.kind in ("connection", "invalid") and not job.usage.calls and job.attempts[key] >= FIRST_ATTEMPTS:
            job.stop, job.fatal = "an error", error  # nobody is there, or somebody else
            queue.later(key, 0.0)
        elif job.attempts[key] >= (COMPLAINTS if busy else ATTEMPTS):
            _give_up(job, queue, key, error)
        else:
            wait = backoff(job.attempts[key], job.rng) if error.retry_after is None else error.retry_after
            queue.later(key, wait)
    except Rejected as error:
        job.note("rejected")
        _give_up(job, queue, key, error)
        if not job.usage.calls and len(job.failures) >= ALL_REJECTED:
            job.stop, job.fatal = f"the first {ALL_REJECTED} requests were all rejected", error
    except LLMError as error:
        job.note("fatal")
        job.stop, job.fatal = "an error", error
    finally:
        pace.leave()
        job.account.settle(wanted, answer)
        if answer is not None:
            _arrived(job, queue, key, answer)


def _give_up(job: Job, queue: Queue, key: Key, error: LLMError) -> None:
    queue.done(key)
    job.failed(key, error)


async def _look(
    job: Job, queue: Queue, elsewhere: dict[Key, str], transport: Transport, looks: in_batches.Looks
) -> None:
    """What became of requests that others are at."""
    owners = {owner for owner in elsewhere.values() if owner.startswith("batch:")}
    due = looks.due() if owners else False
    if due:
        await in_batches.collect(job, transport, owners)
        for key in [key for key in elsewhere if key in job.answers or key in job.failures]:
            del elsewhere[key]
            queue.done(key)
    # What is in a batch may stay there for hours, and be much.
    keys = [key for key, owner in elsewhere.items() if due or not owner.startswith("batch:")]
    for key, there in job.store.claim_many(keys).items():
        if isinstance(there, Answer):
            del elsewhere[key]
            _arrived(job, queue, key, there)
        elif there is None:  # its owner gave up or died
            del elsewhere[key]
            queue.push(key)
        else:
            elsewhere[key] = there


async def _rest(wake: asyncio.Event, most: float, until: float | None) -> None:
    wake.clear()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(wake.wait(), most if until is None else min(most, until))
