"""The table of tasks: every row holds together, and one template serves all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hydrajax.data import simulated, tasks
from hydrajax.types import DataError, Query, Record

ALL = {**tasks.LAMP, simulated.TASK.name: simulated.TASK}
MARKED = [task for task in tasks.LAMP.values() if task.marker]
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60).filter(lambda text: text.strip())


def record_of(task):
    label = task.labels[0] if task.labels else "the answer"
    fields = {field: label if field == task.answer else f"the {field}" for field in task.fields}
    return Record(id="r", fields=fields)


@pytest.mark.parametrize("task", ALL.values(), ids=ALL)
def test_a_row_names_only_what_it_has(task):
    assert set(task.inputs) <= set(task.slots)
    assert set(task.inputs) in (set(), set(task.slots))
    assert set(task.optional) <= set(task.fields)
    assert bool(task.labels) == (task.kind in ("classification", "rating"))
    assert bool(task.inputs) == (task.pseudo_query == "record")
    assert task.marker is None or task.marker in task.template
    assert task.metrics


@pytest.mark.parametrize("task", ALL.values(), ids=ALL)
def test_what_is_shown_of_a_record_holds_its_answer(task):
    record = record_of(task)
    answer = task.record_answer(record)
    question, reply = task.demonstration_turns(record)
    assert reply.text == answer and answer
    assert (question.role, reply.role) == ("user", "assistant")
    assert answer in task.quoted(record)
    assert task.record_text(record).endswith(answer)
    assert "{" not in question.text + task.quoted(record)


@pytest.mark.parametrize("task", ALL.values(), ids=ALL)
def test_a_demonstration_is_the_question_as_it_would_be_asked(task):
    record = record_of(task)
    if task.demonstration is None:
        assert task.demonstration_turns(record)[0].text == task.question(task.record_inputs(record))


@pytest.mark.parametrize("task", MARKED, ids=lambda task: task.name)
@given(text=texts)
def test_the_bare_input_is_found_in_the_question(task, text):
    inputs = task.parse_input(task.question({task.slots[0]: text}))
    assert inputs == {task.slots[0]: text.strip()}
    query = Query(id="q", user_id="u", inputs=inputs)
    assert task.query_text(query) == text.strip()


@given(st.fixed_dictionaries(dict.fromkeys(("title", "a", "b"), st.text("abc ,:?[]1-", min_size=1).filter(str.strip))))
def test_the_three_titles_are_found_in_a_citation_question(inputs):
    task = tasks.LAMP["LaMP_1"]
    assert task.parse_input(task.question(inputs)) == inputs


@pytest.mark.parametrize("name", tasks.LAMP)
def test_the_retriever_reads_what_the_encoder_reads_but_in_citations_the_references_alone(name):
    task = tasks.LAMP[name]
    query = Query(id="q", user_id="u", inputs={slot: f"the {slot}" for slot in task.slots})
    assert task.retrieval_text(query) == ("the a the b" if name == "LaMP_1" else task.query_text(query))
    assert "the title" in task.query_text(query) or name != "LaMP_1"


def test_an_input_of_another_template_is_refused():
    with pytest.raises(DataError, match="does not name a paper and two references"):
        tasks.LAMP["LaMP_1"].parse_input("Which paper?")
    with pytest.raises(DataError, match="has no text after 'review:'"):
        tasks.LAMP["LaMP_3"].parse_input("review:  ")
    with pytest.raises(DataError, match="has no marker"):
        simulated.TASK.parse_input("x")


def test_braces_in_a_text_are_text():
    task = tasks.LAMP["LaMP_2M"]
    assert task.question({"text": "a {labels} b {text} {x}"}).endswith("description: a {labels} b {text} {x}")


@pytest.mark.parametrize("task", [task for task in ALL.values() if task.labels], ids=lambda task: task.name)
def test_every_label_is_itself_however_it_is_dressed(task):
    for label in task.labels:
        for said in (label, f" {label}.\n", f'"{label}"', label.upper(), f"{label}\nfor I say so"):
            assert task.normalise(said) == label
    assert task.normalise("") == "" and task.normalise("  \n ") == ""


def test_a_label_inside_other_words_is_not_that_label():
    task = tasks.LAMP["LaMP_2M"]
    assert task.normalise("action and comedy") not in task.labels
    assert task.normalise("reaction") not in task.labels


@pytest.mark.parametrize(
    ("said", "meant"), [("4", "4"), ("4.0", "4"), ("4/5", "4"), ("[4]", "4"), ("4 stars", "4 stars")]
)
def test_ratings_may_be_said_in_three_ways(said, meant):
    assert tasks.LAMP["LaMP_3"].normalise(said) == meant


def test_texts_lose_blanks_and_one_pair_of_quotes():
    task = tasks.LAMP["LaMP_4"]
    assert task.normalise(' "A Title" ') == "A Title"
    assert task.normalise('"') == '"'
    assert task.normalise("two\nlines") == "two\nlines"
