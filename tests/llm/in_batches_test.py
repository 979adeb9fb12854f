"""Message Batches: whatever is killed, left out, given twice or refused, each answer is had and paid for once."""

import asyncio
import collections
import contextlib
import json
import os
import signal
import socket
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydrajax.llm import background, batches, budget, in_batches, messages, request, sampler
from hydrajax.types import Message
from tests.llm import claims, processes
from tests.llm.fault_server import Faults, FaultServer, digest

DEAD = f"{socket.gethostname()}/999999999/1.00"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(in_batches, "backoff", lambda attempt, rng: 0.01)


def _way(server, model="m", kind=batches.Batches, **rest):
    return kind(model, base_url=server.url, api_key="k", **({"poll_seconds": 0.02} | rest))


@pytest.fixture
def make(answers):
    """Makes a sampler over the test's store, and closes it."""
    with contextlib.ExitStack() as stack:

        def build(server, *, way=None, model="m", limit=None, **rest):
            built = sampler.StoredSampler(way or _way(server, model, **rest), answers, budget=limit or budget.Budget())
            stack.callback(built.close)
            return built

        yield build


def _asked(ask, count, samples=1, **rest):
    return [ask(f"q{i}", sample=sample, **rest) for i in range(count) for sample in range(samples)]


def _keyed(wanted, model="m"):
    return [((request.key(model, r), r.sample), r) for r in wanted]


def _once(wanted, model="m"):
    return collections.Counter(digest(messages.body(model, model, r)) for r in wanted)


def _submit(server, wanted, model="m"):
    async def submit():
        way = _way(server, model)
        try:
            return await way.submit(_keyed(wanted, model))
        finally:
            await way.close()

    return asyncio.run(submit())


def _intent(answers, wanted, name="x", model="m", batch_id=None):
    """What a process that was killed leaves behind."""
    answers.begin_batch(f"{DEAD}#{name}", model, [key for key, _ in _keyed(wanted, model)])
    if batch_id is not None:
        answers.name_batch(f"{DEAD}#{name}", batch_id)


def _clean(answers):
    counts = [answers.execute(f"select count(*) from {table}").fetchone()[0] for table in ("claims", "batches")]
    return counts == [0, 0]


# --- the usual course ---


def test_chunks_keep_the_limit_and_every_answer_finds_its_request(make, ask, answers):
    wanted = _asked(ask, 10, samples=3)
    with FaultServer(text=lambda body: f"to {body['messages'][0]['content']}") as server:
        llm = make(server, most_requests=7)
        found = llm.sample(wanted, stage="s")
        assert [answer.text for answer in found] == [f"to {r.messages[0].text}" for r in wanted]
        assert sorted(map(len, server.batches.values())) == [2, 7, 7, 7, 7]
        assert server.bodies == _once(wanted) and server.requests == 0
    assert (llm.usage.calls, llm.usage.cached) == (30, 0)
    assert all(answer.batch for answer in found) and _clean(answers)
    assert answers.attempts() == {"answered": 30}


def test_the_limit_of_bytes_is_kept(make, ask, monkeypatch):
    wanted = _asked(ask, 10)
    monkeypatch.setattr(batches, "MOST_BYTES", 3 * batches.Batches.size(None, wanted[0]) + 1)
    with FaultServer() as server:
        make(server).sample(wanted, stage="s")
        assert sorted(map(len, server.batches.values())) == [1, 3, 3, 3]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50).map(lambda text: text * 40))
@settings(max_examples=40)
def test_a_request_is_not_thought_smaller_than_it_is(text):
    """Beyond the limit the server refuses the whole batch, and would do so again."""
    way = batches.Batches("claude-sonnet-5-5", base_url="http://127.0.0.1:1", api_key="k")
    wanted = request.Request(messages=(Message(role="user", text=text),), max_tokens=9, system=text)
    body = way.body(wanted)
    entry = {"custom_id": "0" * 64, "params": body | body.pop("extra_body", {})}
    assert len(json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode()) <= way.size(wanted)


