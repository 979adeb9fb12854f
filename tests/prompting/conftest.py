import dataclasses

import pytest

from hydrajax.data import tasks
from hydrajax.llm import request, usage
from hydrajax.prompting import contract
from hydrajax.types import Record, User


class Recorder:
    """Stands for the LLM: remembers what it was asked, and answers with the number of the request, with these answers,
    or with what a function makes of each request."""

    model = "recorder"

    def __init__(self, answers=None):
        self.usage = usage.Usage(model="m")
        self.asked: list[request.Request] = []
        self.stages: list[str] = []
        self._answers = answers

    def sample(self, requests, *, stage):
        self.stages.append(stage)
        first = len(self.asked)
        self.asked += requests
        texts = self._answers or [f"answer {first + i}" for i in range(len(requests))]
        if callable(texts):
            texts = [texts(wanted) for wanted in requests]
        return [
            request.Answer(text=text, stop_reason="end_turn", input_tokens=1, output_tokens=1)
            for _, text in zip(requests, texts, strict=True)
        ]


@pytest.fixture
def recorder():
    return Recorder


@pytest.fixture
def context():
    """Makes a context for a task's name, with settings."""

    def make(task="LaMP_4", llm=None, **settings) -> contract.Context:
        task = tasks.LAMP[task] if isinstance(task, str) else task
        others = {name: settings.pop(name) for name in ("population", "embed") if name in settings}
        made = contract.PromptSettings(**settings)
        return contract.Context(task=task, llm=llm or Recorder(), settings=made, **others)

    return make


@pytest.fixture
def a_record():
    """Makes a record with every field that a task reads, each text with the number in it."""

    def make(task="LaMP_4", number=0, **fields) -> Record:
        task = tasks.LAMP[task] if isinstance(task, str) else task
        texts = {field: f"the {field} of number {number}" for field in task.fields}
        if task.labels and task.answer:
            texts[task.answer] = task.labels[number % len(task.labels)]
        return Record(id=f"r{number}", fields=texts | fields)

    return make


@pytest.fixture
def a_user(a_record):
    def make(task="LaMP_4", records=3, user_id="u") -> User:
        return User(id=user_id, profile=tuple(a_record(task, number) for number in range(records)))

    return make


@pytest.fixture
def without():
    """A user without one record."""

    def make(user: User, record_id: str) -> User:
        return dataclasses.replace(user, profile=tuple(r for r in user.profile if r.id != record_id))

    return make
