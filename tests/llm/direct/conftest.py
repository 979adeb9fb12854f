"""What tests of requests one by one share."""

import contextlib

import pytest

from hydrajax.llm import batches, direct, messages, sampler
from tests.llm.faults import Faults, digest

SECRET = "sk-ant-secret-of-this-test"
SIX = ("rate_limited", "rate_limited_bare", "overloaded", "server_error", "dropped", "invalid_json")
FAULTS = Faults(**dict.fromkeys(SIX, 0.05), retry_after=0.01)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(direct, "backoff", lambda attempt, rng: 0.01)


@pytest.fixture
def make(answers):
    """Makes a sampler over the test's store, and closes it."""
    with contextlib.ExitStack() as stack:

        def build(server, *, model="m", parallel=64, **rest):
            transport = batches.Batches(model, sends=False, base_url=server.url, api_key=SECRET, parallel=parallel)
            built = sampler.StoredSampler(transport, answers, **rest)
            stack.callback(built.close)
            return built

        yield build


def asked(ask, count, samples=1, **rest):
    return [ask(f"q{i}", sample=sample, **rest) for i in range(count) for sample in range(samples)]


def digest_of(wanted, model="m"):
    return digest(messages.body(model, model, wanted))
