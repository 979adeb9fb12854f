import asyncio

import pytest

from hydrajax.data import tasks
from hydrajax.llm import scripted


def _say(wanted) -> str:
    return asyncio.run(scripted.Scripted().complete(wanted)).text


@pytest.mark.parametrize("name", ["LaMP_1", "LaMP_2N", "LaMP_2M", "LaMP_3"])
def test_asked_for_a_label_it_names_one_of_them(name, ask):
    task = tasks.LAMP[name]
    question = task.question(dict.fromkeys(task.slots, "some text, of words"))
    said = {_say(ask(question, sample=sample)) for sample in range(40)}
    assert said <= set(task.labels) and len(said) > 1


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