def test_results_left_out_given_twice_expired_or_errored_are_made_up_for(make, ask, answers):
    wanted = _asked(ask, 80)
    faults = Faults(missing=0.1, duplicated=0.2, expired=0.1, errored=0.1, overloaded=0.1, server_error=0.1)
    with FaultServer(faults) as server:
        llm = make(server, most_requests=40)
        found = llm.sample(wanted, stage="s")
        # Only what the server did not deliver is answered again; what it gave twice is counted once.
        assert server.answered - 80 <= server.by_fault["missing"]
        assert min(server.by_fault[name] for name in ("missing", "duplicated", "expired", "errored")) > 0
    assert len(found) == llm.usage.calls == len(answers) == 80
    assert answers.attempts()["answered"] == 80 and _clean(answers)


def test_what_expires_or_errs_is_not_paid_for_and_asked_again(make, ask):
    wanted = _asked(ask, 60)
    with FaultServer(Faults(expired=0.15, errored=0.15, duplicated=0.3)) as server:
        make(server).sample(wanted, stage="s")
        assert server.bodies == _once(wanted) and len(server.batches) > 1


def test_requests_refused_for_good_are_listed_and_the_others_answered(make, ask, answers):
    wanted = _asked(ask, 6, samples=2)
    faults = Faults(rejected=lambda body: body["messages"][0]["content"] == "q2", duplicated=0.3)
    with FaultServer(faults) as server:
        outcome = make(server).sample_all(wanted, stage="s")
        assert set(outcome.failures) == {4, 5} == {i for i, a in enumerate(outcome.answers) if a is None}
        assert all(isinstance(error, request.Rejected) for error in outcome.failures.values())
        assert len(server.batches) == 1
        make(server).sample_all(wanted, stage="s")
        assert [len(ids) for ids in server.batches.values()] == [12, 2]
    assert _clean(answers)


def test_what_always_expires_is_given_up(make, ask):
    with FaultServer(Faults(expired=1.0)) as server:
        outcome = make(server).sample_all(_asked(ask, 3), stage="s")
        assert set(outcome.failures) == {0, 1, 2} and len(server.batches) == in_batches.ATTEMPTS


# --- after a crash ---


@pytest.mark.slow
def test_a_run_killed_after_it_submitted_takes_its_batches_up_again(make, ask, answers):
    wanted = _asked(ask, 25)
    with FaultServer(batch_seconds=0.6) as server:
        with processes.samplers(1, server, answers.path, 25, batches=True) as (run,):
            while sum(batch.id is not None for batch in answers.batches()) < 3:
                time.sleep(0.002)
            os.kill(run.pid, signal.SIGKILL)
            run.wait()
        assert len(answers) == 0
        llm = make(server)
        assert len(llm.sample(wanted, stage="s")) == 25
        assert len(server.batches) == 3 and server.bodies == _once(wanted)
    assert _clean(answers)


@pytest.mark.slow
def test_two_processes_over_one_store_submit_every_request_once(ask, answers):
    wanted = _asked(ask, 40)
    with FaultServer(batch_seconds=0.1) as server:
        with processes.samplers(2, server, answers.path, 40, batches=True) as runs:
            for run in runs:
                out, error = run.communicate(timeout=60)
                assert run.returncode == 0, error
                assert sum(int(word) for word in out.split()) == 40
        assert server.bodies == _once(wanted)
    assert _clean(answers)


def test_killed_between_submission_and_noting_the_id_the_batch_is_found(make, ask, answers):
    wanted = _asked(ask, 9)
    with FaultServer(batch_seconds=0.1) as server:
        _intent(answers, wanted[:5])
        _submit(server, wanted[:5])
        make(server).sample(wanted, stage="s")
        assert server.bodies == _once(wanted)
        assert sorted(map(len, server.batches.values())) == [4, 5]
    assert _clean(answers)


def test_killed_before_submission_the_requests_are_submitted(make, ask, answers):
    wanted = _asked(ask, 9)
    with FaultServer() as server:
        _intent(answers, wanted[:5])
        make(server).sample(wanted, stage="s")
        assert server.bodies == _once(wanted)
    assert _clean(answers)


