"""HYDRA from queries to answers with nothing but a small LLM, a small encoder and a small learner."""

import numpy as np
import pytest

from hydrajax.data import tasks
from hydrajax.llm import request, usage
from hydrajax.methods import hydra, lab
from hydrajax.methods import settings as settings_lib
from hydrajax.prompting import contract
from hydrajax.types import Query, Record, User

TASK = tasks.LAMP["LaMP_4"]
GOLD = "the right title"


class Llm:
    """Shown the record that says `secret` it is half right by its best guess and right in its second sample."""

    model, usage = "scripted", usage.Usage(model="scripted")

    def sample(self, requests, *, stage):
        def text(asked):
            if not any("secret" in message.text for message in asked.messages):
                return "no idea"
            return GOLD if asked.sample == 1 else "the title" if asked.temperature == 0 else "nobody knows"

        return [request.Answer(text=text(r), stop_reason="end_turn", input_tokens=1, output_tokens=1) for r in requests]


def encode(pairs):
    """Features of the second text: how long it is, and which of two words it has."""
    return np.array([[len(text.split()), "secret" in text, "right" in text] for _, text in pairs], float)


class Learner:
    """Least squares of the quality on the features."""

    def fit(self, name, *, train, personal, judged):
        weights, *_ = np.linalg.lstsq(features(train), np.array([row.quality for row in train]), rcond=None)
        return Weights(weights)

    def cross_fit(self, name, scorer, *, train, personal):
        return scorer


class Weights:
    def __init__(self, weights):
        self._weights = weights

    def scores(self, rows, *, heads=None, pooled=False):
        return features(rows) @ self._weights


def features(rows):
    return encode([(row.first, row.second) for row in rows])


def user(user_id):
    texts = ["ships in the harbour", "a harbour at night", "all about the secret"]
    records = [Record(id=f"r{i}", fields={"text": text, "title": GOLD}) for i, text in enumerate(texts)]
    return User(id=user_id, profile=tuple(records))


def query(user_id):
    return Query(id=f"q-{user_id}", user_id=user_id, inputs={"text": "ships in a harbour"}, gold=GOLD)


@pytest.mark.parametrize("pools", ["reranked", "shared", "zero_shot"])
def test_the_reranker_finds_the_record_and_the_adapter_the_answer(pools):
    people = hydra.People(
        train=("t0", "t1"), validation=("v0",), new=("n0", "n1"),
        label_queries=(query("t0"), query("t1")), validation_queries=(query("v0"),),
        new_queries=(query("n0"), query("n1")),
    )  # fmt: skip
    bench = lab.Lab(
        ctx=contract.Context(task=TASK, llm=Llm()),
        users={user_id: user(user_id) for user_id in people.everybody},
        settings=settings_lib.Settings(retrieved=3, shown=(1,), samples=4, adapter_pools=pools),
    )
    result = hydra.hydra(bench, Learner(), people, 1)
    assert [answer.query for answer in result.answers] == people.asked
    for answer, zero_shot in zip(result.answers, result.zero_shot, strict=True):
        assert bench.retrieve(answer.query, 3)[0].id != "r2"
        assert [record.id for record in answer.records] == ["r2"]
        assert [candidate.text for candidate in answer.candidates] == ["the title", "nobody knows", GOLD]
        assert zero_shot.text == "no idea" and zero_shot.records == ()
        if pools != "zero_shot":  # which never saw a right answer
            assert answer.text == GOLD and answer.choice == 2 == np.argmax(answer.scores)
        assert hydra.answer(bench, result.system, [answer.query]) == [answer]
