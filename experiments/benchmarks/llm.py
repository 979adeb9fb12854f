"""Sampling from an API LLM: nothing lost, nothing paid for twice, as fast as the server allows.

Source    a server on the loopback interface that speaks the Messages protocol and fails by seed
          (`tests/llm/fault_server.py`), and the embedded LLM.
Command   python -m experiments.benchmarks llm [--json]
Expected  every check true; at least .95 of the rate limit; thousands of answers written and tens of thousands read a
          second; the embedded LLM at least twice as fast with the samples of a prompt in turn as with all at once.
Cost      about 8 minutes on 2 cores; nothing in money.
Smoke     python -m experiments.benchmarks llm --parts store faults --requests 300        (seconds)
"""

import asyncio
import contextlib
import dataclasses
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, Literal, get_args

from experiments.benchmarks import _benchmark
from hydrajax import files
from hydrajax.llm import local_server, messages, request, sampler, store
from hydrajax.llm.request import Answer, Request
from hydrajax.types import Message
from tests.llm import fault_server
from tests.llm.faults import Faults

Part = Literal["faults", "kills", "rate", "store", "local"]
MODEL = "claude-haiku-4-5"
SAMPLES = 4
IN_FLIGHT = 64  # requests at most
WRONG = dict.fromkeys(
    ("rate_limited", "rate_limited_bare", "overloaded", "server_error", "dropped", "invalid_json"), 0.3 / 6
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(_benchmark.Options):
    """The LLM layer against a server that fails, a rate limit, its store, and the embedded LLM."""

    parts: tuple[Part, ...] = get_args(Part)
    """Which parts."""
    requests: int = 10_000
    """Of the parts `faults` and `kills`."""
    kills: int = 20
    """How often the client is killed."""
    seed: int = 0
    """Of faults and moments."""


def requests_of(count: int) -> list[Request]:
    """`count` requests: prompts with four samples each, of users with ten prompts each."""
    return [
        Request(
            messages=(Message(role="user", text=f"question {i // SAMPLES}"),),
            max_tokens=8,
            temperature=1.0,
            sample=i % SAMPLES,
            group=f"user {i // (10 * SAMPLES)}",
        )
        for i in range(count)
    ]


@contextlib.contextmanager
def client(way: Any, path: pathlib.Path | str = ":memory:") -> Iterator[tuple[sampler.StoredSampler, store.Store]]:
    """What samples by this way, with its store."""
    with (
        contextlib.closing(store.Store(path)) as answers,
        contextlib.closing(sampler.StoredSampler(way, answers)) as llm,
    ):
        yield llm, answers


def faults(options: Options) -> dict[str, Any]:
    """Many requests, 30 % of which fail in some way, a few for good."""
    injected = Faults(**WRONG, empty=0.01, refusal=0.01, truncated=0.01, rejected=_is_rejected)
    wanted = requests_of(options.requests)
    rejected = {i for i, r in enumerate(wanted) if _is_rejected(messages.body(MODEL, MODEL, r))}
    with tempfile.TemporaryDirectory() as folder, fault_server.FaultServer(injected, seed=options.seed) as server:
        way = messages.Messages(MODEL, base_url=server.url, api_key="k")
        with client(way, pathlib.Path(folder) / "faults.sqlite") as (llm, answers):
            before, start = _benchmark.peak_bytes(), time.monotonic()
            outcome = llm.sample_all(wanted, stage="faults")
            seconds, after = time.monotonic() - start, _benchmark.peak_bytes()
            sent, stored = sum(answers.attempts().values()), len(answers)
    return {
        "requests": len(wanted),
        "seconds": seconds,
        "faults_injected": sum(n for kind, n in server.by_fault.items() if kind),
        "server_saw": server.requests,
        "store_claims": sent,
        "answered_by_server": server.answered,
        "answers_stored": stored,
        "failed_for_good": len(outcome.failures),
        "memory_mb": (after - before) / 2**20,
        "server_and_store_agree": server.requests == sent,
        "every_answer_of_the_server_is_stored": server.answered == stored,
        "each_request_answered_once_or_failed_for_good": all(
            (answer is None) == (i in outcome.failures) for i, answer in enumerate(outcome.answers)
        ),
        "no_sample_asked_twice": max(server.bodies.values()) <= SAMPLES,
        "failures_are_the_rejected_ones": set(outcome.failures) == rejected,
    }


def _is_rejected(body: dict[str, Any]) -> bool:
    return body["messages"][-1]["content"].endswith("77")


def kills(options: Options) -> dict[str, Any]:
    """The client killed at random moments, and started again each time."""
    rng = random.Random(options.seed)
    lines = [
        {"id": i, "messages": [{"role": "user", "content": f"question {i}"}], "n": SAMPLES, "max_tokens": 8}
        for i in range(options.requests // SAMPLES)
    ]
    injected = Faults(**WRONG)
    with (
        tempfile.TemporaryDirectory() as folder,
        fault_server.FaultServer(injected, seed=options.seed, latency=0.05) as server,
    ):
        asked, answered, path = (pathlib.Path(folder) / name for name in ("in.jsonl", "out.jsonl", "kills.sqlite"))
        files.write_lines(asked, lines)
        command = [
            sys.executable, "-m", "hydrajax.cli", "sample", "--input", str(asked), "--output", str(answered),
            "--llm", MODEL, "--store", str(path),
        ]  # fmt: skip
        environment = {"ANTHROPIC_BASE_URL": server.url, "ANTHROPIC_API_KEY": "k", "PATH": "/usr/bin:/bin"}
        killed, progress = 0, []
        while killed < options.kills:
            begun = server.answered
            process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            while process.poll() is None and server.answered == begun:
                time.sleep(0.02)
            time.sleep(rng.uniform(0.0, 0.6))
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
            with contextlib.closing(store.Store(path)) as answers:
                progress.append(len(answers))
        last = subprocess.run(command, env=environment, capture_output=True, text=True)
        written = [row for _, row in files.numbered_lines(answered)]
    repeated = server.answered - len(written)
    return {
        "kills": killed,
        "answers_after_each_kill": progress,
        "answered_by_server": server.answered,
        "answers": len(written),
        "repeated": repeated,
        "most_in_flight": IN_FLIGHT,
        "all_answered_in_the_end": last.returncode == 0 and all("text" in row for row in written),
        "each_once": len({(row["id"], row["sample"]) for row in written}) == len(lines) * SAMPLES,
        "only_what_was_in_flight_is_repeated": repeated <= killed * IN_FLIGHT,
        "killed_as_often_as_asked": killed == options.kills,
    }


def rate(options: Options) -> dict[str, Any]:
    """A server of fixed latency and a fixed limit of requests a second, which it names in its headers or not."""
    limit, latency, seconds = 100.0, 0.3, 20
    found: dict[str, Any] = {"limit_per_second": limit, "latency_seconds": latency}
    wanted = requests_of(int(limit * seconds))
    # What a perfect client needs: the bucket's burst at once, then the rate, and one latency at the end.
    ideal = (len(wanted) - limit / 10) / limit + latency
    for name, headers in (("share_of_limit", True), ("share_of_limit_unnamed", False)):
        with fault_server.FaultServer(latency=latency, rate_limit=limit, headers=headers) as server:
            with client(messages.Messages(MODEL, base_url=server.url, api_key="k")) as (llm, _):
                start = time.monotonic()
                llm.sample(wanted, stage=name)
                found[name] = ideal / (time.monotonic() - start)
            found[name.replace("share_of_limit", "complaints")] = server.limited
    return found


def store_speed(options: Options) -> dict[str, Any]:
    """Answers written one by one, each in a transaction of its own, and read one by one."""
    count = 10_000
    keys = [request.key("m", r) for r in requests_of(count * SAMPLES)[::SAMPLES]]
    answer = Answer(text="word " * 60, stop_reason="end_turn", input_tokens=500, output_tokens=80)
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.closing(store.Store(pathlib.Path(folder) / "speed.sqlite")) as answers,
    ):
        start = time.monotonic()
        for key in keys:
            answers.put((key, 0), "m", answer)
        written = time.monotonic()
        there = answers.get_many((key, 0) for key in keys)
        read = time.monotonic()
    return {
        "written_per_second": count / (written - start),
        "read_per_second": count / (read - written),
        "all_there": len(there) == count,
    }


def local(options: Options) -> dict[str, Any]:
    """The embedded LLM: the samples of long prompts in turn, against all at once on a server with as many slots."""
    prompts, b = 6, 8
    rng = random.Random(options.seed)
    texts = [" ".join(rng.choices(_benchmark.WORDS, k=650)) + " What happens next?" for _ in range(prompts)]
    wanted = [
        Request(messages=(Message(role="user", text=text),), max_tokens=24, temperature=1.0, sample=i)
        for text in texts
        for i in range(b)
    ]
    found: dict[str, Any] = {"prompts": prompts, "samples": b}
    for name, slots in (("in_turn", 1), ("at_once", 4)):
        with client(local_server.LocalServer(threads=2, slots=slots)) as (llm, _):
            # Warm: loading the weights is not what is measured.
            llm.sample([Request(messages=(Message(role="user", text="Say yes."),), max_tokens=2)], stage="warm")
            start = time.monotonic()
            drawn = _at_once(wanted) if slots > 1 else llm.sample(wanted, stage=name)
            found[f"{name}_per_second"] = len(wanted) / (time.monotonic() - start)
        read = [sum(a.input_tokens - a.cache_read for a in drawn[p * b : (p + 1) * b]) for p in range(prompts)]
        found[f"{name}_most_prefills_per_prompt"] = max(
            tokens / drawn[p * b].input_tokens for p, tokens in enumerate(read)
        )
        time.sleep(3.0)  # the server ends when nobody has it
    return found | {"ratio": found["in_turn_per_second"] / found["at_once_per_second"]}


def _at_once(wanted: list[Request]) -> list[Answer]:
    """What somebody would write who does not think of the prompt cache: everything sent at once."""

    async def everything() -> list[Answer]:
        way = local_server.LocalServer()  # joins the one that runs
        try:
            first = await way.complete(wanted[0])
            return [first, *await asyncio.gather(*(way.complete(one) for one in wanted[1:]))]
        finally:
            await way.close()

    return asyncio.run(everything())


main = _benchmark.Benchmark(
    parts={"faults": faults, "kills": kills, "rate": rate, "store": store_speed, "local": local},
    least={"share_of_limit": 0.95, "written_per_second": 2000, "read_per_second": 20_000, "ratio": 2},
    most={"memory_mb": 300, "in_turn_most_prefills_per_prompt": 2},
)
