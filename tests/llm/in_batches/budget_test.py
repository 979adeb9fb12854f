"""Message Batches under a budget, and what goes on after an interrupt."""

import asyncio
import contextlib
import time

import pytest

from hydrajax.llm import background, batches, budget, in_batches, request
from tests.llm import claims
from tests.llm.fault_server import FaultServer
from tests.llm.in_batches.conftest import asked, is_clean, keyed, left_behind, once, submitted, way_to


def test_a_limit_of_calls_is_kept_and_what_was_submitted_is_had(make, ask, answers):
    wanted = asked(ask, 9)
    with FaultServer(batch_seconds=0.05) as server:
        with pytest.raises(request.Stopped, match="budget of 5 calls is spent"):
            make(server, limit=budget.Budget(calls=5)).sample(wanted, stage="s")
        assert sum(map(len, server.batches.values())) == 5
        llm = make(server)
        llm.sample(wanted, stage="s")
        assert server.bodies == once(wanted)
    assert is_clean(answers)


def test_the_end_of_a_budget_waits_for_the_answers_or_tells_of_their_batch(make, ask, answers):
    with FaultServer(batch_seconds=0.05) as server, pytest.raises(request.Stopped) as caught:
        make(server, limit=budget.Budget(calls=5)).sample(asked(ask, 9), stage="s")
    assert len(answers) == 5 or "batch" in str(caught.value)


def test_answers_of_an_earlier_process_s_batch_raise_no_limit(make, ask, answers):
    wanted, more = asked(ask, 10, max_tokens=1000), asked(ask, 20, max_tokens=100)
    with FaultServer() as server:
        left_behind(answers, wanted, batch_id=submitted(server, wanted))
        llm = make(server, limit=budget.Budget(tokens=1000))
        llm.sample(wanted, stage="s")
        with contextlib.suppress(request.Stopped):
            llm.sample(more, stage="s")
        assert sum(map(len, server.batches.values())) - 10 <= 1000 // 100


def test_unfinished_batches_go_on_after_an_interrupt(make, ask, answers, monkeypatch):
    wanted, real, waited = asked(ask, 6), background._result, []

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
        assert len(server.batches) == 1 and server.bodies == once(wanted)


def test_what_another_process_has_stored_is_booked_all_the_same(make, ask, answers):
    """This run has submitted the batch, and pays for it, whoever takes the results out first."""

    class Overtaken(batches.Batches):
        async def results(self, batch_id, keys):
            async for key, answer in super().results(batch_id, keys):
                answers.put_many([(key, "m", answer)])
                yield key, answer

    with FaultServer(text=lambda body: "short") as server:
        llm = make(server, way=way_to(server, kind=Overtaken), limit=budget.Budget(tokens=6_000))
        # Each call sets more than half of the budget aside, and costs next to nothing.
        for part in ("first", "second"):
            assert len(llm.sample(asked(ask, 4, system=part, max_tokens=900), stage="s")) == 4
    assert is_clean(answers)


def test_a_run_whose_budget_is_spent_leaves_the_rest_to_others(make, ask, answers, monkeypatch):
    wanted, free = asked(ask, 9), []

    async def look(job, seconds):
        free.append([key for key, _ in keyed(wanted) if claims.owner_of(answers, key) == answers.owner])
        await asyncio.sleep(0.01)

    monkeypatch.setattr(in_batches, "_sleep", look)
    with FaultServer(batch_seconds=0.1) as server, pytest.raises(request.Stopped):
        make(server, limit=budget.Budget(calls=5)).sample(wanted, stage="s")
    assert free and not any(free)


def test_batches_of_many_portions_are_under_way_together(make, ask, answers):
    portions = [asked(ask, 4, system=f"portion {i}") for i in range(3)]
    with FaultServer(batch_seconds=0.3) as server:
        llm = make(server, limit=budget.Budget(calls=12))
        for portion in portions:
            llm.submit(portion)
        assert len(server.batches) == 3 and len(answers) == 0
        for portion in portions:
            assert len(llm.sample(portion, stage="s")) == 4
        assert server.bodies == once([wanted for portion in portions for wanted in portion])
        assert (llm.usage.calls, llm.usage.cached) == (12, 0)
        with pytest.raises(request.Stopped):  # what was set aside when they were submitted was booked
            llm.sample(asked(ask, 1, system="more"), stage="s")
    assert is_clean(answers)
