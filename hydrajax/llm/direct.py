"""Requests sent one by one: as many at once as the server takes, each repeated until it is answered or hopeless."""

import asyncio
import contextlib
import time

from hydrajax.llm import in_batches, models, request
from hydrajax.llm.job import Job
from hydrajax.llm.queue import Queue
from hydrajax.llm.rate_limit import RateLimiter, backoff
from hydrajax.llm.request import Answer, LLMError, Rejected, Transient, Transport
from hydrajax.llm.store import Key

ATTEMPTS = 10
FIRST_ATTEMPTS = 3  # where no request was answered so far
ALL_REJECTED = 100  # and none answered: then it is the settings, not the requests
COMPLAINTS = 100  # a server that is busy is waited for longer than one that fails
LOOK = 0.2  # seconds between two looks at requests that another process has sent


async def send(job: Job, transport: Transport, limiter: RateLimiter) -> None:
    """Sends what is missing; returns when all is answered or given up, or the job was stopped."""
    row = models.find(job.model)

    def warms(wanted: request.Request) -> bool:
        return row.cache_minimum is not None and request.estimate_input_tokens(wanted) >= row.cache_minimum

    queue = Queue({key: job.wanted[key] for key in job.missing()}, in_turn=transport.in_turn, warms=warms)
    job.ended = queue.done
    next_look, wait = 0.0, in_batches.FIRST_LOOK  # at batches of others: soon at first, then less and less often
    under_way: set[asyncio.Task[None]] = set()
    wake = asyncio.Event()

    def finished(task: asyncio.Task[None]) -> None:
        under_way.discard(task)
        wake.set()
        if not task.cancelled() and task.exception() is not None:
            job.abort(LLMError(f"{type(task.exception()).__name__}: {task.exception()}"))

    try:
        while not job.stop:
            key = queue.pop()
            if key is None:
                if not (under_way or job.elsewhere or len(queue)):
                    break
                await _rest(wake, LOOK if job.elsewhere else 1.0, queue.wait())
                batches = {owner for owner in job.elsewhere.values() if owner.startswith("batch:")}
                due = bool(batches) and time.monotonic() >= next_look
                if due:
                    next_look, wait = time.monotonic() + wait, min(in_batches.LAST_LOOK, 1.5 * wait)
                    await in_batches.collect(job, transport, batches)
                # What is in a batch may stay there for hours, and be much.
                for key in job.claim(k for k, owner in job.elsewhere.items() if due or not owner.startswith("batch:")):
                    queue.push(key)  # its owner gave up or died
                continue
            if not job.claim([key]):
                continue
            limit = job.account.reserve(job.wanted[key])
            if limit is not None:
                queue.later(key, 0.0)
                if under_way:  # what they cost less than was set aside may do for this one
                    await _rest(wake, 1.0, None)
                    continue
                job.stop = f"the budget of {limit} is spent"
                break
            if not await limiter.enter(lambda: bool(job.stop)):
                job.account.settle(job.wanted[key], None)
                break
            task = asyncio.create_task(_attempt(job, transport, limiter, queue, key))
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


async def _attempt(job: Job, transport: Transport, limiter: RateLimiter, queue: Queue, key: Key) -> None:
    answer = None
    try:
        given = await transport.complete(job.wanted[key])
        if not isinstance(given, Answer) or not isinstance(given.text, str):
            raise LLMError(f"{transport.model}: complete gives {given!r:.80}, expected an Answer with a text")
        answer = given
        limiter.answered(transport.limits)
    except Transient as error:
        job.note(error.kind)
        job.attempts[key] += 1
        busy = error.kind in ("rate_limited", "overloaded")
        if busy:
            limiter.complained(error.retry_after, limited=error.kind == "rate_limited")
        if error.kind in ("connection", "invalid") and not job.usage.calls and job.attempts[key] >= FIRST_ATTEMPTS:
            job.abort(error)  # nobody is there, or somebody else
            queue.later(key, 0.0)
        elif job.attempts[key] >= (COMPLAINTS if busy else ATTEMPTS):
            job.failed(key, error)
        else:
            wait = backoff(job.attempts[key], job.rng) if error.retry_after is None else error.retry_after
            queue.later(key, wait)
    except Rejected as error:
        job.note("rejected")
        job.failed(key, error)
        if not job.usage.calls and len(job.failures) >= ALL_REJECTED:
            job.abort(error)
    except LLMError as error:
        job.note("fatal")
        job.abort(error)
    finally:
        limiter.leave()
        job.account.settle(job.wanted[key], answer)
        if answer is not None:
            job.received(key, answer)


async def _rest(wake: asyncio.Event, most: float, until: float | None) -> None:
    wake.clear()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(wake.wait(), most if until is None else min(most, until))
