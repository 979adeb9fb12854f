"""Requests that somebody else is at: another process, one that was killed, or a batch that is under way."""

import asyncio
import collections
import contextlib
import os
import signal
import socket
import threading
import time

import psutil
import pytest

from hydrajax.llm import batches, request, sampler, store
from tests.llm import processes
from tests.llm.direct.conftest import FAULTS, SECRET, asked, digest_of
from tests.llm.fault_server import FaultServer
from tests.llm.faults import Faults


@pytest.mark.slow
def test_two_processes_over_one_store_pay_for_nothing_twice(ask, answers):
    wanted = asked(ask, 60, samples=2)
    with FaultServer(FAULTS, latency=0.005) as server:
        with processes.samplers(2, server, answers.path, 60, samples=2) as runs:
            said = []
            for run in runs:
                out, error = run.communicate(timeout=60)
                assert run.returncode == 0, error
                said.append([int(word) for word in out.split()])
        assert server.bodies == collections.Counter(digest_of(r) for r in wanted)
        assert sum(answers.attempts().values()) == server.requests
    assert said[0][0] + said[1][0] == 120
    assert all(calls + cached == 120 for calls, cached in said)
    assert min(calls for calls, _ in said) > 0  # they really shared the work


@pytest.mark.slow
def test_after_a_kill_at_most_what_was_under_way_is_repeated(make, ask, answers):
    wanted = asked(ask, 40, samples=2)
    with FaultServer(latency=0.03) as server:
        with processes.samplers(1, server, answers.path, 40, samples=2) as (run,):
            while server.answered < 30:
                time.sleep(0.002)
            os.kill(run.pid, signal.SIGKILL)
            run.wait()
        time.sleep(0.05)
        sent, stored = server.requests, len(answers)
        assert 30 - 8 <= stored < 80 and sent - stored <= 8
        llm = make(server)
        llm.sample(wanted, stage="s")
        assert (llm.usage.calls, llm.usage.cached) == (80 - stored, stored)
        assert server.requests - sent == 80 - stored
        assert server.answered - 80 <= 8


def _claimed_elsewhere(answers, wanted, owner=None):
    """As another process that runs on this machine would."""
    parent = psutil.Process(os.getppid())
    owner = owner or f"{socket.gethostname()}/{parent.pid}/{parent.create_time():.2f}"
    for r in wanted:
        answers.execute("insert into claims values (?, ?, ?, ?)", (request.key("m", r), r.sample, owner, time.time()))


def test_what_another_process_is_at_is_waited_for(make, ask, answers):
    wanted = asked(ask, 6)
    _claimed_elsewhere(answers, wanted[:2])
    theirs = request.Answer(text="theirs", stop_reason="end_turn", input_tokens=1, output_tokens=1)

    def other():
        time.sleep(0.3)
        with contextlib.closing(store.Store(answers.path)) as own:
            own.put((request.key("m", wanted[0]), 0), "m", theirs)
            own.execute("delete from claims where key = ?", (request.key("m", wanted[1]),))  # it gave up

    thread = threading.Thread(target=other)
    thread.start()
    with FaultServer() as server:
        llm = make(server)
        found = llm.sample(wanted, stage="s")
        assert found[0].text == "theirs"
        assert server.answered == 5 and server.bodies[digest_of(wanted[0])] == 0
    thread.join()
    assert (llm.usage.calls, llm.usage.cached) == (5, 1)


@pytest.mark.parametrize("number", ["999999999/1.00", "{pid}/1.00"])
def test_claims_of_the_dead_keep_nobody(make, ask, answers, number):
    """No such process; or one of the same number that began at another time."""
    wanted = asked(ask, 4)
    _claimed_elsewhere(answers, wanted, f"{socket.gethostname()}/{number.format(pid=os.getppid())}")
    with FaultServer() as server:
        make(server).sample(wanted, stage="s")
        assert server.answered == 4


class Watched(batches.Batches):
    """Counts looks at batches."""

    looks = 0

    def client(self):
        type(self).looks += 1
        return super().client()


@contextlib.contextmanager
def _batch_of_the_dead(server, answers, wanted, model="m"):
    intent = f"{socket.gethostname()}/999999999/1.00#abc"
    keyed = [((request.key(model, r), r.sample), r) for r in wanted]
    answers.begin_batch(intent, model, [key for key, _ in keyed])
    way = batches.Batches(model, base_url=server.url, api_key=SECRET)

    async def submit():
        try:
            return await way.submit(keyed)
        finally:
            await way.close()

    answers.name_batch(intent, asyncio.run(submit()))
    yield


def test_answers_of_a_batch_under_way_are_taken_and_counted_once(ask, answers, make):
    wanted = asked(ask, 8)
    steps = []

    @contextlib.contextmanager
    def bar(label):
        yield lambda done, total, note="": steps.append((done, total))

    with FaultServer(batch_seconds=0.2) as server, _batch_of_the_dead(server, answers, wanted[:5]):
        llm = make(server)
        llm.sample_all(wanted, stage="s", bar=bar)
        assert server.requests == 3
        assert all(count == 1 for count in server.bodies.values()) and server.answered == 8
    assert llm.usage.calls + llm.usage.cached == 8
    assert steps == [(done, 8) for done in range(1, 9)]


def test_what_a_batch_refused_for_good_is_not_asked_again(ask, answers, make):
    wanted = asked(ask, 4)
    faults = Faults(rejected=lambda body: body["messages"][0]["content"] == "q1")
    with FaultServer(faults) as server, _batch_of_the_dead(server, answers, wanted):
        outcome = make(server).sample_all(wanted, stage="s")
        assert set(outcome.failures) == {1}
        assert server.requests == 0


def test_a_batch_that_takes_long_is_not_asked_after_all_the_time(ask, answers):
    """Batches take up to a day, and looks at them are limited as well."""
    wanted = asked(ask, 2)
    with FaultServer(batch_seconds=1.2) as server, _batch_of_the_dead(server, answers, wanted):
        transport = Watched("m", sends=False, base_url=server.url, api_key=SECRET)
        Watched.looks = 0
        llm = sampler.StoredSampler(transport, answers)
        llm.sample(wanted, stage="s")
        llm.close()
    # One at the beginning, one at the end, and its results: not one every fifth of a second.
    assert Watched.looks <= 5
