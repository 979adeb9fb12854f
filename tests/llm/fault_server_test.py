import asyncio
import collections
import json
import subprocess
import sys
import time

import anthropic
import pytest

from tests.llm import fault_server
from tests.llm.fault_server import FaultServer
from tests.llm.faults import ERRORS, OF_MESSAGES, STOP_REASONS, Faults, digest


def body(text="one two"):
    return {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": text}]}


def run(server, work, **settings):
    """What `work(client)` returns, for a client that tries everything once."""

    async def with_client():
        http_client = anthropic.DefaultAsyncHttpxClient(trust_env=False, verify=False)
        settings_ = {"max_retries": 0, "timeout": 5.0} | settings
        async with anthropic.AsyncAnthropic(
            base_url=server.url, api_key="key", http_client=http_client, **settings_
        ) as client:
            return await work(client)

    return asyncio.run(with_client())


def ask(server, bodies, **settings):
    """The answers to all bodies at once, exceptions included."""

    async def work(client):
        calls = (client.messages.create(**body) for body in bodies)
        return await asyncio.gather(*calls, return_exceptions=True)

    return run(server, work, **settings)


def batch(server, requests, **settings):
    """The batch as it ended, and its results as (custom_id, result)."""

    async def work(client):
        created = await client.messages.batches.create(requests=requests)
        assert created.processing_status == "in_progress" and created.request_counts.processing == len(requests)
        while (ended := await client.messages.batches.retrieve(created.id)).processing_status != "ended":
            await asyncio.sleep(0.01)
        return ended, [(line.custom_id, line.result) async for line in await client.messages.batches.results(ended.id)]

    return run(server, work, **settings)


def test_an_answer_and_what_is_kept_of_it():
    with FaultServer() as server:
        [answer] = ask(server, [body()])
    key = digest(body())
    assert answer.content[0].text == f"answer {key[:8]} 0"
    assert (answer.stop_reason, answer.usage.input_tokens, answer.usage.output_tokens) == ("end_turn", 2, 3)
    assert answer._request_id.startswith("req_")
    assert (server.requests, server.answered, server.bodies, server.by_fault) == (1, 1, {key: 1}, {"": 1})
    assert server.bodies_seen == [body()] and server.headers_seen[0]["content-type"] == "application/json"


def test_equal_bodies_that_arrive_together_get_different_answers():
    with FaultServer(latency=0.05) as server:
        answers = ask(server, [body()] * 20 + [body("other")] * 5)
    assert len({answer.content[0].text for answer in answers}) == len({answer.id for answer in answers}) == 25
    assert sorted(server.bodies.values()) == [5, 20]
    assert 1 < server.most_at_once <= 25


@pytest.mark.parametrize(
    ("fault", "error", "status"),
    [
        ("rate_limited", anthropic.RateLimitError, 429),
        ("rate_limited_bare", anthropic.RateLimitError, 429),
        ("overloaded", anthropic.APIStatusError, 529),
        ("server_error", anthropic.InternalServerError, 500),
        ("timeout", anthropic.APIConnectionError, None),
        ("dropped", anthropic.APIConnectionError, None),
        ("invalid_json", json.JSONDecodeError, None),
    ],
)
def test_errors_as_a_client_sees_them(fault, error, status):
    with FaultServer(Faults(**{fault: 1.0}, retry_after=0.25, hang=0.05)) as server:
        [got] = ask(server, [body()])
    assert isinstance(got, error) and getattr(got, "status_code", None) == status
    if status:
        assert got.body["error"]["type"] == ERRORS[fault][1]
        assert got.response.headers.get("retry-after") == ("0.25" if fault == "rate_limited" else None)
    assert (server.requests, server.answered, server.by_fault, server.bodies) == (1, 0, {fault: 1}, {})


@pytest.mark.parametrize(("fault", "stop"), STOP_REASONS.items())
def test_answers_of_little_use_count_as_answers(fault, stop):
    with FaultServer(Faults(**{fault: 1.0})) as server:
        [got] = ask(server, [body()])
    assert (got.stop_reason, bool(got.content)) == (stop, fault != "empty")
    assert (server.answered, server.by_fault) == (1, {fault: 1})


def test_half_of_the_invalid_answers_are_no_json_at_all():
    with FaultServer(Faults(invalid_json=1.0)) as server:
        first, second = (ask(server, [body()])[0] for _ in range(2))
    assert isinstance(first, json.JSONDecodeError) and second.startswith("<html>")


def test_what_is_rejected_stays_rejected():
    faults = Faults(rejected=lambda body: "bad" in body["messages"][0]["content"], overloaded=0.5)
    with FaultServer(faults) as server:
        got = [ask(server, [body("bad")])[0] for _ in range(4)]
    assert {error.status_code for error in got} == {400}
    assert server.by_fault == {"rejected": 4}


def test_faults_depend_on_the_seed_and_on_nothing_that_varies_between_runs():
    def outcomes(seed, bodies):
        faults = Faults(overloaded=0.3, server_error=0.2, refusal=0.2)
        seen = collections.defaultdict(list)
        with FaultServer(faults, seed=seed) as server:
            for _ in range(3):
                for sent, got in zip(bodies, ask(server, bodies), strict=True):
                    seen[str(sent)].append(getattr(got, "status_code", None) or got.stop_reason)
        return seen

    bodies = [body(f"text {i}") for i in range(12)]
    assert outcomes(1, bodies) == outcomes(1, bodies[::-1]) != outcomes(2, bodies)


def test_shares_are_exact():
    faults = Faults(overloaded=0.1, timeout=0.2, truncated=0.3)
    n = 20_000
    struck = collections.Counter(faults.draw(OF_MESSAGES, 0, i) for i in range(n))
    for name, share in {"overloaded": 0.1, "timeout": 0.2, "truncated": 0.3, "": 0.4}.items():
        assert abs(struck[name] / n - share) < 4 * (share * (1 - share) / n) ** 0.5
    with pytest.raises(ValueError, match="add up to 1.2, expected at most 1"):
        Faults(overloaded=0.6, empty=0.6)


def test_a_client_that_retries_gets_everything():
    share = dict.fromkeys(("rate_limited", "dropped", "timeout"), 0.15)
    bodies = [body(str(i)) for i in range(30)]
    with FaultServer(Faults(**share, retry_after=0.001, hang=0.01), seed=3) as server:
        answers = ask(server, bodies, max_retries=0)
        for _ in range(20):
            again = [sent for sent, got in zip(bodies, answers, strict=True) if isinstance(got, Exception)]
            if not again:
                break
            bodies, answers = again, ask(server, again)
    assert server.bodies == {digest(body(str(i))): 1 for i in range(30)}
    assert server.requests == sum(server.by_fault.values()) == 30 + sum(server.by_fault[name] for name in share)


def test_the_rate_limit_holds():
    rate = 50.0
    with FaultServer(rate_limit=rate) as server:
        start = time.monotonic()
        answers = ask(server, [body(str(i)) for i in range(20)], max_retries=50)
        seconds = time.monotonic() - start
        [refused] = [got for got in ask(server, [body()] * 40) if isinstance(got, Exception)][-1:]
    assert not any(isinstance(answer, Exception) for answer in answers)
    assert rate * (0.1 + seconds) + 1 >= 20
    assert server.limited > 0 and server.requests == server.limited + sum(server.by_fault.values())
    headers = refused.response.headers
    assert (refused.status_code, headers["anthropic-ratelimit-requests-limit"]) == (429, "3000")
    assert headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert headers["anthropic-ratelimit-requests-reset"].endswith("Z")
    assert 0 < float(headers["retry-after"]) <= 1 / rate + 1e-3


def test_a_client_that_hung_up_is_not_answered():
    with FaultServer(latency=0.2) as server:
        [got] = ask(server, [body()], timeout=0.05)
        time.sleep(0.3)
    assert isinstance(got, anthropic.APITimeoutError)
    assert (server.requests, server.answered, server.bodies) == (1, 0, {})


def test_a_fault_of_the_test_s_own_code_shows():
    with pytest.raises(ZeroDivisionError), FaultServer(text=lambda body: str(1 / 0)) as server:
        ask(server, [body()])


def test_a_batch_from_creation_to_results():
    requests = [{"custom_id": f"id_{i}", "params": body(str(i % 50))} for i in range(200)]
    with FaultServer(batch_seconds=0.1) as server:
        start = time.monotonic()
        ended, results = batch(server, requests)
        assert time.monotonic() - start >= 0.1
    names = [request["custom_id"] for request in requests]
    assert server.batches == {ended.id: names}
    assert [name for name, _ in results] != names and sorted(name for name, _ in results) == sorted(names)
    assert ended.request_counts.succeeded == server.answered == 200 and ended.request_counts.processing == 0
    assert len({result.message.content[0].text for _, result in results}) == 200
    assert set(server.bodies.values()) == {4} and server.requests == 0


def test_faults_of_results():
    requests = [{"custom_id": str(i), "params": body(f"{i} {'bad' * (i < 10)}")} for i in range(400)]
    faults = Faults(
        **dict.fromkeys(("missing", "duplicated", "expired", "errored", "refusal", "empty", "truncated"), 0.1),
        rejected=lambda body: "bad" in body["messages"][0]["content"],
    )
    with FaultServer(faults) as server:
        ended, results = batch(server, requests)
    struck, counts = server.by_fault, ended.request_counts
    assert all(20 <= struck[name] <= 60 for name in ("missing", "duplicated", "expired", "errored", "refusal", "empty"))
    times = collections.Counter(name for name, _ in results)
    assert 400 - len(times) == struck["missing"] and list(times.values()).count(2) == struck["duplicated"]
    assert counts.expired == struck["expired"] and counts.errored == struck["errored"] + 10
    assert counts.succeeded == server.answered == 400 - counts.expired - counts.errored
    kinds = {(int(name) < 10, result.error.error.type) for name, result in results if result.type == "errored"}
    assert kinds == {(True, "invalid_request_error"), (False, "api_error")}
    stops = {result.message.stop_reason for _, result in results if result.type == "succeeded"}
    assert stops == set(STOP_REASONS.values())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "got 0 of them, expected 1 to 100000"),
        (["a", "a"], "requests.1.custom_id: 'a' comes twice"),
        (["a", "a/b"], "requests.1.custom_id: got 'a/b'"),
        (["a" * 65], "requests.0.custom_id: got 'a"),
    ],
)
def test_a_batch_against_the_rules_is_refused(names, message):
    with FaultServer() as server, pytest.raises(anthropic.BadRequestError, match=message):
        batch(server, [{"custom_id": name, "params": body()} for name in names])


