"""Message Batches: whatever is left out, given twice, refused or broken, each answer is had and paid for once."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydrajax.llm import batches, in_batches, request
from hydrajax.types import Message
from tests.llm.fault_server import FaultServer
from tests.llm.faults import Faults
from tests.llm.in_batches.conftest import asked, is_clean, left_behind, once, submitted, way_to


def test_chunks_keep_the_limit_and_every_answer_finds_its_request(make, ask, answers):
    wanted = asked(ask, 10, samples=3)
    with FaultServer(text=lambda body: f"to {body['messages'][0]['content']}") as server:
        llm = make(server, most_requests=7)
        found = llm.sample(wanted, stage="s")
        assert [answer.text for answer in found] == [f"to {r.messages[0].text}" for r in wanted]
        assert sorted(map(len, server.batches.values())) == [2, 7, 7, 7, 7]
        assert server.bodies == once(wanted) and server.requests == 0
    assert (llm.usage.calls, llm.usage.cached) == (30, 0)
    assert all(answer.batch for answer in found) and is_clean(answers)
    assert answers.attempts() == {"answered": 30}


def test_the_limit_of_bytes_is_kept(make, ask, monkeypatch):
    wanted = asked(ask, 10)
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
    wanted = asked(ask, 80)
    faults = Faults(missing=0.1, duplicated=0.2, expired=0.1, errored=0.1, overloaded=0.1, server_error=0.1)
    with FaultServer(faults) as server:
        llm = make(server, most_requests=40)
        found = llm.sample(wanted, stage="s")
        # Only what the server did not deliver is answered again; what it gave twice is counted once.
        assert server.answered - 80 <= server.by_fault["missing"]
        assert min(server.by_fault[name] for name in ("missing", "duplicated", "expired", "errored")) > 0
    assert len(found) == llm.usage.calls == len(answers) == 80
    assert answers.attempts()["answered"] == 80 and is_clean(answers)


def test_what_expires_or_errs_is_not_paid_for_and_asked_again(make, ask):
    wanted = asked(ask, 60)
    with FaultServer(Faults(expired=0.15, errored=0.15, duplicated=0.3)) as server:
        make(server).sample(wanted, stage="s")
        assert server.bodies == once(wanted) and len(server.batches) > 1


def test_requests_refused_for_good_are_listed_and_the_others_answered(make, ask, answers):
    wanted = asked(ask, 6, samples=2)
    faults = Faults(rejected=lambda body: body["messages"][0]["content"] == "q2", duplicated=0.3)
    with FaultServer(faults) as server:
        outcome = make(server).sample_all(wanted, stage="s")
        assert set(outcome.failures) == {4, 5} == {i for i, a in enumerate(outcome.answers) if a is None}
        assert all(isinstance(error, request.Rejected) for error in outcome.failures.values())
        assert len(server.batches) == 1
        make(server).sample_all(wanted, stage="s")
        assert [len(ids) for ids in server.batches.values()] == [12, 2]
    assert is_clean(answers)


def test_what_always_expires_is_given_up(make, ask):
    with FaultServer(Faults(expired=1.0)) as server:
        outcome = make(server).sample_all(asked(ask, 3), stage="s")
        assert set(outcome.failures) == {0, 1, 2} and len(server.batches) == in_batches.ATTEMPTS


def test_where_every_batch_would_be_refused_it_is_said(make, ask, server, reply):
    server.answer = lambda number, body: reply("no", status=403)
    with pytest.raises(request.LLMError, match="0 of 3 answers"):
        make(server).sample(asked(ask, 3), stage="s")
    assert len(server.bodies) == 1


def test_batches_that_never_have_results_are_given_up(make, ask, answers):
    """Neither submitted for ever, nor an error of the whole run."""

    class Empty(batches.Batches):
        async def results(self, batch_id, keys):
            for _ in ():
                yield

    wanted = asked(ask, 3)
    with FaultServer() as server:
        outcome = make(server, way=way_to(server, kind=Empty)).sample_all(wanted, stage="s")
        assert len(server.batches) == in_batches.ATTEMPTS
    assert outcome.answers == [None] * 3 and "without a result" in str(outcome.failures[0])
    assert is_clean(answers)


def test_plans_learn_from_the_answers_of_batches(make, ask, answers):
    with FaultServer(text=lambda body: "one two three") as server:
        found = make(server).sample(asked(ask, 60), stage="s")
    read, written = answers.habits("m")
    assert written == sum(answer.output_tokens for answer in found) / (60 * 9)
    assert read == sum(a.input_tokens for a in found) / sum(request.estimate_input_tokens(r) for r in asked(ask, 60))


def test_requests_in_a_batch_under_way_are_not_asked_about_one_by_one(make, ask, answers, monkeypatch):
    looked, claim_many = [], answers.claim_many
    monkeypatch.setattr(answers, "claim_many", lambda keys: (looked.append(len(keys)), claim_many(keys))[1])
    with FaultServer(batch_seconds=0.2) as server:
        make(server).sample(asked(ask, 20), stage="s")
    assert looked[0] == 20 and len(looked) > 2 and sum(looked) <= 40


def test_a_server_that_is_gone_ends_the_wait_and_loses_nothing(make, ask, answers, monkeypatch):
    wanted = asked(ask, 4)
    with FaultServer() as server:
        left_behind(answers, wanted, batch_id=submitted(server, wanted))
        nobody = way_to(server)
        nobody._settings["base_url"] = "http://127.0.0.1:9"
        with pytest.raises(request.LLMError, match="no connection to the server"):
            make(server, way=nobody).sample(wanted, stage="s")
        make(server).sample(wanted, stage="s")
        assert server.bodies == once(wanted) and len(server.batches) == 1


def test_results_that_stay_broken_are_taken_as_far_as_they_can_be_read(make, ask, answers):
    wanted = asked(ask, 6)
    with FaultServer() as server:
        first = submitted(server, wanted)
        left_behind(answers, wanted, batch_id=first)
        server.garbled.add(first)
        assert len(make(server).sample(wanted, stage="s")) == 6
        second = [names for name, names in server.batches.items() if name != first]
        assert len(second) == 1 and 0 < len(second[0]) < 6
    assert is_clean(answers)


def test_results_that_never_come_down_end_the_wait(make, ask, answers, monkeypatch):
    """The batch has ended each time that it is looked at: that alone is no progress."""
    wanted = asked(ask, 4)

    class Unreadable(batches.Batches):
        async def results(self, batch_id, keys):
            raise request.Transient("nothing comes down", kind="server")
            yield

    monkeypatch.setattr(in_batches, "FIRST_LOOK", 0.001)
    with FaultServer() as server:
        with pytest.raises(request.LLMError, match="nothing comes down"):
            make(server, way=way_to(server, kind=Unreadable)).sample(wanted, stage="s")
        assert len(make(server).sample(wanted, stage="s")) == 4
        assert len(server.batches) == 1


def test_a_batch_that_was_canceled_is_not_submitted_again(make, ask, answers):
    wanted = asked(ask, 3)

    class Canceled(batches.Batches):
        async def submit(self, requests):
            batch_id = await super().submit(requests)
            await self.client().messages.batches.cancel(batch_id)
            return batch_id

    with FaultServer(batch_seconds=5.0) as server:
        outcome = make(server, way=way_to(server, kind=Canceled)).sample_all(wanted, stage="s")
        assert len(server.batches) == 1
    assert "was canceled" in str(outcome.failures[0]) and is_clean(answers)


@pytest.mark.parametrize("others", [0, 1])  # the two ways in which a server says so
def test_a_batch_whose_results_are_no_longer_kept_is_submitted_again(make, ask, answers, others):
    wanted = asked(ask, 4)
    with FaultServer() as server:
        old = submitted(server, wanted)
        left_behind(answers, wanted, batch_id=old)
        server.archived |= {old, *("!" * others)}
        assert len(make(server).sample(wanted, stage="s")) == 4
        assert len(server.batches) == 2
    assert is_clean(answers)
