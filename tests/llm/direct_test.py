"""Requests one by one against a server that fails: nothing is lost, nothing is paid for twice, all of it is counted."""

import asyncio
import collections
import contextlib
import itertools
import logging
import os
import signal
import socket
import sqlite3
import threading
import time

import psutil
import pytest

from hydrajax.llm import background, batches, budget, direct, messages, models, request, sampler, store
from tests.llm import processes
from tests.llm.fault_server import Faults, FaultServer, digest

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


def _asked(ask, count, samples=1, **rest):
    return [ask(f"q{i}", sample=sample, **rest) for i in range(count) for sample in range(samples)]


def _body(wanted, model="m"):
    return digest(messages.body(model, model, wanted))


# --- counts ---


@pytest.mark.slow
def test_with_many_faults_every_request_is_counted_and_every_body_answered_as_often_as_wanted(make, ask, answers):
    wanted = _asked(ask, 100, samples=4)
    with FaultServer(FAULTS) as server:
        llm = make(server)
        found = llm.sample(wanted, stage="s")
        assert server.by_fault.total() - server.by_fault[""] > 80
        assert sum(answers.attempts().values()) == server.requests
        assert server.bodies == collections.Counter(_body(r) for r in wanted)
        assert answers.attempts()["answered"] == llm.usage.calls == server.answered == len(answers) == 400
        assert {answers.attempts()[kind] for kind in ("rate_limited", "overloaded", "server", "invalid")} - {0}
        # Every sample of a prompt is an answer of its own.
        assert len({answer.text for answer in found}) == 400
        assert llm.sample(wanted, stage="s") is not None
        assert server.answered == 400
    assert answers.execute("select count(*) from claims").fetchone() == (0,)


def test_requests_that_fail_for_good_are_listed_and_only_they_are_tried_again(make, ask, answers):
    wanted = _asked(ask, 12, samples=2)
    bad = {"q3", "q7"}
    faults = Faults(rejected=lambda body: body["messages"][0]["content"] in bad, server_error=0.2)
    with FaultServer(faults) as server:
        outcome = make(server).sample_all(wanted, stage="s")
        expected = {i for i, r in enumerate(wanted) if r.messages[0].text in bad}
        assert set(outcome.failures) == expected == {i for i, a in enumerate(outcome.answers) if a is None}
        assert all(isinstance(error, request.Rejected) for error in outcome.failures.values())
        assert server.by_fault["rejected"] == 4 and server.answered == 20
        before = server.requests
        bad.remove("q3")
        again = make(server).sample_all(wanted, stage="s")
        assert server.requests - before >= 4 and server.answered == 22
        assert set(again.failures) == {14, 15}
        with pytest.raises(request.LLMError, match=r"2 requests failed for good.*400.*22 of 24 answers are stored"):
            make(server).sample(wanted, stage="s")
    assert sum(answers.attempts().values()) == server.requests


def test_a_request_that_always_fails_is_given_up_and_keeps_nobody_else(make, ask, server, reply):
    def answer(number, body):
        if body["messages"][0]["content"] == "q1":
            return reply("broken", status=500)
        return reply("fine")

    server.answer = answer
    outcome = make(server).sample_all(_asked(ask, 4), stage="s")
    assert [a is not None for a in outcome.answers] == [True, False, True, True]
    texts = [body["messages"][0]["content"] for body in server.bodies]
    assert texts.count("q1") == direct.ATTEMPTS and len(texts) == direct.ATTEMPTS + 3


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_where_every_request_would_fail_the_others_are_not_sent(make, ask, server, reply, status):
    """The key, the account, the model: 402 is what an account without money gets."""
    server.answer = lambda number, body: reply("no", status=status)
    with pytest.raises(request.LLMError, match="0 of 200 answers"):
        make(server).sample(_asked(ask, 200), stage="s")
    assert len(server.bodies) <= 20


def test_nobody_there_is_said_soon(make, ask):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(request.LLMError, match="no connection"):
            make(type("S", (), {"url": url})).sample(_asked(ask, 50), stage="s")


