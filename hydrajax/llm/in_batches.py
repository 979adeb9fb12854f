"""Requests sent as Message Batches: submitted in chunks, waited for, and resumed by whoever comes later.

What is about to be submitted is noted in the store first, then under the server's id. So after a crash at any moment
the next run either finds the batch by its id, or by its time and size among the server's, or submits it anew because
it never arrived.
"""

import asyncio
import itertools
import uuid
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from hydrajax.llm import batches as batches_lib
from hydrajax.llm import messages
from hydrajax.llm.job import Job
from hydrajax.llm.pace import backoff
from hydrajax.llm.request import Answer, LLMError, Rejected, Transient, Transport
from hydrajax.llm.store import Batch, Key, process_lives

ATTEMPTS = 5
PORTION = 500


async def send(job: Job, transport: batches_lib.Batches) -> None:
    """Sends what is missing; returns when all is answered or given up, or the job was stopped."""
    try:
        while not job.stop:
            mine: list[Key] = []
            owners: set[str] = set()
            busy = False
            for key in job.missing():
                there = job.store.claim(key)
                if isinstance(there, Answer):
                    job.received(key, there)
                elif there is None:
                    mine.append(key)
                elif there.startswith("batch:"):
                    owners.add(there)
                else:
                    busy = True
            for chunk in _chunks(job, transport, mine):
                await _submit(job, transport, chunk)
                if job.stop:
                    break
            if not (mine or owners or busy):
                break
            if owners:
                await collect(job, transport, owners)
            if job.missing() and not job.stop:
                await _sleep(job, transport.poll_seconds if owners or mine else 0.5)
    finally:
        job.store.release(job.missing())
        job.flush()


async def collect(job: Job, transport: Transport, owners: Collection[str]) -> None:
    """Looks at batches, and takes the results of those that have ended.

    Args:
      job: gets the answers that it wants; all are stored.
      transport: batches, or messages to the same server.
      owners: `batch:INTENT` of each.
    """
    way = transport if isinstance(transport, batches_lib.Batches) else None
    if way is None:
        if not isinstance(transport, messages.Messages):
            return
        way = batches_lib.Batches(transport)
    known = {batch.intent: batch for batch in job.store.batches(job.model)}
    for owner in owners:
        intent = owner.removeprefix("batch:")
        try:
            batch = await _named(job, way, known, intent)
            if batch is not None and batch.id is not None and await way.ended(batch.id):
                await _take(job, way, intent, batch.id)
        except Transient as error:
            job.note(error.kind)  # another look comes anyway
        except LLMError as error:
            job.stop, job.fatal = "an error", error


async def _named(job: Job, way: batches_lib.Batches, known: dict[str, Batch], intent: str) -> Batch | None:
    """The batch with its id; None while its owner is submitting it. One that never arrived is forgotten."""
    batch = known.get(intent)
    if batch is None:
        job.store.end_batch(intent)
        return None
    if batch.id is not None or process_lives(intent.split("#")[0]):
        return batch
    ids = frozenset(other.id for other in known.values() if other.id)
    found = await way.find(batch, ids)
    if found is None:
        job.store.end_batch(intent)
        return None
    job.store.name_batch(intent, found)
    return Batch(intent=intent, id=found, model=batch.model, size=batch.size, created=batch.created)


async def _submit(job: Job, way: batches_lib.Batches, chunk: Sequence[Key]) -> None:
    intent = f"{job.store.owner}#{uuid.uuid4().hex[:12]}"
    job.store.begin_batch(intent, job.model, chunk)
    for attempt in itertools.count(1):
        try:
            batch_id = await way.submit([(key, job.wanted[key]) for key in chunk])
            job.store.name_batch(intent, batch_id)
            return
        except Transient as error:
            job.note(error.kind)
            # Without an answer, the batch may have been taken all the same: it is looked for before it is sent again.
            if error.kind in ("timeout", "connection", "invalid"):
                batch = next(b for b in job.store.batches(job.model) if b.intent == intent)
                ids = frozenset(b.id for b in job.store.batches(job.model) if b.id)
                found = await way.find(batch, ids)
                if found is not None:
                    job.store.name_batch(intent, found)
                    return
            if attempt >= 10 or job.stop:
                job.store.end_batch(intent)
                job.stop, job.fatal = job.stop or "an error", error
                return
            wait = backoff(attempt, job.rng) if error.retry_after is None else error.retry_after
            await _sleep(job, wait)
        except LLMError as error:
            job.store.end_batch(intent)
            job.stop, job.fatal = "an error", error
            return


async def _take(job: Job, way: batches_lib.Batches, intent: str, batch_id: str) -> None:
    keys = {batches_lib.custom_id(key): key for key in job.store.batch_keys(intent)}
    left = set(keys.values())
    failed: dict[Key, LLMError] = {}
    portion: dict[Key, Answer] = {}
    async for key, outcome in way.results(batch_id, keys):
        left.discard(key)
        if isinstance(outcome, Answer):
            portion.setdefault(key, outcome)
            if len(portion) >= PORTION:
                _keep(job, portion)
        else:
            failed.setdefault(key, outcome)
    _keep(job, portion)
    job.store.end_batch(intent)
    for key in left:
        failed[key] = Transient(f"{job.model}: a batch ended without a result for a request", kind="missing")
    for key, error in failed.items():
        if key in job.answers or key not in job.wanted:
            continue
        rejected = isinstance(error, Rejected)
        job.note("rejected" if rejected else getattr(error, "kind", "server"))
        job.attempts[key] += 1
        job.account.settle(job.wanted[key], None, batch=True)
        if rejected or job.attempts[key] >= ATTEMPTS:
            job.failed(key, error)


def _keep(job: Job, portion: dict[Key, Answer]) -> None:
    """Stores answers; those that another process has stored meanwhile are not counted as this one's."""
    there = job.store.get_many(portion)
    job.store.put_many((key, job.model, answer) for key, answer in portion.items() if key not in there)
    for key, answer in portion.items():
        if key in job.wanted and key not in job.answers:
            if key not in there:
                job.account.settle(job.wanted[key], answer, batch=True)
                job.note("answered")
            job.took(key, there.get(key, answer))
    portion.clear()


def _chunks(job: Job, way: batches_lib.Batches, keys: Sequence[Key]) -> Iterator[list[Key]]:
    """Requests in batches within the limits, as far as the budget goes."""
    chunk: list[Key] = []
    size = 0
    for key in keys:
        limit = job.account.reserve(job.wanted[key], batch=True)
        if limit is not None:
            if chunk:
                yield chunk
            job.stop = job.stop or f"the budget of {limit} is spent"
            return
        weight = way.size(job.wanted[key])
        if chunk and (len(chunk) >= way.most_requests or size + weight > batches_lib.MOST_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(key)
        size += weight
    if chunk:
        yield chunk


async def _sleep(job: Job, seconds: float) -> None:
    """Sleeps, but not on when the job is stopped."""
    end = asyncio.get_running_loop().time() + seconds
    while not job.stop and (left := end - asyncio.get_running_loop().time()) > 0:
        await asyncio.sleep(min(left, 0.2))


def under_way(job: Job) -> list[dict[str, Any]]:
    """Batches that go on without this process."""
    return [{"id": batch.id, "requests": batch.size} for batch in job.store.batches(job.model)]
