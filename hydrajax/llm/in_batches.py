"""Requests sent as Message Batches: submitted in chunks, waited for, and resumed by whoever comes later.

What is about to be submitted is noted in the store first, then under the server's id. So after a crash at any moment
the next run either finds the batch by its id, or by its time and size among the server's, or submits it anew because
it never arrived.
"""

import asyncio
import itertools
import logging
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence

from hydrajax.llm import batches as batches_lib
from hydrajax.llm.job import Job
from hydrajax.llm.rate_limit import backoff
from hydrajax.llm.request import Answer, LLMError, Rejected, Transient, Transport
from hydrajax.llm.store import Key, SubmittedBatch, process_lives

_log = logging.getLogger(__name__)
# Intents that this process is submitting at this moment.
_submitting: set[str] = set()

ATTEMPTS = 5
SUBMISSIONS = 10
FAILED_LOOKS = 20  # one after another
BROKEN = 3  # downloads of results that cannot be read to the end
FIRST_SUBMISSIONS = 4  # where the server was never reached
PORTION = 500
FIRST_LOOK, LAST_LOOK = 1.0, 30.0  # seconds between two looks at a batch


async def send(job: Job, transport: batches_lib.Batches, *, wait_for_results: bool = True) -> None:
    """Sends what is missing; returns when all is answered or given up, or the job was stopped.

    Args:
      job: what is wanted.
      transport: where to.
      wait_for_results: False returns when everything is submitted.
    """
    wait, spent = FIRST_LOOK, None
    try:
        while not job.stop:
            # What is in a batch under server is not asked about one by one.
            under_way = {f"batch:{batch.intent}" for batch in job.store.batches()}
            mine = job.claim(key for key in job.missing() if job.elsewhere.get(key) not in under_way)
            if spent is not None:
                job.store.release(mine)  # others may send them
                mine = []
            for chunk in _chunks(job, transport, mine):
                intent = await _submit(job, transport, chunk)
                job.elsewhere.update(dict.fromkeys(chunk, f"batch:{intent}"))
                if job.stop:
                    break
            with_others = set(job.elsewhere.values())
            owners = {owner for owner in with_others if owner.startswith("batch:")}
            if job.stop and job.fatal is None and job.reserved:
                # The budget is spent, but what was submitted for it comes: it is waited for.
                spent, job.stop = job.stop, None
                job.store.release(job.missing())
                continue
            if spent is not None and not owners:
                job.stop = spent
                break
            if not (mine or with_others) or not wait_for_results:
                break
            if owners:
                await collect(job, transport, owners)
            wait = FIRST_LOOK if mine else min(transport.poll_seconds, 1.5 * wait)
            if job.missing() and not job.stop:
                await _sleep(job, min(wait, transport.poll_seconds))
    finally:
        job.store.release(job.missing())
        job.flush()


async def collect(job: Job, transport: Transport, owners: Collection[str]) -> None:
    """Looks at batches, and takes the results of those that have ended.

    Args:
      job: gets the answers that it wants; all are stored.
      transport: to the server that has them; others know no batches.
      owners: `batch:INTENT` of each.
    """
    if not isinstance(transport, batches_lib.Batches):
        return
    for owner in owners:
        intent = owner.removeprefix("batch:")
        try:
            batch_id = await _named(job, transport, intent)
            if batch_id is None:
                continue
            ended = await transport.ended(batch_id)
            if ended is None:
                _unknown(job, intent, batch_id)
            elif ended:
                await _take(job, transport, intent, batch_id)
            job.looks.pop(intent, None)
        except batches_lib.Gone as error:
            _log.warning("%s: its requests are sent again", error)
            keys = job.store.batch_keys(intent)
            job.store.end_batch(intent)
            _failed(job, dict.fromkeys(keys, error))
        except Transient as error:
            job.note(error.kind)
            job.looks[intent] += 1
            if job.looks[intent] == 1:
                _log.warning("batch %s could not be looked at, and will be again: %s", intent.split("#")[-1], error)
            nobody = error.kind == "connection" and not job.usage.calls and job.looks[intent] >= FIRST_SUBMISSIONS
            if nobody or job.looks[intent] >= FAILED_LOOKS:
                job.abort(error)  # the batch goes on, and is found by whoever comes next
        except LLMError as error:
            job.abort(error)


def _unknown(job: Job, intent: str, batch_id: str) -> None:
    """A batch that the server does not know: forgotten where it is old, else most likely another account's."""
    batch = job.store.batch(intent)
    if batch is not None and time.time() - batch.created < batches_lib.KEPT_SECONDS:
        raise LLMError(
            f"{job.model}: the server does not know batch {batch_id}, which was submitted from here; go on with the "
            "key and the address that it was submitted with, or forget it (hydrajax store gc --batches) and pay again"
        )
    _log.warning("the server knows batch %s no longer: its requests are sent again", batch_id)
    job.store.end_batch(intent)


