"""Samplers in processes of their own, which can be killed."""

import contextlib
import subprocess
import sys

SAMPLER = """
import sys
from hydrajax.llm import batches, direct, in_batches, request, sampler, store
from hydrajax.types import Message
url, path, count, samples, way = sys.argv[1:]
direct.backoff = in_batches.backoff = lambda attempt, rng: 0.01
answers = store.Store(path)
settings = {"most_requests": 10, "poll_seconds": 0.02}
transport = batches.Batches("m", sends=way == "batches", **settings, base_url=url, api_key="k", parallel=8)
llm = sampler.StoredSampler(transport, answers)
wanted = [request.Request(messages=(Message(role="user", text=f"q{i}"),), max_tokens=9, sample=s)
          for i in range(int(count)) for s in range(int(samples))]
print("ready", flush=True)
sys.stdin.readline()
found = llm.sample(wanted, stage="s")
assert way == "batches" or len({answer.text for answer in found}) == len(wanted)
print(llm.usage.calls, llm.usage.cached, flush=True)
llm.close()
answers.close()
"""


@contextlib.contextmanager
def samplers(number, server, path, count, *, samples=1, batches=False):
    """So many processes that begin at once; each prints its calls, and its answers from the store."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    words = (server.url, str(path), str(count), str(samples), "batches" if batches else "direct")
    runs = [subprocess.Popen([sys.executable, "-c", SAMPLER, *words], text=True, **pipes) for _ in range(number)]
    try:
        for run in runs:
            assert run.stdout.readline() == "ready\n", run.communicate()
        for run in runs:
            run.stdin.write("go\n")
            run.stdin.flush()
        yield runs
    finally:
        for run in runs:
            run.kill()
            run.communicate()
