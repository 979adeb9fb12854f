"""Small data in LaMP's format, a base of 8 features, and one finished run that all tests may read."""

import dataclasses
import hashlib
import json
import pathlib
import random

import numpy as np
import pytest

from hydrajax import training
from hydrajax.data import tasks
from hydrajax.llm import request, scripted
from hydrajax.methods import selection
from hydrajax.methods import settings as settings_lib
from hydrajax.prompting import contract
from hydrajax.runs import config as config_lib
from hydrajax.runs import lamp as lamp_lib
from hydrajax.runs import machine as machine_lib
from hydrajax.runs import plan, workbench
from hydrajax.runs import run as run_lib

WORDS = (
    "harbour", "lantern", "meadow", "copper", "violin", "glacier", "orchard", "compass", "thunder", "velvet", "saddle",
    "pepper", "canvas", "marble", "sparrow", "engine", "ribbon", "window", "barley", "anchor",
)  # fmt: skip
SETTINGS = settings_lib.Settings(
    retrieved=3, shown=(1, 2), samples=2, temperature=0.7, pseudo_queries=2, label_queries=1, adapter_pools="shared",
    validation=0.34, derangements=2,
)  # fmt: skip
SCORER = training.FitConfig(pooled_epochs=2, dropout=0.0, learning_rate=0.05)


def features(texts):
    """Stands for the base: 8 numbers of a text, or of a pair of texts."""
    rows = []
    for text in texts:
        drawn = hashlib.sha256(repr(text).encode()).digest()[:8]
        rows.append([byte / 128 - 1 for byte in drawn])
    return np.array(rows, np.float32).reshape(len(rows), 8)


def encoders(base, cache):
    return features, features


def write_lamp(folder: pathlib.Path, task="LaMP_2M", *, train=6, dev=3, records=4, cold=1, salt=""):
    """Writes `folder/TASK/*.json`; a question is a user, and the last `cold` dev users have no profile."""
    row = tasks.LAMP[task]
    (folder / task).mkdir(parents=True, exist_ok=True)
    for split, count in (("train", train), ("dev", dev)):
        questions, golds = [], []
        for i in range(count):
            rng = random.Random(f"{task} {split} {i} {salt}")
            name = f"{split}{i}"
            own = records if split == "train" or i < dev - cold else 0
            profile = [{"id": f"{name}-{j}", **record(row, rng)} for j in range(own)]
            asked = record(row, rng)
            slot = next(iter(row.inputs.values()), row.corpus[0])
            text = row.question({"text": asked[slot]})
            questions.append({"id": name, "input": text, "profile": profile})
            golds.append({"id": name, "output": asked[row.answer]})
        (folder / task / f"{split}_questions.json").write_text(json.dumps(questions))
        (folder / task / f"{split}_outputs.json").write_text(json.dumps({"task": task, "golds": golds}))
    return folder


def record(row, rng):
    fields = {field: " ".join(rng.choices(WORDS, k=9)) for field in row.fields}
    if row.labels:
        fields[row.answer] = rng.choice(row.labels[:3])
    return fields


def make_config(folder, task="LaMP_2M", *, kind=config_lib.Lamp, **changes):
    values = {
        "task": task,
        "data_dir": str(folder),
        "train_users": None,
        "dev_users": None,
        "llm": "scripted",
        "settings": SETTINGS,
        "scorer": SCORER,
        "losses": ("cross_entropy",),
        "epochs": (2,),
    }
    return kind(**values | changes)


def without_costs(results):
    """What must not depend on when and how often a run was interrupted."""
    return {name: value for name, value in results.items() if name not in ("seconds", "llm")}


def quiet(line):
    pass


@pytest.fixture(autouse=True)
def _small_base(monkeypatch):
    monkeypatch.setattr(workbench, "encoders", encoders)


class Learner(selection.ValidatedLearner):
    """Guesses instead of training."""

    def __init__(self, *args, **rest):
        object.__setattr__(self, "choices", {})
        object.__setattr__(self, "fitted", {})

    def fit(self, name, **rows):
        return plan.GuessingLearner().fit(name, **rows)


@pytest.fixture
def untrained(monkeypatch):
    """Runs without training and with an empty report: for what does not depend on them."""
    monkeypatch.setattr(selection, "ValidatedLearner", Learner)
    monkeypatch.setattr(lamp_lib, "write_report", lambda out: (out / "report.html").write_text(""))


@pytest.fixture
def lamp():
    return write_lamp


@pytest.fixture
def config():
    return make_config


@pytest.fixture
def settings():
    def make(**changes):
        prompts = changes.pop("prompts", {})
        return dataclasses.replace(SETTINGS, prompts=contract.PromptSettings(**prompts), **changes)

    return make


@pytest.fixture
def comparable():
    return without_costs


@pytest.fixture
def machine():
    """A machine whose store and cache are in a folder."""

    def make(folder):
        return machine_lib.Machine(store=str(folder / "answers.sqlite"), cache=str(folder / "features"))

    return make


@pytest.fixture
def run():
    """Runs without a word."""

    def call(config, out, machine, command="hydrajax run"):
        return run_lib.run(config, out, command=command, machine=machine, say=quiet)

    return call


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished run: its folder, configuration, machine and results."""

    out: pathlib.Path
    config: config_lib.RunConfig
    machine: machine_lib.Machine
    results: dict

    def predictions(self):
        return [json.loads(line) for line in (self.out / "predictions.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The one run with real training. Read it, copy it, never write into it."""
    folder = tmp_path_factory.mktemp("finished")
    config = make_config(write_lamp(folder / "data", "LaMP_3"), "LaMP_3")
    machine = machine_lib.Machine(store=str(folder / "answers.sqlite"), cache=str(folder / "features"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workbench, "encoders", encoders)
        results = run_lib.run(config, folder / "run", command="hydrajax run it", machine=machine, say=quiet)
    return Finished(out=folder / "run", config=config, machine=machine, results=results)


async def never(self, wanted):
    raise AssertionError("the LLM was called")


class Dies:
    """`Scripted.complete` that fails from the n-th call on."""

    def __init__(self, monkeypatch, n):
        self.calls = 0
        complete = scripted.Scripted.complete

        async def dying(inner, wanted):
            self.calls += 1
            if self.calls > n:
                raise request.LLMError("the LLM went away")
            return await complete(inner, wanted)

        monkeypatch.setattr(scripted.Scripted, "complete", dying)