# --- pace ---


def test_a_server_that_asks_to_wait_gets_no_request_meanwhile(make, ask, server, reply):
    times = []

    def answer(number, body):
        times.append(time.monotonic())
        return reply("busy", status=429, headers={"retry-after": "0.6"}) if number == 20 else reply("fine")

    server.answer = answer
    make(server, parallel=2).sample(_asked(ask, 40), stage="s")
    # Some may have been under way until the complaint was read; then nobody asks for as long as the server said.
    later = sorted(moment for moment in times if moment >= times[20])
    pauses = [after - before for before, after in itertools.pairwise(later)]
    assert max(pauses) >= 0.5 and pauses.index(max(pauses)) <= 4
    assert len(times) == 41


def test_no_more_at_once_than_allowed(make, ask):
    with FaultServer(latency=0.01) as server:
        make(server, parallel=5).sample(_asked(ask, 40), stage="s")
        assert server.most_at_once == 5


# --- order ---


def test_groups_take_turns_on_the_wire(make, ask, server, reply):
    wanted = [*(ask(f"many {i}", group="many") for i in range(30)), *(ask(f"one {i}", group="one") for i in range(2))]
    make(server, parallel=1).sample(wanted, stage="s")
    sent = [body["messages"][0]["content"].split()[0] for body in server.bodies]
    assert sent[:4].count("one") == 2 and len(sent) == 32


def test_the_first_sample_of_a_long_prompt_goes_alone_and_the_rest_follow(make, ask):
    model = "claude-sonnet-5-5"
    long = "word " * 2 * models.find(model).cache_minimum
    with FaultServer(Faults(server_error=0.3), latency=0.1) as server:
        wanted = [ask(f"{name} {long}", sample=i) for name in ("a", "b") for i in range(4)]
        seen = []

        @contextlib.contextmanager
        def bar(label):
            yield lambda done, total, note="": seen.append((done, server.most_at_once))

        make(server, model=model).sample_all(wanted, stage="s", bar=bar)
        assert server.answered == 8
        # Until the first answer came, at most one of each prompt was under way; after it, the others were together.
        assert seen[0][1] <= 2
        assert server.most_at_once >= 3


def test_where_the_first_sample_of_a_long_prompt_fails_for_good_the_rest_is_still_tried(make, ask):
    model = "claude-sonnet-5-5"
    long = "word " * 2 * models.find(model).cache_minimum
    with FaultServer(Faults(rejected=lambda body: True)) as server:
        outcome = make(server, model=model).sample_all([ask(long, sample=i) for i in range(4)], stage="s")
        assert set(outcome.failures) == {0, 1, 2, 3} and server.by_fault["rejected"] == 4


# --- budgets ---


@pytest.mark.parametrize("faulty", [False, True])
def test_a_limit_of_calls_is_kept_to_the_call_and_the_rest_goes_on_later(make, ask, answers, faulty):
    wanted = _asked(ask, 30)
    with FaultServer(FAULTS if faulty else Faults()) as server:
        with pytest.raises(request.Stopped, match=r"budget of 10 calls is spent: 10 of 30 .* stored, 20 are left"):
            make(server, budget=budget.Budget(calls=10)).sample(wanted, stage="s")
        assert server.answered == len(answers) == 10
        assert answers.execute("select count(*) from claims").fetchone() == (0,)
        llm = make(server, budget=budget.Budget(calls=20))
        llm.sample(wanted, stage="s")
        assert (llm.usage.calls, llm.usage.cached, server.answered) == (20, 10, 30)