def test_two_batches_of_one_size_without_ids_are_both_found(make, ask, answers):
    """Two processes were killed, or one machine went down with both."""
    wanted = _asked(ask, 10)
    with FaultServer() as server:
        for name, part in (("x", wanted[:5]), ("y", wanted[5:])):
            _intent(answers, part, name)
            _submit(server, part)
        make(server).sample(wanted, stage="s")
        assert server.bodies == _once(wanted)
        assert len(server.batches) == 2


@pytest.mark.parametrize("noted", [True, False])
def test_a_batch_of_one_size_of_somebody_else_is_not_taken_for_it(make, ask, answers, noted):
    """Another model's, which this store knows of; or another store's of the same account. Both came later."""
    wanted, others = _asked(ask, 5), _asked(ask, 5, max_tokens=8)
    with FaultServer() as server:
        _intent(answers, wanted)
        _submit(server, wanted)
        other = _submit(server, others, model="n")
        if noted:
            _intent(answers, others, "y", "n", other)
        make(server).sample(wanted, stage="s")
        assert server.bodies == _once(wanted) + _once(others, "n")


def test_a_batch_that_the_server_no_longer_knows_is_submitted_again(make, ask, answers):
    """Results are kept for 29 days, and a batch may be deleted."""
    wanted = _asked(ask, 4)
    with FaultServer() as server:
        _intent(answers, wanted, batch_id="msgbatch_of_last_month")
        # A young one is another account's: submitted again, it would be paid for twice.
        with pytest.raises(request.LLMError, match="does not know batch msgbatch_of_last_month.*gc --batches"):
            make(server).sample(wanted, stage="s")
        assert not server.batches
        answers.execute("update batches set created = created - ?", [batches.KEPT_SECONDS])
        assert len(make(server).sample(wanted, stage="s")) == 4
        assert server.bodies == _once(wanted)


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
    wanted = _asked(ask, 4)
    with FaultServer() as server:
        way = _way(server, kind=kind)
        way.arrives = arrives
        assert len(make(server, way=way).sample(wanted, stage="s")) == 4
        assert len(server.batches) == 1 and server.bodies == _once(wanted)
    assert _clean(answers)


def test_a_repeated_call_in_one_process_does_not_wait_for_its_own_failed_submission(make, ask, monkeypatch):
    wanted = _asked(ask, 4)
    with FaultServer() as server:
        way = _way(server, kind=Unsure)
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


# --- limits and interrupts ---


def test_a_limit_of_calls_is_kept_and_what_was_submitted_is_had(make, ask, answers):
    wanted = _asked(ask, 9)
    with FaultServer(batch_seconds=0.05) as server:
        with pytest.raises(request.Stopped, match="budget of 5 calls is spent"):
            make(server, limit=budget.Budget(calls=5)).sample(wanted, stage="s")
        assert sum(map(len, server.batches.values())) == 5
        llm = make(server)
        llm.sample(wanted, stage="s")
        assert server.bodies == _once(wanted)
    assert _clean(answers)


def test_the_end_of_a_budget_waits_for_the_answers_or_tells_of_their_batch(make, ask, answers):
    with FaultServer(batch_seconds=0.05) as server, pytest.raises(request.Stopped) as caught:
        make(server, limit=budget.Budget(calls=5)).sample(_asked(ask, 9), stage="s")
    assert len(answers) == 5 or "batch" in str(caught.value)


def test_answers_of_an_earlier_process_s_batch_raise_no_limit(make, ask, answers):
    wanted, more = _asked(ask, 10, max_tokens=1000), _asked(ask, 20, max_tokens=100)
    with FaultServer() as server:
        _intent(answers, wanted, batch_id=_submit(server, wanted))
        llm = make(server, limit=budget.Budget(tokens=1000))
        llm.sample(wanted, stage="s")
        with contextlib.suppress(request.Stopped):
            llm.sample(more, stage="s")
        assert sum(map(len, server.batches.values())) - 10 <= 1000 // 100