async def _named(job: Job, server: batches_lib.Batches, intent: str) -> str | None:
    """The server's id of a batch; None while its owner is submitting it. One that never arrived is forgotten."""
    batch = job.store.batch(intent)
    if batch is None:
        job.store.end_batch(intent)
        return None
    if batch.id is not None:
        return batch.id
    owner = intent.split("#")[0]
    if intent in _submitting or (
        owner != job.store.owner and process_lives(owner, batch.created, trusted=batches_lib.SUBMITTED_WITHIN)
    ):
        return None
    batch_id = await _find(job, server, batch)
    if batch_id is None:
        job.store.end_batch(intent)
    else:
        job.store.name_batch(intent, batch_id)
    return batch_id


async def _find(job: Job, server: batches_lib.Batches, batch: SubmittedBatch) -> str | None:
    ids = {other.id for other in job.store.batches() if other.id} | job.strangers.get(batch.intent, set())
    return await server.find(batch, frozenset(ids))


async def _submit(job: Job, server: batches_lib.Batches, chunk: Sequence[Key]) -> str:
    """Submits a batch, and returns the store's name for it."""
    intent = f"{job.store.owner}#{uuid.uuid4().hex[:12]}"
    batch = job.store.begin_batch(intent, job.model, chunk)
    _submitting.add(intent)
    try:
        await _submit_noted(job, server, chunk, batch)
    finally:
        _submitting.discard(intent)
    return intent


async def _submit_noted(job: Job, server: batches_lib.Batches, chunk: Sequence[Key], noted: SubmittedBatch) -> None:
    unsure = False
    for attempt in itertools.count(1):
        try:
            # Without an answer, the batch may have been taken all the same: it is looked for before it is sent again.
            batch_id = await _find(job, server, noted) if unsure else None
            unsure = False
            if batch_id is None:
                batch_id = await server.submit([(key, job.wanted[key]) for key in chunk])
                job.submitted.add(batch_id)
            job.store.name_batch(noted.intent, batch_id)
            _log.info("batch %s with %d requests is submitted", batch_id, len(chunk))
            return
        except Transient as error:
            job.note(error.kind)
            unsure = unsure or error.kind in ("timeout", "connection", "invalid")
            nobody = error.kind == "connection" and not job.usage.calls and attempt >= FIRST_SUBMISSIONS
            if attempt >= SUBMISSIONS or nobody or job.stop:
                if not unsure:  # else it is looked for by whoever comes next
                    job.store.end_batch(noted.intent)
                job.abort(error)
                return
            wait = backoff(attempt, job.rng) if error.retry_after is None else error.retry_after
            await _sleep(job, wait)
        except LLMError as error:
            job.store.end_batch(noted.intent)
            job.abort(error)
            return


async def _take(job: Job, server: batches_lib.Batches, intent: str, batch_id: str) -> None:
    keys = {batches_lib.custom_id(key): key for key in job.store.batch_keys(intent)}
    left = set(keys.values())
    strange = bool(left) and batch_id not in job.submitted
    failed: dict[Key, LLMError] = {}
    portion: dict[Key, Answer] = {}
    try:
        async for key, outcome in server.results(batch_id, keys):
            strange = False
            left.discard(key)
            if isinstance(outcome, Answer):
                portion.setdefault(key, outcome)
                if len(portion) >= PORTION:
                    _keep(job, portion)
            else:
                failed.setdefault(key, outcome)
    except Transient as error:
        _keep(job, portion)
        job.broken[intent] += 1
        if error.kind != "invalid" or job.broken[intent] < BROKEN:
            raise
        _log.warning("the results of batch %s stay broken: what cannot be read is sent again", batch_id)
        strange = False
    _keep(job, portion)
    if strange and batch_id not in job.strangers.get(intent, ()):
        # Not one result is ours: a batch of the same time and size, of somebody else.
        job.strangers.setdefault(intent, set()).add(batch_id)
        job.store.name_batch(intent, None)
        return
    job.store.end_batch(intent)
    for key in left:
        failed[key] = Transient(f"{job.model}: a batch ended without a result for a request", kind="missing")
    _failed(job, failed)


def _failed(job: Job, failed: Mapping[Key, LLMError]) -> None:
    """Counts what came to nothing; requests that came to nothing too often, or never will be answered, are given up."""
    for key, error in failed.items():
        if key in job.answers or key not in job.wanted:
            continue
        rejected = isinstance(error, Rejected)
        job.note("rejected" if rejected else getattr(error, "kind", "server"))
        job.attempts[key] += 1
        job.settle(key, None)
        if rejected or job.attempts[key] >= ATTEMPTS:
            job.failed(key, error)


def _keep(job: Job, portion: dict[Key, Answer]) -> None:
    """Stores answers; those that another process has stored meanwhile are not counted as this one's."""
    stored = job.store.get_many(portion)
    job.store.put_many(
        ((key, job.model, answer) for key, answer in portion.items() if key not in stored),
        expected={key: job.expected(key) for key in portion if key in job.wanted},
    )
    for key, answer in portion.items():
        if key in job.wanted and key not in job.answers:
            job.settle(key, answer)
            if key not in stored:
                job.note("answered")
            job.count(key, stored.get(key, answer))
    portion.clear()


def _chunks(job: Job, server: batches_lib.Batches, keys: Sequence[Key]) -> Iterator[list[Key]]:
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
        job.reserved.add(key)
        weight = server.size(job.wanted[key])
        if chunk and (len(chunk) >= server.most_requests or size + weight > batches_lib.MOST_BYTES):
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