def test_limits_of_tokens_and_dollars_are_never_exceeded(make, ask):
    model = "claude-haiku-4-5"
    for limit in ({"tokens": 400}, {"usd": 0.0015}):
        with FaultServer(text=lambda body: "word " * 9) as server:
            llm = make(server, model=model, budget=budget.Budget(**limit))
            with pytest.raises(request.Stopped, match="budget of"):
                llm.sample(_asked(ask, 100, max_tokens=10 + len(limit) + ("usd" in limit)), stage="s")
            assert 0 < llm.usage.calls == server.answered < 100
            assert llm.usage.input_tokens + llm.usage.output_tokens <= limit.get("tokens", 10**9)
            assert llm.usage.cost_usd <= limit.get("usd", 1e9)


def test_what_is_stored_costs_no_budget(make, ask):
    with FaultServer() as server:
        make(server).sample(_asked(ask, 5), stage="s")
        assert len(make(server, budget=budget.Budget(calls=0)).sample(_asked(ask, 5), stage="s")) == 5
        with pytest.raises(request.Stopped):
            make(server, budget=budget.Budget(calls=0)).sample(_asked(ask, 6), stage="s")
        assert server.requests == 5


# --- several processes ---


@pytest.mark.slow
def test_two_processes_over_one_store_pay_for_nothing_twice(ask, answers):
    wanted = _asked(ask, 60, samples=2)
    with FaultServer(FAULTS, latency=0.005) as server:
        with processes.samplers(2, server, answers.path, 60, samples=2) as runs:
            said = []
            for run in runs:
                out, error = run.communicate(timeout=60)
                assert run.returncode == 0, error
                said.append([int(word) for word in out.split()])
        assert server.bodies == collections.Counter(_body(r) for r in wanted)
        assert sum(answers.attempts().values()) == server.requests
    assert said[0][0] + said[1][0] == 120
    assert all(calls + cached == 120 for calls, cached in said)
    assert min(calls for calls, _ in said) > 0  # they really shared the work


@pytest.mark.slow
def test_after_a_kill_at_most_what_was_under_way_is_repeated(make, ask, answers):
    wanted = _asked(ask, 40, samples=2)
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
    wanted = _asked(ask, 6)
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
        assert server.answered == 5 and server.bodies[_body(wanted[0])] == 0
    thread.join()
    assert (llm.usage.calls, llm.usage.cached) == (5, 1)


@pytest.mark.parametrize("number", ["999999999/1.00", "{pid}/1.00"])
def test_claims_of_the_dead_keep_nobody(make, ask, answers, number):
    """No such process; or one of the same number that began at another time."""
    wanted = _asked(ask, 4)
    _claimed_elsewhere(answers, wanted, f"{socket.gethostname()}/{number.format(pid=os.getppid())}")
    with FaultServer() as server:
        make(server).sample(wanted, stage="s")
        assert server.answered == 4


# --- a batch that is under way ---


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
    wanted = _asked(ask, 8)
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
    wanted = _asked(ask, 4)
    faults = Faults(rejected=lambda body: body["messages"][0]["content"] == "q1")
    with FaultServer(faults) as server, _batch_of_the_dead(server, answers, wanted):
        outcome = make(server).sample_all(wanted, stage="s")
        assert set(outcome.failures) == {1}
        assert server.requests == 0


def test_a_batch_that_takes_long_is_not_asked_after_all_the_time(ask, answers):
    """Batches take up to a day, and looks at them are limited as well."""
    wanted = _asked(ask, 2)
    with FaultServer(batch_seconds=1.2) as server, _batch_of_the_dead(server, answers, wanted):
        transport = Watched("m", sends=False, base_url=server.url, api_key=SECRET)
        Watched.looks = 0
        llm = sampler.StoredSampler(transport, answers)
        llm.sample(wanted, stage="s")
        llm.close()
    # One at the beginning, one at the end, and its results: not one every fifth of a second.
    assert Watched.looks <= 5


# --- texts and secrets ---


@pytest.mark.parametrize("text", ["half a pair \ud83d", "nul \0 in it", "\u2028\u0085 lines", ""])
def test_an_answer_of_any_text_is_kept(make, ask, text):
    """It is paid for."""
    with FaultServer(text=lambda body: text) as server:
        (first,) = make(server).sample([ask("q")], stage="s")
        (again,) = make(server).sample([ask("q")], stage="s")
        assert server.answered == 1
        assert first.text == again.text
        assert "\ud83d" in text or first.text == text


