import asyncio
import dataclasses

import pytest

from hydrajax.data import tasks
from hydrajax.llm import request, scripted, usage
from hydrajax.prompting import context
from hydrajax.types import Message


class Nobody:
    model, usage = "nobody", usage.Usage(model="nobody")

    def sample(self, requests, *, stage):
        raise AssertionError("the LLM was called")


def _say(wanted) -> str:
    return asyncio.run(scripted.Scripted().complete(wanted)).text


@pytest.mark.parametrize("name", ["LaMP_1", "LaMP_2N", "LaMP_2M", "LaMP_3"])
def test_asked_for_a_label_it_names_one_of_them(name, ask):
    task = tasks.LAMP[name]
    question = task.question(dict.fromkeys(task.slots, "some text, of words"))
    said = {_say(ask(question, sample=sample)) for sample in range(40)}
    assert said <= set(task.labels) and len(said) > 1


@pytest.mark.parametrize(
    ("kind", "template", "labels"),
    [
        ("classification", "Which of {labels} is the tone of this? {text}", ("angry", "very kind", "brief")),
        ("classification", "Is this good or bad? {text}", ("good", "bad")),
        ("rating", "From 0 to 10 in steps of 5 (0, 5 or 10), how good is this? {text}", ("0", "5", "10")),
    ],
)
def test_of_the_labels_of_a_task_of_one_s_own_it_names_one(kind, template, labels, ask):
    task = tasks.Task(
        name="own",
        kind=kind,
        template=template,
        labels=labels,
        inputs={"text": "text"},
        corpus=("text",),
        record_line="",
    )
    ctx = context.Context(task=task, llm=Nobody())
    messages = (Message(role="user", text=task.question({"text": "some text, [of, words]"})),)
    asked = [ctx.request(messages, sample=sample) for sample in range(40)]
    assert {_say(wanted) for wanted in asked} == set(labels)
    # The stand-in alone looks at them.
    plain = dataclasses.replace(asked[0], labels=())
    assert request.key("m", asked[0]) == request.key("m", plain) and asked[0] == plain
    # What is no question of the task gets no label.
    assert ctx.request(messages, max_tokens=9).labels == ()


def test_labels_that_the_prompt_does_not_state_are_not_known(ask):
    assert _say(ask("What is the tone of this?", labels=("angry", "kind"))) not in ("angry", "kind")


def test_asked_for_a_text_it_uses_the_question_s_words(ask):
    task = tasks.LAMP["LaMP_4"]
    question = task.question({"text": "a long article about many different things that happened"})
    for sample in range(10):
        said = _say(ask(question, sample=sample))
        assert said and said in question


def test_it_says_the_same_again_and_something_else_for_another_sample(ask):
    question = "Generate a headline for the following article: " + " ".join(f"w{i}" for i in range(30))
    said = [_say(ask(question, sample=sample)) for sample in range(10)]
    assert said == [_say(ask(question, sample=sample)) for sample in range(10)]
    assert len(set(said)) > 3
    assert len({_say(ask(question, temperature=t)) for t in (0.0, 0.5, 1.0)}) > 1
