"""Message Batches after a crash: what was submitted is found, and is not submitted again."""

import asyncio
import contextlib
import os
import signal
import time

import pytest

from hydrajax.llm import batches, in_batches, request
from tests.llm import processes
from tests.llm.fault_server import FaultServer
from tests.llm.in_batches.conftest import asked, is_clean, keyed, left_behind, once, submitted, way_to


@pytest.mark.slow
def test_a_run_killed_after_it_submitted_takes_its_batches_up_again(make, ask, answers):
    wanted = asked(ask, 25)
    with FaultServer(batch_seconds=0.6) as server:
        with processes.samplers(1, server, answers.path, 25, batches=True) as (run,):
            while sum(batch.id is not None for batch in answers.batches()) < 3:
                time.sleep(0.002)
            os.kill(run.pid, signal.SIGKILL)
            run.wait()
        assert len(answers) == 0
        llm = make(server)
        assert len(llm.sample(wanted, stage="s")) == 25
        assert len(server.batches) == 3 and server.bodies == once(wanted)
    assert is_clean(answers)


@pytest.mark.slow
def test_two_processes_over_one_store_submit_every_request_once(ask, answers):
    wanted = asked(ask, 40)
    with FaultServer(batch_seconds=0.1) as server:
        with processes.samplers(2, server, answers.path, 40, batches=True) as runs:
            for run in runs:
                out, error = run.communicate(timeout=60)
                assert run.returncode == 0, error
                assert sum(int(word) for word in out.split()) == 40
        assert server.bodies == once(wanted)
    assert is_clean(answers)


def test_killed_between_submission_and_noting_the_id_the_batch_is_found(make, ask, answers):
    wanted = asked(ask, 9)
    with FaultServer(batch_seconds=0.1) as server:
        left_behind(answers, wanted[:5])
        submitted(server, wanted[:5])
        make(server).sample(wanted, stage="s")
        assert server.bodies == once(wanted)
        assert sorted(map(len, server.batches.values())) == [4, 5]
    assert is_clean(answers)


def test_killed_before_submission_the_requests_are_submitted(make, ask, answers):
    wanted = asked(ask, 9)
    with FaultServer() as server:
        left_behind(answers, wanted[:5])
        make(server).sample(wanted, stage="s")
        assert server.bodies == once(wanted)
    assert is_clean(answers)


def test_two_batches_of_one_size_without_ids_are_both_found(make, ask, answers):
    """Two processes were killed, or one machine went down with both."""
    wanted = asked(ask, 10)
    with FaultServer() as server:
        for name, part in (("x", wanted[:5]), ("y", wanted[5:])):
            left_behind(answers, part, name)
            submitted(server, part)
        make(server).sample(wanted, stage="s")
        assert server.bodies == once(wanted)
        assert len(server.batches) == 2


@pytest.mark.parametrize("noted", [True, False])
def test_a_batch_of_one_size_of_somebody_else_is_not_taken_for_it(make, ask, answers, noted):
    """Another model's, which this store knows of; or another store's of the same account. Both came later."""
    wanted, others = asked(ask, 5), asked(ask, 5, max_tokens=8)
    with FaultServer() as server:
        left_behind(answers, wanted)
        submitted(server, wanted)
        other = submitted(server, others, model="n")
        if noted:
            left_behind(answers, others, "y", "n", other)
        make(server).sample(wanted, stage="s")
        assert server.bodies == once(wanted) + once(others, "n")


def test_a_batch_that_the_server_no_longer_knows_is_submitted_again(make, ask, answers):
    """Results are kept for 29 days, and a batch may be deleted."""
    wanted = asked(ask, 4)
    with FaultServer() as server:
        left_behind(answers, wanted, batch_id="msgbatch_of_last_month")
        # A young one is another account's: submitted again, it would be paid for twice.
        with pytest.raises(request.LLMError, match="does not know batch msgbatch_of_last_month.*gc --batches"):
            make(server).sample(wanted, stage="s")
        assert not server.batches
        answers.execute("update batches set created = created - ?", [batches.KEPT_SECONDS])
        assert len(make(server).sample(wanted, stage="s")) == 4
        assert server.bodies == once(wanted)


class Unsure(batches.Batches):
    """The first submission arrives, but its answer does not; nor does that of the first look for it."""

    arrives = True
    lost = 1

    async def submit(self, requests):
        if self.lost:
            self.lost -= 1
            self.looks = 1
            if self.arrives:
                await super().submit(requests)
            raise request.Transient("m: no connection to the server", kind="connection")
        return await super().submit(requests)

    async def find(self, batch, known):
        if self.looks:
            self.looks -= 1
            raise request.Transient("m: no connection to the server", kind="connection")
        return await super().find(batch, known)


class Surely(Unsure):
    """The look itself succeeds."""

    async def find(self, batch, known):
        return await batches.Batches.find(self, batch, known)


@pytest.mark.parametrize("kind", [Unsure, Surely])
@pytest.mark.parametrize("arrives", [True, False])
def test_a_submission_without_an_answer_is_looked_for_before_it_is_repeated(make, ask, answers, kind, arrives):
    wanted = asked(ask, 4)
    with FaultServer() as server:
        way = way_to(server, kind=kind)
        way.arrives = arrives
        assert len(make(server, way=way).sample(wanted, stage="s")) == 4
        assert len(server.batches) == 1 and server.bodies == once(wanted)
    assert is_clean(answers)


def test_a_repeated_call_in_one_process_does_not_wait_for_its_own_failed_submission(make, ask, monkeypatch):
    wanted = asked(ask, 4)
    with FaultServer() as server:
        way = way_to(server, kind=Unsure)
        llm = make(server, way=way)
        with contextlib.suppress(request.LLMError):
            llm.sample(wanted, stage="s")

        async def hurry(job, seconds):
            hurry.left -= 1
            if hurry.left < 0:
                job.stop = "waiting for ever"
            await asyncio.sleep(0.002)

        hurry.left = 100
        monkeypatch.setattr(in_batches, "_sleep", hurry)
        assert len(llm.sample(wanted, stage="s")) == 4


def test_a_submission_of_another_machine_is_trusted_for_some_hours(make, ask, answers, monkeypatch):
    wanted = asked(ask, 4)
    answers.begin_batch("elsewhere/1/1.00#x", "m", [key for key, _ in keyed(wanted)])
    waited = []

    async def later(job, seconds):
        waited.append(seconds)
        if len(waited) == 3:
            answers.execute("update batches set created = created - ?", [batches.SUBMITTED_WITHIN])

    monkeypatch.setattr(in_batches, "_sleep", later)
    with FaultServer() as server:
        assert len(make(server).sample(wanted, stage="s")) == 4
        assert server.bodies == once(wanted) and len(waited) >= 3