def test_one_request_that_cannot_be_sent_does_not_stop_the_others(make, ask):
    """Half a surrogate pair has no encoding."""
    with FaultServer() as server:
        outcome = make(server).sample_all([ask("a"), ask("half a pair \ud83d"), ask("b")], stage="s")
        assert outcome.answers[0] is not None and outcome.answers[2] is not None


@pytest.mark.slow
def test_the_key_is_nowhere(make, ask, answers, caplog):
    caplog.set_level(logging.DEBUG)
    faults = Faults(**dict.fromkeys(SIX, 0.1), rejected=lambda body: body["messages"][0]["content"] == "q1")
    with FaultServer(faults) as server:
        llm = make(server)
        outcome = llm.sample_all(_asked(ask, 20), stage="s")
        assert any(SECRET in value for value in server.headers_seen[0].values())
        with pytest.raises(request.LLMError) as caught:
            llm.sample(_asked(ask, 20), stage="s")
    said = [caplog.text, *map(str, outcome.failures.values()), *map(repr, outcome.failures.values()), str(caught.value)]
    assert caplog.records and not [text for text in said if SECRET in text]
    with contextlib.closing(sqlite3.connect(answers.path)) as db:
        assert SECRET not in "".join(db.iterdump())


def test_a_server_that_repeats_the_key_in_its_error_does_not_spread_it(make, ask, server, reply, caplog):
    server.answer = lambda number, body: reply(f"the key {SECRET} has no access", status=400)
    outcome = make(server).sample_all([ask("q")], stage="s")
    assert SECRET not in str(outcome.failures[0]) + caplog.text


def test_an_unknown_model_works_with_a_warning(make, ask, caplog):
    models.find.cache_clear()
    with FaultServer() as server:
        llm = make(server, model="claude-tomorrow-9")
        assert len(llm.sample([ask("q", temperature=1.0)], stage="s")) == 1
        assert "temperature" not in server.bodies_seen[0]
    assert llm.usage.cost_usd is None
    assert sum("claude-tomorrow-9 is not in the table" in text for text in caplog.messages) == 1


# --- an end before the end ---


def test_an_interrupt_keeps_what_was_sent(make, ask, answers, monkeypatch):
    real, waited = background._result, []

    with FaultServer(latency=0.02) as server:

        def result(future):
            if not waited:
                while server.answered < 10:
                    time.sleep(0.002)
                waited.append(True)
                raise KeyboardInterrupt
            return real(future)

        llm = make(server, parallel=4)
        monkeypatch.setattr(background, "_result", result)
        with pytest.raises(KeyboardInterrupt):
            llm.sample(_asked(ask, 100), stage="s")
        monkeypatch.undo()
        assert 10 <= server.requests == server.answered == len(answers) < 30
        assert answers.execute("select count(*) from claims").fetchone() == (0,)
        assert sum(answers.attempts().values()) == server.requests


def test_a_fault_of_the_store_is_no_silent_loss(make, ask, answers, monkeypatch):
    def full(*args, **rest):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(store.Store, "put", full)
    with FaultServer() as server:
        with pytest.raises(request.LLMError, match="disk is full"):
            make(server).sample(_asked(ask, 300), stage="s")
        assert server.requests <= 100


def test_where_every_request_is_rejected_not_all_are_sent(make, ask, monkeypatch):
    """A wrong setting, not a wrong request: a million of them would be listed as failures."""
    monkeypatch.setattr(direct, "ALL_REJECTED", 10)
    wanted = [ask(f"bad {i}") for i in range(200)]
    with FaultServer(Faults(rejected=lambda body: True)) as server:
        with pytest.raises(request.LLMError, match="0 of 200 answers"):
            make(server).sample(wanted, stage="s")
        assert 10 <= server.requests < 200