def test_unfinished_batches_go_on_after_an_interrupt(make, ask, answers, monkeypatch):
    wanted, real, waited = _asked(ask, 6), background._result, []

    def result(future):
        if not waited:
            while not any(batch.id for batch in answers.batches()):
                time.sleep(0.002)
            waited.append(True)
            raise KeyboardInterrupt
        return real(future)

    with FaultServer(batch_seconds=0.4) as server:
        llm = make(server)
        with monkeypatch.context() as patch:
            patch.setattr(background, "_result", result)
            with pytest.raises(KeyboardInterrupt):
                llm.sample(wanted, stage="s")
        assert len(answers) == 0
        make(server).sample(wanted, stage="s")
        assert len(server.batches) == 1 and server.bodies == _once(wanted)


def test_where_every_batch_would_be_refused_it_is_said(make, ask, server, reply):
    server.answer = lambda number, body: reply("no", status=403)
    with pytest.raises(request.LLMError, match="0 of 3 answers"):
        make(server).sample(_asked(ask, 3), stage="s")
    assert len(server.bodies) == 1


@pytest.mark.parametrize("others", [0, 1])  # the two ways in which a server says so
def test_a_batch_whose_results_are_no_longer_kept_is_submitted_again(make, ask, answers, others):
    wanted = _asked(ask, 4)
    with FaultServer() as server:
        old = _submit(server, wanted)
        _intent(answers, wanted, batch_id=old)
        server.archived |= {old, *("!" * others)}
        assert len(make(server).sample(wanted, stage="s")) == 4
        assert len(server.batches) == 2
    assert _clean(answers)


def test_batches_that_never_have_results_are_given_up(make, ask, answers):
    """Neither submitted for ever, nor an error of the whole run."""

    class Empty(batches.Batches):
        async def results(self, batch_id, keys):
            for _ in ():
                yield

    wanted = _asked(ask, 3)
    with FaultServer() as server:
        outcome = make(server, way=_way(server, kind=Empty)).sample_all(wanted, stage="s")
        assert len(server.batches) == in_batches.ATTEMPTS
    assert outcome.answers == [None] * 3 and "without a result" in str(outcome.failures[0])
    assert _clean(answers)


def test_a_submission_of_another_machine_is_trusted_for_some_hours(make, ask, answers, monkeypatch):
    wanted = _asked(ask, 4)
    answers.begin_batch("elsewhere/1/1.00#x", "m", [key for key, _ in _keyed(wanted)])
    waited = []

    async def later(job, seconds):
        waited.append(seconds)
        if len(waited) == 3:
            answers.execute("update batches set created = created - ?", [batches.SUBMITTED_WITHIN])

    monkeypatch.setattr(in_batches, "_sleep", later)
    with FaultServer() as server:
        assert len(make(server).sample(wanted, stage="s")) == 4
        assert server.bodies == _once(wanted) and len(waited) >= 3


def test_plans_learn_from_the_answers_of_batches(make, ask, answers):
    with FaultServer(text=lambda body: "one two three") as server:
        found = make(server).sample(_asked(ask, 60), stage="s")
    read, written = answers.habits("m")
    assert written == sum(answer.output_tokens for answer in found) / (60 * 9)
    assert read == sum(a.input_tokens for a in found) / sum(request.estimate_input_tokens(r) for r in _asked(ask, 60))


def test_requests_in_a_batch_under_way_are_not_asked_about_one_by_one(make, ask, answers, monkeypatch):
    looked, claim_many = [], answers.claim_many
    monkeypatch.setattr(answers, "claim_many", lambda keys: (looked.append(len(keys)), claim_many(keys))[1])
    with FaultServer(batch_seconds=0.2) as server:
        make(server).sample(_asked(ask, 20), stage="s")
    assert looked[0] == 20 and len(looked) > 2 and sum(looked) <= 40


def test_a_server_that_is_gone_ends_the_wait_and_loses_nothing(make, ask, answers, monkeypatch):
    wanted = _asked(ask, 4)
    with FaultServer() as server:
        _intent(answers, wanted, batch_id=_submit(server, wanted))
        nobody = _way(server)
        nobody._settings["base_url"] = "http://127.0.0.1:9"
        with pytest.raises(request.LLMError, match="no connection to the server"):
            make(server, way=nobody).sample(wanted, stage="s")
        make(server).sample(wanted, stage="s")
        assert server.bodies == _once(wanted) and len(server.batches) == 1


