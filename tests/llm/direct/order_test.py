"""When requests one by one go out: how many at once, which first, and what a budget lets through."""

import contextlib
import itertools
import time

import pytest

from hydrajax.llm import budget, models, request
from tests.llm.direct.conftest import FAULTS, asked
from tests.llm.fault_server import FaultServer
from tests.llm.faults import Faults


def test_a_server_that_asks_to_wait_gets_no_request_meanwhile(make, ask, server, reply):
    times = []

    def answer(number, body):
        times.append(time.monotonic())
        return reply("busy", status=429, headers={"retry-after": "0.6"}) if number == 20 else reply("fine")

    server.answer = answer
    make(server, parallel=2).sample(asked(ask, 40), stage="s")
    # Some may have been under way until the complaint was read; then nobody asks for as long as the server said.
    later = sorted(moment for moment in times if moment >= times[20])
    pauses = [after - before for before, after in itertools.pairwise(later)]
    assert max(pauses) >= 0.5 and pauses.index(max(pauses)) <= 4
    assert len(times) == 41


def test_no_more_at_once_than_allowed(make, ask):
    with FaultServer(latency=0.01) as server:
        make(server, parallel=5).sample(asked(ask, 40), stage="s")
        assert server.most_at_once == 5


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


@pytest.mark.parametrize("faulty", [False, True])
def test_a_limit_of_calls_is_kept_to_the_call_and_the_rest_goes_on_later(make, ask, answers, faulty):
    wanted = asked(ask, 30)
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
                llm.sample(asked(ask, 100, max_tokens=10 + len(limit) + ("usd" in limit)), stage="s")
            assert 0 < llm.usage.calls == server.answered < 100
            assert llm.usage.input_tokens + llm.usage.output_tokens <= limit.get("tokens", 10**9)
            assert llm.usage.cost_usd <= limit.get("usd", 1e9)


def test_what_is_stored_costs_no_budget(make, ask):
    with FaultServer() as server:
        make(server).sample(asked(ask, 5), stage="s")
        assert len(make(server, budget=budget.Budget(calls=0)).sample(asked(ask, 5), stage="s")) == 5
        with pytest.raises(request.Stopped):
            make(server, budget=budget.Budget(calls=0)).sample(asked(ask, 6), stage="s")
        assert server.requests == 5
