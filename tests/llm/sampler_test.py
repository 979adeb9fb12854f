import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from hydrajax.llm import messages, planner, request, sampler


class Transport:
    """An LLM in this process: answers with the text and the sample number, waits and fails as it is told."""

    def __init__(self, model="m", parallel=4, fails=(), wait=lambda text: 0.0):
        self.model, self.parallel = model, parallel
        self.in_turn, self.limits = parallel == 1, request.Limits()
        self.fails, self.wait = set(fails), wait
        self.sent: list[tuple[str, int]] = []
        self.under_way = self.most_under_way = 0
        self.closed = False

    def check(self):
        pass

    async def complete(self, wanted):
        text = wanted.messages[-1].text
        self.sent.append((text, wanted.sample))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(self.wait(text))
        self.under_way -= 1
        if text in self.fails:
            raise request.LLMError(f"{text} failed")
        return request.Answer(text=f"{text}/{wanted.sample}", stop_reason="end_turn", input_tokens=10, output_tokens=2)

    async def close(self):
        self.closed = True


@pytest.fixture
def make(answers):
    """Makes a sampler over the test's store, and closes it."""
    with contextlib.ExitStack() as stack:

        def build(transport=None, **rest):
            built = sampler.StoredSampler(transport or Transport(), answers, **rest)
            stack.callback(built.close)
            return built

        yield build


def _texts(found):
    return [answer.text for answer in found]


def test_answers_come_in_the_order_of_the_requests(make, ask):
    transport = Transport(wait=lambda text: 0.02 if text == "a" else 0.0)
    wanted = [ask("a"), ask("c"), ask("b", sample=1), ask("b")]
    assert _texts(make(transport).sample(wanted, stage="s")) == ["a/0", "c/0", "b/1", "b/0"]


def test_equal_requests_are_sent_once(make, ask):
    transport = Transport()
    llm = make(transport)
    wanted = [ask("a"), ask("b"), ask("a"), ask("a", sample=1)]
    assert _texts(llm.sample(wanted, stage="s")) == ["a/0", "b/0", "a/0", "a/1"]
    assert sorted(transport.sent) == [("a", 0), ("a", 1), ("b", 0)]
    assert llm.usage.calls == 3


def test_a_second_run_makes_no_call(make, ask):
    wanted = [ask(text, sample=sample) for text in "abc" for sample in range(3)]
    first = make(Transport())
    expected = first.sample(wanted, stage="s")
    transport = Transport(fails="abc")
    second = make(transport)
    found = second.sample(wanted, stage="s")
    assert transport.sent == []
    assert _texts(found) == _texts(expected)
    assert [answer.cached for answer in found] == [True] * 9
    assert (second.usage.calls, second.usage.cached) == (0, 9)
    assert (first.usage.calls, first.usage.cached) == (9, 0)
    assert (first.usage.input_tokens, first.usage.output_tokens) == (90, 18)


def test_the_key_does_not_depend_on_the_transport(make, ask):
    """What one way of reaching a model has paid for serves every other way to the same model."""
    make(Transport("m", parallel=1)).sample([ask("a")], stage="s")
    other = messages.Messages("served under another name", name="m", base_url="http://127.0.0.1:1", api_key="k")
    assert _texts(make(other).sample([ask("a")], stage="s")) == ["a/0"]
    transport = Transport("another model")
    make(transport).sample([ask("a")], stage="s")
    assert transport.sent == [("a", 0)]


@pytest.mark.parametrize("parallel", [1, 3])
def test_only_so_many_at_once(make, ask, parallel):
    transport = Transport(parallel=parallel, wait=lambda text: 0.005)
    make(transport).sample([ask(str(i)) for i in range(10)], stage="s")
    assert transport.most_under_way == parallel


def test_every_answer_is_stored_before_it_is_reported(make, ask, answers):
    seen = []

    @contextlib.contextmanager
    def bar(label):
        yield lambda done, total, note="": seen.append((label, done, total, len(answers)))

    make(Transport(parallel=2)).sample_all([ask(str(i)) for i in range(4)], stage="candidates", bar=bar)
    assert seen == [("candidates", done, 4, done) for done in range(1, 5)]