def test_batches_are_listed_newest_first_and_can_be_canceled():
    async def work(client):
        batches = client.messages.batches
        made = [await batches.create(requests=[{"custom_id": "a", "params": body()}]) for _ in range(3)]
        canceled = await batches.cancel(made[0].id)
        assert (canceled.processing_status, canceled.results_url) == ("canceling", None)
        [result] = [line.result async for line in await batches.results(made[0].id)]
        assert result.type == "canceled" and (await batches.retrieve(made[0].id)).request_counts.canceled == 1
        with pytest.raises(anthropic.BadRequestError):
            await batches.cancel(made[0].id)
        with pytest.raises(anthropic.NotFoundError):
            await batches.retrieve("msgbatch_none")
        return [one.id for one in made], [one.id async for one in batches.list(limit=2)]

    with FaultServer(batch_seconds=60.0) as server:
        made, listed = run(server, work)
    assert listed == made[::-1] == list(server.batches)[::-1] and server.answered == 0


def test_calls_that_manage_batches_fail_too():
    with FaultServer(Faults(overloaded=0.3, server_error=0.3, rate_limited=0.4)) as server:

        async def work(client):
            calls = [client.messages.batches.list(extra_query={"try": i}) for i in range(40)]
            return await asyncio.gather(*calls, return_exceptions=True)

        statuses = {getattr(got, "status_code", 200) for got in run(server, work)}
    assert statuses == {200, 500, 529}


def test_it_runs_in_a_process_of_its_own(tmp_path):
    port, stats = tmp_path / "port", tmp_path / "stats"
    command = [
        sys.executable,
        "-m",
        fault_server.__name__,
        "--port-file",
        port,
        "--stats-file",
        stats,
        "--share",
        "0.6",
    ]
    with subprocess.Popen(command) as process:
        try:
            while not port.exists():
                assert process.poll() is None
                time.sleep(0.01)
            server = FaultServer()
            server.url = f"http://127.0.0.1:{port.read_text()}"
            got = [one for _ in range(3) for one in ask(server, [body(str(i)) for i in range(20)])]
            answered = sum(isinstance(one, anthropic.types.Message) for one in got)
            deadline = time.monotonic() + 5
            counts = {}
            while (counts.get("requests"), counts.get("answered")) != (60, answered) and time.monotonic() < deadline:
                time.sleep(0.01)
                counts = json.loads(stats.read_text())
        finally:
            process.kill()
    assert counts["requests"] == 60 and 0 < counts["answered"] == answered < 60 and 1 <= counts["most_per_body"] <= 3
    assert counts["distinct_bodies"] <= 20
