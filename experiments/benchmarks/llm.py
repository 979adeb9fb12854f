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
import json
import pathlib
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, Literal

import rich.console
import rich.table
import tyro

from hydrajax.llm import local_server, messages, request, sampler, store
from hydrajax.llm.request import Answer, Request
from hydrajax.types import Message
from tests.llm import fault_server

Part = Literal["faults", "kills", "rate", "store", "local"]
MODEL = "claude-haiku-4-5"
SAMPLES = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The LLM layer against a server that fails, a rate limit, its store, and the embedded LLM."""

    parts: tuple[Part, ...] = ("faults", "kills", "rate", "store", "local")
    """Which parts."""
    requests: int = 10_000
    """Of the parts `faults` and `kills`."""
    kills: int = 20
    """How often the client is killed."""
    seed: int = 0
    """Of faults and moments."""
    json: bool = False
    """Print one JSON object as the last line."""


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
def server_process(folder: pathlib.Path, **options: Any) -> Iterator[tuple[str, pathlib.Path]]:
    """The server in a process of its own: its address, and the file of its counts."""
    port, stats = folder / "port", folder / "stats.json"
    script = pathlib.Path(fault_server.__file__)
    command = [sys.executable, str(script), "--port-file", str(port), "--stats-file", str(stats)]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    with subprocess.Popen(command) as process:
        try:
            while not port.exists():
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port.read_text()}", stats
        finally:
            process.kill()


def faults(options: Options, folder: pathlib.Path) -> dict[str, Any]:
    """Many requests, 30 % of which fail in some way, a few for good."""
    share = 0.3 / 6
    wrong = dict.fromkeys(("rate_limited", "rate_limited_bare", "overloaded", "server_error", "dropped"), share)
    injected = fault_server.Faults(
        **wrong, invalid_json=share, empty=0.01, refusal=0.01, truncated=0.01, rejected=_is_rejected
    )
    with fault_server.FaultServer(injected, seed=options.seed) as server:
        answers = store.Store(folder / "faults.sqlite")
        llm = sampler.StoredSampler(messages.Messages(MODEL, base_url=server.url, api_key="k"), answers)
        wanted = requests_of(options.requests)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.monotonic()
        outcome = llm.sample_all(wanted, stage="faults")
        seconds = time.monotonic() - start
        memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        llm.close()
        rejected = {i for i, r in enumerate(wanted) if _is_rejected(messages.body(MODEL, MODEL, r))}
        noted = answers.attempts()
        found = {
            "requests": len(wanted),
            "seconds": round(seconds, 1),
            "faults_injected": sum(n for kind, n in server.by_fault.items() if kind),
            "server_saw": server.requests,
            "store_claims": sum(noted.values()),
            "answered_by_server": server.answered,
            "answers_stored": len(answers),
            "failed_for_good": len(outcome.failures),
            "memory_mb": round(memory, 1),
        }
        found["checks"] = {
            "server and store agree": found["server_saw"] == found["store_claims"],
            "every answer of the server is stored": found["answered_by_server"] == found["answers_stored"],
            "each request answered once or failed for good": all(
                (answer is None) == (i in outcome.failures) for i, answer in enumerate(outcome.answers)
            ),
            "no sample asked twice": max(server.bodies.values()) <= SAMPLES,
            "failures are the rejected ones": set(outcome.failures) == rejected,
            "memory below 300 MB": memory < 300,
        }
        answers.close()
    return found


def _is_rejected(body: dict[str, Any]) -> bool:
    return body["messages"][-1]["content"].endswith("77")


def kills(options: Options, folder: pathlib.Path) -> dict[str, Any]:
    """The client killed at random moments, and started again each time."""
    rng = random.Random(options.seed)
    path = folder / "kills.sqlite"
    lines = [
        {"id": i, "messages": [{"role": "user", "content": f"question {i}"}], "n": SAMPLES, "max_tokens": 8}
        for i in range(options.requests // SAMPLES)
    ]
    (folder / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with server_process(folder, share=0.3, latency=0.05, seed=options.seed) as (url, stats):
        command = [
            sys.executable, "-m", "hydrajax.cli", "sample", "--input", str(folder / "in.jsonl"),
            "--output", str(folder / "out.jsonl"), "--llm", MODEL, "--store", str(path),
        ]  # fmt: skip
        environment = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "k", "PATH": "/usr/bin:/bin"}
        killed, progress = 0, []
        while killed < options.kills:
            process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            begun = json.loads(stats.read_text())["answered"]
            while process.poll() is None and json.loads(stats.read_text())["answered"] == begun:
                time.sleep(0.02)
            time.sleep(rng.uniform(0.0, 0.6))
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
            answers = store.Store(path)
            progress.append(len(answers))
            answers.close()
        last = subprocess.run(command, env=environment, capture_output=True, text=True)
        time.sleep(0.2)
        seen = json.loads(stats.read_text())
    written = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    found = {
        "kills": killed,
        "answers_after_each_kill": progress,
        "answered_by_server": seen["answered"],
        "answers": len(written),
        "repeated": seen["answered"] - len(written),
        "most_in_flight": 64,
    }
    found["checks"] = {
        "all answered in the end": last.returncode == 0 and all("text" in row for row in written),
        "each once": len({(row["id"], row["sample"]) for row in written}) == len(lines) * SAMPLES,
        "only what was in flight is repeated": found["repeated"] <= killed * found["most_in_flight"],
        "killed as often as asked": killed == options.kills,
    }
    return found


def rate(options: Options, folder: pathlib.Path) -> dict[str, Any]:
    """A server of fixed latency and a fixed limit of requests a second, which it names in its headers or not."""
    limit, latency, seconds = 100.0, 0.3, 20
    found: dict[str, Any] = {"limit_per_second": limit, "latency_seconds": latency}
    for name, headers in (("share_of_limit", True), ("share_of_limit_unnamed", False)):
        with fault_server.FaultServer(latency=latency, rate_limit=limit, headers=headers) as server:
            answers = store.Store(":memory:")
            llm = sampler.StoredSampler(messages.Messages(MODEL, base_url=server.url, api_key="k"), answers)
            wanted = requests_of(int(limit * seconds))
            start = time.monotonic()
            llm.sample(wanted, stage=name)
            # What a perfect client needs: the bucket's burst at once, then the rate, and one latency at the end.
            ideal = (len(wanted) - limit / 10) / limit + latency
            found[name] = round(ideal / (time.monotonic() - start), 3)
            found[name.replace("share_of_limit", "complaints")] = server.limited
            llm.close()
            answers.close()
    found["checks"] = {"at least .95 of the limit": found["share_of_limit"] >= 0.95}
    return found


def store_speed(options: Options, folder: pathlib.Path) -> dict[str, Any]:
    """Answers written one by one, each in a transaction of its own, and read one by one."""
    answers, count = store.Store(folder / "speed.sqlite"), 10_000
    keys = [request.key("m", r) for r in requests_of(count * SAMPLES)[::SAMPLES]]
    answer = Answer(text="word " * 60, stop_reason="end_turn", input_tokens=500, output_tokens=80)
    start = time.monotonic()
    for key in keys:
        answers.put(key, 0, "m", answer)
    written = count / (time.monotonic() - start)
    start = time.monotonic()
    there = answers.get_many((key, 0) for key in keys)
    read = count / (time.monotonic() - start)
    answers.close()
    return {
        "written_per_second": round(written),
        "read_per_second": round(read),
        "checks": {
            "2,000 written": written >= 2000,
            "20,000 read": read >= 20_000,
            "all there": len(there) == count,
        },
    }


def local(options: Options, folder: pathlib.Path) -> dict[str, Any]:
    """The embedded LLM: the samples of long prompts in turn, against all at once on a server with as many slots."""
    prompts, b = 6, 8
    words = "the harbour lay quiet while somebody in town counted letters that never came".split()  # noqa: SIM905
    rng = random.Random(options.seed)
    texts = [" ".join(rng.choices(words, k=650)) + " What happens next?" for _ in range(prompts)]
    wanted = [
        Request(messages=(Message(role="user", text=text),), max_tokens=24, temperature=1.0, sample=i)
        for text in texts
        for i in range(b)
    ]
    found: dict[str, Any] = {"prompts": prompts, "samples": b}
    for name, slots in (("in_turn", 1), ("at_once", 4)):
        answers = store.Store(":memory:")
        way = local_server.LocalServer(threads=2, slots=slots)
        llm = sampler.StoredSampler(way, answers)
        # Warm: loading the weights is not what is measured.
        llm.sample([Request(messages=(Message(role="user", text="Say yes."),), max_tokens=2)], stage="warm")
        start = time.monotonic()
        drawn = _at_once(wanted) if slots > 1 else llm.sample(wanted, stage=name)
        found[f"{name}_per_second"] = round(len(wanted) / (time.monotonic() - start), 2)
        read = [sum(a.input_tokens - a.cache_read for a in drawn[p * b : (p + 1) * b]) for p in range(prompts)]
        whole = [drawn[p * b].input_tokens for p in range(prompts)]
        found[f"{name}_prefills_per_prompt"] = [round(r / w, 2) for r, w in zip(read, whole, strict=True)]
        llm.close()
        answers.close()
        time.sleep(3.0)  # the server ends when nobody has it
    found["ratio"] = round(found["in_turn_per_second"] / found["at_once_per_second"], 2)
    found["checks"] = {
        "at most 2 prefills a prompt": max(found["in_turn_prefills_per_prompt"]) <= 2.0,
        "twice as fast as all at once": found["ratio"] >= 2.0,
    }
    return found


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


PARTS = {"faults": faults, "kills": kills, "rate": rate, "store": store_speed, "local": local}


def main(options: Options) -> None:
    """Measures, prints a table, and exits with 1 where a check is false."""
    found: dict[str, Any] = {}
    console = rich.console.Console()
    for part in options.parts:
        with tempfile.TemporaryDirectory() as folder:
            found[part] = PARTS[part](options, pathlib.Path(folder))
        table = rich.table.Table(title=part, show_header=False)
        for name, value in found[part].items():
            if name != "checks":
                table.add_row(name.replace("_", " "), str(value))
        for name, held in found[part]["checks"].items():
            table.add_row(name, "yes" if held else "NO", style="" if held else "bold red")
        console.print(table)
    if options.json:
        print(json.dumps(found))
    if not all(held for part in found.values() for held in part["checks"].values()):
        sys.exit(1)


if __name__ == "__main__":
    main(tyro.cli(Options))