def test_after_a_failure_what_had_been_sent_is_kept(make, ask, answers):
    """The slow one is under way when the quick one fails: it is paid for, so it is stored."""
    transport = Transport(parallel=2, fails={"quick"}, wait=lambda text: 0.05 if text == "slow" else 0.01)
    llm = make(transport)
    wanted = [ask("quick"), ask("slow"), *(ask(f"u{i}") for i in range(5))]
    with pytest.raises(
        request.LLMError, match=r"quick failed \(1 of 7 answers that were missing were received and stored; run again"
    ):
        llm.sample(wanted, stage="s")
    assert sorted(transport.sent) == [("quick", 0), ("slow", 0)]
    assert len(answers) == llm.usage.calls == 1
    transport.fails.clear()
    assert len(llm.sample(wanted, stage="s")) == 7
    assert transport.sent.count(("slow", 0)) == 1


def test_a_run_goes_on_where_it_failed(make, ask, answers):
    wanted = [ask(f"{i:02d}") for i in range(20)]
    transport = Transport(parallel=1, fails={"07"})
    with pytest.raises(request.LLMError):
        make(transport).sample(wanted, stage="s")
    assert len(answers) == 7
    again = Transport(parallel=1)
    assert _texts(make(again).sample(wanted, stage="s")) == [f"{i:02d}/0" for i in range(20)]
    assert [text for text, _ in again.sent] == [f"{i:02d}" for i in range(7, 20)]


def test_who_came_first_is_believed_and_the_own_call_is_counted(make, ask, answers):
    """Another process answers the same request while ours is under way."""

    class Overtaken(Transport):
        async def complete(self, wanted):
            answer = await super().complete(wanted)
            answers.put((request.key("m", wanted), wanted.sample), "m", request.Answer(
                text="theirs", stop_reason="end_turn", input_tokens=1, output_tokens=1
            ))  # fmt: skip
            return answer

    llm = make(Overtaken())
    assert _texts(llm.sample([ask("a")], stage="s")) == ["theirs"]
    assert (llm.usage.calls, llm.usage.cached, llm.usage.input_tokens) == (1, 0, 10)


def test_requests_with_the_same_beginning_go_one_after_another(make, ask):
    transport = Transport(parallel=1)
    wanted = [ask(text, sample=sample, temperature=1.0) for sample in range(3) for text in ("b", "a")]
    found = make(transport).sample(wanted, stage="s")
    assert transport.sent == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("b", 2)]
    assert _texts(found) == ["b/0", "a/0", "b/1", "a/1", "b/2", "a/2"]


def test_closing_closes_the_transport(answers, ask):
    for use in (True, False):
        transport = Transport()
        llm = sampler.StoredSampler(transport, answers)
        if use:
            llm.sample([ask("a", max_tokens=1 + use)], stage="s")
        llm.close()
        assert transport.closed


def test_nothing_asked_nothing_answered(make):
    assert make().sample([], stage="s") == []


# --- over HTTP, with processes ---


def test_against_a_server_that_speaks_the_protocol(make, ask, server):
    def connect():
        return messages.Messages("claude-haiku-4-5", base_url=server.url, api_key="k", parallel=3)

    wanted = [ask(f"q{i}", sample=sample, temperature=1.0) for i in range(4) for sample in range(2)]
    first = make(connect())
    expected = [f"answer to q{i}" for i in range(4) for _ in range(2)]
    assert _texts(first.sample(wanted, stage="s")) == expected
    # A second batch through the same sampler: its connections and its event loop are still good.
    assert _texts(first.sample([ask("more")], stage="s")) == ["answer to more"]
    assert len(server.bodies) == 9
    assert _texts(make(connect()).sample(wanted, stage="s")) == expected
    assert len(server.bodies) == 9
    assert (first.usage.calls, first.usage.input_tokens, first.usage.output_tokens) == (9, 63, 27)


RUN = """
import json, sys
from hydrajax.llm import messages, planner, request, sampler, store
from hydrajax.types import Message
url, path = sys.argv[1:]
answers = store.Store(path)
transport = messages.Messages("m", base_url=url, api_key="k", parallel=2)
llm = sampler.StoredSampler(transport, answers)
wanted = [request.Request(messages=(Message(role="user", text=f"q{i}"),), max_tokens=5) for i in range(12)]
found = llm.sample(wanted, stage="s")
print(json.dumps([[answer.text for answer in found], llm.usage.calls, llm.usage.cached]))
llm.close()
answers.close()
"""


