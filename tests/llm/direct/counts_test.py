"""Requests one by one against a server that fails: nothing is lost, nothing is paid for twice, all of it is counted."""

import collections
import socket
import sqlite3
import time

import pytest

from hydrajax.llm import background, direct, models, request, store
from tests.llm.direct.conftest import FAULTS, asked, digest_of
from tests.llm.fault_server import FaultServer
from tests.llm.faults import Faults


@pytest.mark.slow
def test_with_many_faults_every_request_is_counted_and_every_body_answered_as_often_as_wanted(make, ask, answers):
    wanted = asked(ask, 100, samples=4)
    with FaultServer(FAULTS) as server:
        llm = make(server)
        found = llm.sample(wanted, stage="s")
        assert server.by_fault.total() - server.by_fault[""] > 80
        assert sum(answers.attempts().values()) == server.requests
        assert server.bodies == collections.Counter(digest_of(r) for r in wanted)
        assert answers.attempts()["answered"] == llm.usage.calls == server.answered == len(answers) == 400
        assert {answers.attempts()[kind] for kind in ("rate_limited", "overloaded", "server", "invalid")} - {0}
        # Every sample of a prompt is an answer of its own.
        assert len({answer.text for answer in found}) == 400
        assert llm.sample(wanted, stage="s") is not None
        assert server.answered == 400
    assert answers.execute("select count(*) from claims").fetchone() == (0,)


def test_requests_that_fail_for_good_are_listed_and_only_they_are_tried_again(make, ask, answers):
    wanted = asked(ask, 12, samples=2)
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
    outcome = make(server).sample_all(asked(ask, 4), stage="s")
    assert [a is not None for a in outcome.answers] == [True, False, True, True]
    texts = [body["messages"][0]["content"] for body in server.bodies]
    assert texts.count("q1") == direct.ATTEMPTS and len(texts) == direct.ATTEMPTS + 3


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_where_every_request_would_fail_the_others_are_not_sent(make, ask, server, reply, status):
    """The key, the account, the model: 402 is what an account without money gets."""
    server.answer = lambda number, body: reply("no", status=status)
    with pytest.raises(request.LLMError, match="0 of 200 answers"):
        make(server).sample(asked(ask, 200), stage="s")
    assert len(server.bodies) <= 20


def test_nobody_there_is_said_soon(make, ask):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(request.LLMError, match="no connection"):
            make(type("S", (), {"url": url})).sample(asked(ask, 50), stage="s")


def test_where_every_request_is_rejected_not_all_are_sent(make, ask, monkeypatch):
    """A wrong setting, not a wrong request: a million of them would be listed as failures."""
    monkeypatch.setattr(direct, "ALL_REJECTED", 10)
    wanted = [ask(f"bad {i}") for i in range(200)]
    with FaultServer(Faults(rejected=lambda body: True)) as server:
        with pytest.raises(request.LLMError, match="0 of 200 answers"):
            make(server).sample(wanted, stage="s")
        assert 10 <= server.requests < 200


def test_one_request_that_cannot_be_sent_does_not_stop_the_others(make, ask):
    """Half a surrogate pair has no encoding."""
    with FaultServer() as server:
        outcome = make(server).sample_all([ask("a"), ask("half a pair \ud83d"), ask("b")], stage="s")
        assert outcome.answers[0] is not None and outcome.answers[2] is not None


@pytest.mark.parametrize("text", ["half a pair \ud83d", "nul \0 in it", "\u2028\u0085 lines", ""])
def test_an_answer_of_any_text_is_kept(make, ask, text):
    """It is paid for."""
    with FaultServer(text=lambda body: text) as server:
        (first,) = make(server).sample([ask("q")], stage="s")
        (again,) = make(server).sample([ask("q")], stage="s")
        assert server.answered == 1
        assert first.text == again.text
        assert "\ud83d" in text or first.text == text


def test_an_unknown_model_works_with_a_warning(make, ask, caplog):
    models.find.cache_clear()
    with FaultServer() as server:
        llm = make(server, model="claude-tomorrow-9")
        assert len(llm.sample([ask("q", temperature=1.0)], stage="s")) == 1
        assert "temperature" not in server.bodies_seen[0]
    assert llm.usage.cost_usd is None
    assert sum("claude-tomorrow-9 is not in the table" in text for text in caplog.messages) == 1


def test_a_fault_of_the_store_is_no_silent_loss(make, ask, answers, monkeypatch):
    def full(*args, **rest):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(store.Store, "put", full)
    with FaultServer() as server:
        with pytest.raises(request.LLMError, match="disk is full"):
            make(server).sample(asked(ask, 300), stage="s")
        assert server.requests <= 100


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
            llm.sample(asked(ask, 100), stage="s")
        monkeypatch.undo()
        assert 10 <= server.requests == server.answered == len(answers) < 30
        assert answers.execute("select count(*) from claims").fetchone() == (0,)
        assert sum(answers.attempts().values()) == server.requests