def test_results_that_stay_broken_are_taken_as_far_as_they_can_be_read(make, ask, answers):
    wanted = _asked(ask, 6)
    with FaultServer() as server:
        first = _submit(server, wanted)
        _intent(answers, wanted, batch_id=first)
        server.garbled.add(first)
        assert len(make(server).sample(wanted, stage="s")) == 6
        second = [names for name, names in server.batches.items() if name != first]
        assert len(second) == 1 and 0 < len(second[0]) < 6
    assert _clean(answers)


def test_results_that_never_come_down_end_the_wait(make, ask, answers, monkeypatch):
    """The batch has ended each time that it is looked at: that alone is no progress."""
    wanted = _asked(ask, 4)

    class Unreadable(batches.Batches):
        async def results(self, batch_id, keys):
            raise request.Transient("nothing comes down", kind="server")
            yield

    monkeypatch.setattr(in_batches, "FIRST_LOOK", 0.001)
    with FaultServer() as server:
        with pytest.raises(request.LLMError, match="nothing comes down"):
            make(server, way=_way(server, kind=Unreadable)).sample(wanted, stage="s")
        assert len(make(server).sample(wanted, stage="s")) == 4
        assert len(server.batches) == 1


def test_what_another_process_has_stored_is_booked_all_the_same(make, ask, answers):
    """This run has submitted the batch, and pays for it, whoever takes the results out first."""

    class Overtaken(batches.Batches):
        async def results(self, batch_id, keys):
            async for key, answer in super().results(batch_id, keys):
                answers.put_many([(key, "m", answer)])
                yield key, answer

    with FaultServer(text=lambda body: "short") as server:
        llm = make(server, way=_way(server, kind=Overtaken), limit=budget.Budget(tokens=6_000))
        # Each call sets more than half of the budget aside, and costs next to nothing.
        for part in ("first", "second"):
            assert len(llm.sample(_asked(ask, 4, system=part, max_tokens=900), stage="s")) == 4
    assert _clean(answers)


def test_a_run_whose_budget_is_spent_leaves_the_rest_to_others(make, ask, answers, monkeypatch):
    wanted, free = _asked(ask, 9), []

    async def look(job, seconds):
        free.append([key for key, _ in _keyed(wanted) if claims.owner_of(answers, key) == answers.owner])
        await asyncio.sleep(0.01)

    monkeypatch.setattr(in_batches, "_sleep", look)
    with FaultServer(batch_seconds=0.1) as server, pytest.raises(request.Stopped):
        make(server, limit=budget.Budget(calls=5)).sample(wanted, stage="s")
    assert free and not any(free)


def test_a_batch_that_was_canceled_is_not_submitted_again(make, ask, answers):
    wanted = _asked(ask, 3)

    class Canceled(batches.Batches):
        async def submit(self, requests):
            batch_id = await super().submit(requests)
            await self.client().messages.batches.cancel(batch_id)
            return batch_id

    with FaultServer(batch_seconds=5.0) as server:
        outcome = make(server, way=_way(server, kind=Canceled)).sample_all(wanted, stage="s")
        assert len(server.batches) == 1
    assert "was canceled" in str(outcome.failures[0]) and _clean(answers)


def test_batches_of_many_portions_are_under_way_together(make, ask, answers):
    portions = [_asked(ask, 4, system=f"portion {i}") for i in range(3)]
    with FaultServer(batch_seconds=0.3) as server:
        llm = make(server, limit=budget.Budget(calls=12))
        for portion in portions:
            llm.submit(portion)
        assert len(server.batches) == 3 and len(answers) == 0
        for portion in portions:
            assert len(llm.sample(portion, stage="s")) == 4
        assert server.bodies == _once([wanted for portion in portions for wanted in portion])
        assert (llm.usage.calls, llm.usage.cached) == (12, 0)
        with pytest.raises(request.Stopped):  # what was set aside when they were submitted was booked
            llm.sample(_asked(ask, 1, system="more"), stage="s")
    assert _clean(answers)
