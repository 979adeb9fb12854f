"""A small world of users with planted words, an LLM that keeps what it was asked, and scorers that need no training.

Every text carries a word of its own, so that a test can say where a text went: `ask...` stands in the input of one
record, `own...` in what the user made of it, `real...` and `truth...` in a real query and its gold.
"""

import dataclasses
import hashlib

import numpy as np
import pytest

from hydrajax.data import tasks
from hydrajax.llm import sampler, scripted, store
from hydrajax.methods import hydra, lab
from hydrajax.methods import settings as settings_lib
from hydrajax.prompting import contract
from hydrajax.types import Query, Record, User

VOCABULARY = (
    "harbour", "lantern", "meadow", "copper", "violin", "glacier", "orchard", "compass", "thunder", "velvet", "saddle",
    "pepper", "canvas", "marble", "sparrow", "engine",
)  # fmt: skip
SMALL = settings_lib.Settings(
    retrieved=3, shown=(1, 2), samples=3, temperature=0.7, pseudo_queries=2, adapter_pools="shared", derangements=2
)


def number(*names):
    return int.from_bytes(hashlib.sha256(repr(names).encode()).digest()[:4], "big")


def words(name, count):
    return [VOCABULARY[number(name, i) % len(VOCABULARY)] for i in range(count)]


def texts_of(task, name, ask, own):
    """Record fields: the input has the word `ask`, what the user made of it the word `own` (a label has none)."""
    body = [ask, *words(name, 11)]
    fields = {field: " ".join(body) for field in task.fields}
    answer = " ".join([own, *body[3:7]])
    if task.labels and task.inputs:
        answer = task.labels[number(name) % len(task.labels)]
    elif not task.inputs:  # all that there is of a record is what the user wrote
        answer = " ".join([own, *body])
    fields[task.answer or task.corpus[0]] = answer
    return fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    task: tasks.Task
    users: dict
    people: hydra.People

    def record(self, query: Query) -> Record:
        return next(r for r in self.users[query.user_id].profile if r.id == query.record_id)


def make_world(task="LaMP_4", *, train=3, validation=2, new=3, records=4, queries=1, cold=()):
    """Users `t0`, `v0`, `n0`, ... with profiles (those of `cold` have none) and real queries."""
    task = tasks.LAMP[task] if isinstance(task, str) else task
    ids = {group: [f"{group[0]}{i}" for i in range(n)] for group, n in (("t", train), ("v", validation), ("n", new))}
    users, asked = {}, {}
    for user_id in (u for group in ids.values() for u in group):
        size = 0 if user_id in cold else records
        profile = tuple(
            Record(id=f"r{i}", fields=texts_of(task, (user_id, i), f"ask{user_id}r{i}z", f"own{user_id}r{i}z"))
            for i in range(size)
        )
        users[user_id] = User(id=user_id, profile=profile)
        asked[user_id] = tuple(real_query(task, user_id, j) for j in range(queries))
    people = hydra.People(
        train=ids["t"],
        validation=ids["v"],
        new=ids["n"],
        label_queries=[q for u in ids["t"] for q in asked[u]],
        validation_queries=[q for u in ids["v"] for q in asked[u]],
        new_queries=[q for u in ids["n"] for q in asked[u]],
    )
    return World(task=task, users=users, people=people)


def real_query(task, user_id, j):
    fields = texts_of(task, (user_id, "q", j), f"real{user_id}q{j}z", f"truth{user_id}q{j}z")
    inputs = {slot: fields[field] for slot, field in task.inputs.items()}
    if task.answer is None:
        inputs = {slot: f"{slot} of {user_id} {j}" for slot in task.slots}
    elif not inputs:
        inputs = {task.slots[0]: " ".join([f"real{user_id}q{j}z", *words((user_id, j), 6)])}
    gold = fields[task.answer] if task.answer else task.labels[0]
    return Query(id=f"q-{user_id}-{j}", user_id=user_id, inputs=inputs, gold=gold)


class Spy:
    """A sampler that keeps every request with its stage and its answer."""

    def __init__(self, inner):
        self._inner = inner
        self.model = inner.model
        self.usage = inner.usage
        self.seen = []

    def sample(self, requests, *, stage):
        answers = self._inner.sample(requests, stage=stage)
        self.seen += [(stage, r, a) for r, a in zip(requests, answers, strict=True)]
        return answers

    def requests(self, *stages):
        return [r for stage, r, _ in self.seen if not stages or stage in stages]


class Answering(scripted.Scripted):
    """`Scripted`, except for what `answer(request)` says; None leaves it to `Scripted`."""

    def __init__(self, answer):
        self._answer = answer

    async def complete(self, request):
        found = await super().complete(request)
        text = self._answer(request)
        return found if text is None else dataclasses.replace(found, text=text)


class Scores:
    """A scorer without training: a number made of head and pair; `seen` keeps how it was asked."""

    def __init__(self, name="scores"):
        self.name = name
        self.seen = []

    def scores(self, rows, *, heads=None, pooled=False):
        self.seen.append((list(rows), heads, pooled))
        owners = ["" if pooled else (heads or {}).get(row.user_id, row.user_id) for row in rows]
        drawn = [number(self.name, owner, row.first, row.second) for owner, row in zip(owners, rows, strict=True)]
        return np.array([n / 2**32 for n in drawn], np.float32)


class Learns:
    """A learner that keeps what it is given to learn from and returns `Scores`."""

    def __init__(self):
        self.given = {}
        self.cross_fitted = {}

    def fit(self, name, *, train, personal, judged):
        self.given[name] = {"train": list(train), "personal": list(personal), "judged": list(judged)}
        return Scores(name)

    def cross_fit(self, name, scorer, *, train, personal):
        self.cross_fitted[name] = {"train": list(train), "personal": list(personal)}
        return Scores(f"{name}, cross-fitted")


@pytest.fixture
def world():
    return make_world


@pytest.fixture
def bench(tmp_path):
    """Makes a `Lab` on a world; its `ctx.llm` is a `Spy` before a store of its own (or the one of the path given)."""
    opened = []

    def make(world, settings=SMALL, *, transport=None, path=None, reward=None, seed=0):
        answers = store.Store(path or tmp_path / f"answers{len(opened)}.sqlite")
        inner = sampler.StoredSampler(transport or scripted.Scripted(), answers)
        opened.append((inner, answers))
        ctx = contract.Context(task=world.task, llm=Spy(inner), settings=settings.prompts)
        return lab.Lab(ctx=ctx, users=world.users, settings=settings, reward=reward, seed=seed)

    yield make
    for inner, answers in opened:
        inner.close()
        answers.close()


@pytest.fixture
def settings():
    """Small settings, some of them replaced."""

    def make(**changes):
        return dataclasses.replace(SMALL, **changes)

    return make


@pytest.fixture
def answering():
    return Answering


@pytest.fixture
def scores():
    return Scores


@pytest.fixture
def learns():
    return Learns


@pytest.fixture(scope="session")
def encode():
    """Stands for the base: 8 features of a pair, of its texts alone."""

    def features(pairs):
        rows = []
        for first, second in pairs:
            a, b = set(first.split()), set(second.split())
            shared = len(a & b) / max(1, len(b))
            drawn = [number(i, second) / 2**31 - 1 for i in range(5)]
            rows.append([shared, len(second) / 50, len(a) / 20, *drawn])
        return np.array(rows, np.float32).reshape(len(rows), 8)

    return features
