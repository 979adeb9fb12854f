"""What tests of Message Batches share."""

import asyncio
import collections
import contextlib
import socket

import pytest

from hydrajax.llm import batches, budget, in_batches, messages, request, sampler
from tests.llm.faults import digest

DEAD = f"{socket.gethostname()}/999999999/1.00"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(in_batches, "backoff", lambda attempt, rng: 0.01)


def way_to(server, model="m", kind=batches.Batches, **rest):
    return kind(model, base_url=server.url, api_key="k", **({"poll_seconds": 0.02} | rest))


@pytest.fixture
def make(answers):
    """Makes a sampler over the test's store, and closes it."""
    with contextlib.ExitStack() as stack:

        def build(server, *, way=None, model="m", limit=None, **rest):
            built = sampler.StoredSampler(
                way or way_to(server, model, **rest), answers, budget=limit or budget.Budget()
            )
            stack.callback(built.close)
            return built

        yield build


def asked(ask, count, samples=1, **rest):
    return [ask(f"q{i}", sample=sample, **rest) for i in range(count) for sample in range(samples)]


def keyed(wanted, model="m"):
    return [((request.key(model, r), r.sample), r) for r in wanted]


def once(wanted, model="m"):
    return collections.Counter(digest(messages.body(model, model, r)) for r in wanted)


def submitted(server, wanted, model="m"):
    async def submit():
        way = way_to(server, model)
        try:
            return await way.submit(keyed(wanted, model))
        finally:
            await way.close()

    return asyncio.run(submit())


def left_behind(answers, wanted, name="x", model="m", batch_id=None):
    """What a process that was killed leaves behind."""
    answers.begin_batch(f"{DEAD}#{name}", model, [key for key, _ in keyed(wanted, model)])
    if batch_id is not None:
        answers.name_batch(f"{DEAD}#{name}", batch_id)


def is_clean(answers):
    counts = [answers.execute(f"select count(*) from {table}").fetchone()[0] for table in ("claims", "batches")]
    return counts == [0, 0]