def _start(server, path):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, server.url, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _outcome(run):
    out, error = run.communicate(timeout=60)
    assert run.returncode == 0, error
    return json.loads(out)


@pytest.mark.slow
def test_a_killed_run_pays_for_nothing_twice(server, reply, make, ask, answers):
    reached, release = threading.Event(), threading.Event()

    def hang_from_the_seventh_on(number, body):
        if number >= 6:
            reached.set()
            release.wait(60)
        return reply(f"answer to {body['messages'][-1]['content']}")

    server.answer = hang_from_the_seventh_on
    run = _start(server, answers.path)
    assert reached.wait(60)
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    release.set()
    stored, sent = len(answers), len(server.bodies)
    # Two at once: when the seventh request is sent, at most one of the six before is still being stored.
    assert 5 <= stored <= 6
    again = make(messages.Messages("m", base_url=server.url, api_key="k"))
    found = again.sample([ask(f"q{i}", max_tokens=5) for i in range(12)], stage="s")
    assert _texts(found) == [f"answer to q{i}" for i in range(12)]
    assert (again.usage.calls, again.usage.cached) == (12 - stored, stored)
    assert len(server.bodies) - sent == 12 - stored


@pytest.mark.slow
def test_two_runs_at_once_give_the_same_answers(server, reply, make, ask, answers):
    """The server never says the same twice, so agreement can only come from the store."""
    server.answer = lambda number, body: reply(f"answer number {number}")
    runs = [_start(server, answers.path) for _ in range(2)]
    (first, *first_usage), (second, *second_usage) = (_outcome(run) for run in runs)
    assert first_usage[0] + second_usage[0] == len(server.bodies) >= 12
    third = make(Transport("m"))
    found = third.sample([ask(f"q{i}", max_tokens=5) for i in range(12)], stage="s")
    assert first == second == _texts(found)
    assert third.usage.calls == 0


# --- the planner ---


def test_a_plan_counts_what_a_run_would_send(make, ask, answers):
    make(Transport()).sample([ask("a"), ask("b")], stage="before")
    counting = planner.Planner("m", answers)
    wanted = {"one": [ask("a"), ask("c"), ask("c"), ask("d")], "two": [ask("d"), ask("b"), ask("e", sample=3)]}
    for stage, requests in wanted.items():
        assert len(counting.sample(requests, stage=stage)) == len(requests)
    counts = {stage: (plan.calls, plan.cached) for stage, plan in counting.stages.items()}
    assert counts == {"one": (2, 1), "two": (1, 1)}
    transport = Transport()
    llm = make(transport)
    for stage, requests in wanted.items():
        llm.sample(requests, stage=stage)
    assert len(transport.sent) == 3


def test_a_plan_calls_nothing_and_stores_nothing(ask, answers):
    counting = planner.Planner("m", answers)
    (answer,) = counting.sample([ask("a")], stage="s")
    assert len(answers) == 0 and not answer.cached and answer.text
    counting.close()


def test_a_plan_uses_the_answers_that_are_stored(make, ask, answers):
    make(Transport()).sample([ask("a")], stage="s")
    assert _texts(planner.Planner("m", answers).sample([ask("a")], stage="s")) == ["a/0"]


@pytest.mark.parametrize(("model", "known"), [("claude-haiku-4-5", True), ("m", False), ("local:x@1", True)])
def test_a_plan_costs_what_the_model_costs(ask, answers, model, known):
    counting = planner.Planner(model, answers)
    counting.sample([ask("word " * 1000, max_tokens=100)], stage="s")
    if not known:
        assert counting.cost() is None
    elif model.startswith("local"):
        assert counting.cost() == 0.0
    else:
        plan = counting.stages["s"]
        assert counting.cost() == pytest.approx((plan.input_tokens * 1.0 + plan.output_tokens * 5.0) / 1e6)
        assert plan.input_tokens > 1000


def test_what_a_prompt_shares_with_the_one_before_is_read_once(ask, answers):
    counting = planner.Planner("m", answers)
    shared = "the same records again and again " * 50
    counting.sample([ask(shared + "one"), ask(shared + "two")], stage="s")
    plan = counting.stages["s"]
    assert plan.fresh_input_tokens < 0.6 * plan.input_tokens
    assert plan.fresh_input_tokens > request.count_tokens(shared)
