"""How much memory a whole run takes: 100 training and 50 new users.

Source    simulated LaMP_4 files that this script writes: profiles of 10 to 60 records of 50 to 150 words, drawn from a
          small vocabulary. The LLM is the scripted stand-in, so that what is measured is the run itself.
Command   python -m experiments.benchmarks memory [--json]
Expected  a peak of about 2.2 GiB; the exit code is 1 above the limit of 4 GiB.
Cost      5 minutes on 2 cores, one of them busy; nothing in money.
Smoke     python -m experiments.benchmarks memory --train-users 6 --dev-users 3        (under a minute)
"""

import dataclasses
import json
import os
import pathlib
import random
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any, Literal

from experiments.benchmarks import _benchmark
from hydrajax.data import tasks

LIMIT = 4 * 2**30
TASK = tasks.LAMP["LaMP_4"]
RECORDS = (10, 60)
WORDS = (50, 150)
TITLE_WORDS = (6, 12)
# Common words, which the base's tokenizer reads as one or two tokens each, as it does with news.
COMMON = (
    "about after again among answer begin between bridge bright bring build carry change city clear close cold common "
    "cover cross dark early east enough evening family farm field finally follow forest garden given glass gold great "
    "green ground harbour heavy house iron island kept kitchen known large later leave letter light little long market "
    "matter meet middle mountain morning narrow never night north number ocean often open paper people place plain "
    "point price quiet quite rather reach ready river road round school season second seldom seven shore short silver "
    "simple since small south spring station stone story street strong summer table thousand through together town "
    "train travel under until valley village visit voice water weather whole winter without wooden world write year"
)
VOCABULARY = COMMON.split()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(_benchmark.Options):
    """Peak memory of a run with the scripted LLM."""

    train_users: int = 100
    """Users who train base and heads."""
    dev_users: int = 50
    """New users."""
    preset: Literal["small", "default", "paper"] = "small"
    """Sizes of the run, as in `hydrajax run --preset`."""
    seed: int = 0
    """Of the simulated data."""


def measure(options: Options) -> dict[str, Any]:
    """Runs in a child process, in a folder that is removed afterwards, and returns what was measured.

    Returns:
      users, calls of the scripted LLM, seconds, peak resident memory of the child in bytes, and the limit.

    Raises:
      subprocess.CalledProcessError: the run failed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_data(folder / "data", options)
        command = [
            sys.executable, "-m", "hydrajax.cli", "run", "lamp", "--task", TASK.name,
            "--data-dir", str(folder / "data"), "--llm", "scripted", "--preset", options.preset,
            "--train-users", str(options.train_users), "--dev-users", str(options.dev_users),
            "--out", str(folder / "run"), "--store", str(folder / "answers.sqlite"),
        ]  # fmt: skip
        start = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "XDG_CACHE_HOME": name})
        seconds = time.monotonic() - start
        found = json.loads((folder / "run" / "results.json").read_text())
    return {
        "train_users": options.train_users,
        "dev_users": options.dev_users,
        "preset": options.preset,
        "calls": found["llm"]["calls"],
        "seconds": seconds,
        "peak_bytes": _benchmark.peak_bytes(resource.RUSAGE_CHILDREN),
        "limit_bytes": LIMIT,
    }


def write_data(folder: pathlib.Path, options: Options) -> None:
    """LaMP's files with simulated users, one question each."""
    place = folder / TASK.name
    place.mkdir(parents=True)
    for split, users in (("train", options.train_users), ("dev", options.dev_users)):
        rng = random.Random(f"{options.seed} {split}")
        questions, golds = [], []
        for i in range(users):
            profile = [{"id": str(j), **_item(rng)} for j in range(rng.randint(*RECORDS))]
            asked = _item(rng)
            questions.append({"id": f"{split}-{i}", "input": TASK.question(asked), "profile": profile})
            golds.append({"id": f"{split}-{i}", "output": asked["title"]})
        (place / f"{split}_questions.json").write_text(json.dumps(questions))
        (place / f"{split}_outputs.json").write_text(json.dumps({"task": TASK.name, "golds": golds}))


def _item(rng: random.Random) -> dict[str, str]:
    text = rng.choices(VOCABULARY, k=rng.randint(*WORDS))
    # A title of the article's own words, so that answers differ in quality and there is something to learn.
    title = rng.sample(text, rng.randint(*TITLE_WORDS))
    return {"text": " ".join(text), "title": " ".join(title)}


main = _benchmark.Benchmark(parts={"run": measure}, figures=("",), most={"peak_bytes": LIMIT})
