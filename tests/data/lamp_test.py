"""Reading LaMP's JSON folders: what comes out, and one sentence for everything that cannot."""

import json
import pathlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hydrajax.data import lamp, tasks
from hydrajax.types import DataError, Record

RATING = tasks.LAMP["LaMP_3"]
HEADLINE = tasks.LAMP["LaMP_4"]
TWEET = tasks.LAMP["LaMP_7"]


def question(question_id="q1", text="It holds water.", profile=(), **more):
    return {"id": question_id, "input": RATING.question({"text": text}), "profile": list(profile), **more}


def record(record_id="r1", text="It leaks.", score="1", **more):
    return {"id": record_id, "text": text, "score": score, **more}


def gold(question_id="q1", output="4"):
    return {"id": question_id, "output": output}


def write(folder, questions, golds, task="LaMP_3", split="dev"):
    (folder / f"{split}_questions.json").write_text(json.dumps(questions), encoding="utf-8")
    outputs = {"task": task, "golds": golds}
    (folder / f"{split}_outputs.json").write_text(json.dumps(outputs), encoding="utf-8")


def read(folder, task=RATING, **options):
    return lamp.read_split(folder, task, "dev", **options)


def fault(folder, task=RATING) -> str:
    with pytest.raises(DataError) as error:
        read(folder, task)
    return str(error.value)


def test_a_question_without_a_user_is_a_user(tmp_path):
    write(tmp_path, [question("q1", profile=[record()]), question("q2")], [gold("q1"), gold("q2", "5")])
    split, skipped = read(tmp_path)
    assert skipped == ()
    assert list(split.users) == ["q1", "q2"]
    assert [(q.id, q.user_id, dict(q.inputs), q.gold) for q in split.queries] == [
        ("q1", "q1", {"text": "It holds water."}, "4"),
        ("q2", "q2", {"text": "It holds water."}, "5"),
    ]
    assert split.users["q1"].profile == (Record(id="r1", fields={"text": "It leaks.", "score": "1"}),)
    assert split.users["q2"].profile == ()


def test_questions_of_one_user_share_the_profile(tmp_path):
    rows = [question(q, profile=[record()], user_id="ann") for q in ("q1", "q2")]
    write(tmp_path, rows, [gold("q1"), gold("q2")])
    split, skipped = read(tmp_path)
    assert list(split.users) == ["ann"]
    assert len(split.users["ann"].profile) == 1
    assert [q.user_id for q in split.queries] == ["ann", "ann"]
    assert skipped == ()


def test_a_key_that_nothing_reads_is_said_once(tmp_path):
    write(tmp_path, [question("q1", atributes={}), question("q2", atributes={})], [gold("q1"), gold("q2")])
    split, (said,) = read(tmp_path)
    assert len(split.queries) == 2
    assert said.endswith("the key 'atributes' of 2 questions is not read, known are id, user_id, input, profile")


@pytest.mark.parametrize("longer_first", [False, True])
def test_of_differing_profiles_the_common_records_stay(tmp_path, longer_first):
    """What one question's profile adds may be another question with its answer."""
    older, newer = record("r1"), record("r2", "It holds water.", "4")
    held = [[older], [older, newer]]
    rows = [question(f"q{i}", profile=p, user_id="ann") for i, p in enumerate(held[::-1] if longer_first else held)]
    write(tmp_path, rows, [gold("q0"), gold("q1")])
    split, skipped = read(tmp_path)
    assert [r.id for r in split.users["ann"].profile] == ["r1"]
    assert len(skipped) == 1 and "user 'ann': 1 record is left out" in skipped[0]


def test_one_record_id_with_two_contents_is_a_fault(tmp_path):
    rows = [
        question("q1", profile=[record("r1", "It leaks.")], user_id="ann"),
        question("q2", profile=[record("r1", "It drips.")], user_id="ann"),
    ]
    write(tmp_path, rows, [gold("q1"), gold("q2")])
    message = fault(tmp_path)
    assert "user 'ann': record id 'r1' has one content in question 'q1', another in question 'q2'" in message


def test_differing_profiles_without_record_ids_are_a_fault(tmp_path):
    nameless = {"text": "It leaks.", "score": 1}
    rows = [question("q1", profile=[nameless], user_id="ann"), question("q2", profile=[], user_id="ann")]
    write(tmp_path, rows, [gold("q1"), gold("q2")])
    assert "give every record an id" in fault(tmp_path)


def test_records_without_an_id_are_numbered_by_place(tmp_path):
    profile = [{"text": "a"}, {"id": "0", "text": "b"}, {"text": "c"}]
    write(tmp_path, [{"id": 1, "input": TWEET.question({"text": "x"}), "profile": profile}], [gold(1, "y")], "LaMP_7")
    split, _ = read(tmp_path, TWEET)
    assert [(r.id, r.fields["text"]) for r in split.users["1"].profile] == [("0'", "a"), ("0", "b"), ("2", "c")]


def test_numbers_are_read_as_text(tmp_path):
    write(tmp_path, [question(7, profile=[record(3, score=5), record(4, score=2.0)], user_id=9)], [gold(7, 4)])
    split, _ = read(tmp_path)
    assert [r.fields["score"] for r in split.users["9"].profile] == ["5", "2"]
    assert (split.queries[0].id, split.queries[0].gold) == ("7", "4")


def test_the_oldest_record_comes_first_and_ties_keep_their_order(tmp_path):
    dates = ["2019-05-01", "2018-01-01", None, "2019-05-01", "2017"]
    profile = [
        {"id": str(i), "title": f"t{i}", "text": "x", **({"date": date} if date else {})}
        for i, date in enumerate(dates)
    ]
    row = {"id": "q1", "input": HEADLINE.question({"text": "x"}), "profile": profile}
    write(tmp_path, [row], [gold(output="T")], "LaMP_4")
    split, _ = read(tmp_path, HEADLINE)
    assert [r.id for r in split.users["q1"].profile] == ["2", "4", "1", "0", "3"]
    assert [r.date for r in split.users["q1"].profile] == [None, "2017", "2018-01-01", "2019-05-01", "2019-05-01"]


def test_an_optional_field_may_be_missing(tmp_path):
    task = tasks.LAMP["LaMP_2N"]
    row = {"id": "q1", "input": task.question({"text": "x"}), "profile": [{"id": 1, "text": "x", "category": "crime"}]}
    write(tmp_path, [row], [gold(output="travel")], "LaMP_2N")
    split, _ = read(tmp_path, task)
    assert split.users["q1"].profile[0].fields["title"] == ""


def test_the_short_name_of_a_task_is_its_name(tmp_path):
    task = tasks.LAMP["LaMP_2M"]
    write(
        tmp_path,
        [{"id": "q1", "input": task.question({"text": "x"}), "profile": []}],
        [gold(output="action")],
        "LaMP_2",
    )
    assert len(read(tmp_path, task)[0].queries) == 1


def test_a_byte_order_mark_and_half_a_surrogate_pair_do_no_harm(tmp_path):
    write(tmp_path, [question(text="nice \ud83d thing")], [gold()])
    path = tmp_path / "dev_questions.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(tmp_path)[0].queries[0].inputs["text"] == "nice ? thing"


# Each fault: what is written, and what the sentence says.
FAULTS = {
    "question without gold": (
        [question("q1"), question("q2")],
        [gold("q1")],
        "question 'q2': has no gold in dev_outputs",
    ),
    "gold without question": ([question()], [gold(), gold("q9")], "gold 'q9' has no question in dev_questions.json"),
    "empty gold": ([question()], [gold(output=" ")], "gold 'q1': has an empty output"),
    "null gold": ([question()], [gold(output=None)], "gold 'q1': has no output"),
    "gold twice": ([question()], [gold(), gold()], "gold id 'q1' occurs more than once"),
    "gold of a wrong type": (
        [question()],
        [gold(output=["4"])],
        "the output: is a list, expected a text or a finite number",
    ),
    "unknown label": (
        [question()],
        [gold(output="six")],
        "'six' is no label of LaMP_3, expected one of: 1, 2, 3, 4, 5",
    ),
    "question twice": ([question(), question()], [gold()], "question id 'q1' occurs more than once"),
    "no question id": ([{"input": "x", "profile": []}], [], "question number 0: has nothing as 'id'"),
    "question no object": (["q1"], [], "question number 0 is a text, expected an object"),
    "no input": ([{"id": "q1", "profile": []}], [gold()], "question 'q1': has no 'input', expected a text"),
    "other template": (
        [{"id": "q1", "input": "Rate this.", "profile": []}],
        [gold()],
        "question 'q1': the input has no text after 'review:'",
    ),
    "no profile": (
        [{"id": "q1", "input": "review: x"}],
        [gold()],
        "question 'q1': has no 'profile', expected a list",
    ),
    "record no object": (
        [question(profile=["x"])],
        [gold()],
        "question 'q1': record number 0 is a text, expected an object",
    ),
    "record twice": (
        [question(profile=[record(), record()])],
        [gold()],
        "question 'q1': record id 'r1' occurs more than once",
    ),
    "record without a field": (
        [question(profile=[{"id": "r1", "text": "x"}])],
        [gold()],
        "question 'q1': record 'r1' has nothing as field 'score', which LaMP_3 needs as text",
    ),
    "record field of a wrong type": (
        [question(profile=[record(text={"a": 1})])],
        [gold()],
        "record 'r1' has an object as field 'text'",
    ),
    "record with an unknown label": (
        [question(profile=[record(score="9")])],
        [gold()],
        "record 'r1', field 'score': '9' is no label of LaMP_3",
    ),
    "date of a wrong type": (
        [question(profile=[record(date=[2019])])],
        [gold()],
        "record 'r1' has a list as 'date', expected a text or a finite number",
    ),
    "record field that is no number": (
        [question(profile=[record(score=float("nan"))])],
        [gold()],
        "record 'r1' has NaN as field 'score', which LaMP_3 needs as text",
    ),
    "user ids of two kinds": (
        [question("q1", user_id=1), question("q2", user_id="1")],
        [gold("q1"), gold("q2")],
        "question 'q2': 'user_id' '1' is a text, but a number in question 'q1', expected one kind",
    ),
    "user of a wrong type": ([question(user_id=["ann"])], [gold()], "question 'q1': has a list as 'user_id'"),
    "only some have users": (
        [question("q1", user_id="ann"), question("q2")],
        [gold("q1"), gold("q2")],
        "question 'q2': has nothing as 'user_id'",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_one_sentence_with_file_and_id(tmp_path, name):
    questions, golds, sentence = FAULTS[name]
    write(tmp_path, questions, golds)
    message = fault(tmp_path)
    assert sentence in message
    assert message.startswith(str(tmp_path)) and len(message.splitlines()) == 1


@pytest.mark.parametrize("name", FAULTS)
def test_with_skip_bad_the_rest_is_read_and_the_fault_is_listed(tmp_path, name):
    questions, golds, sentence = FAULTS[name]
    fine = question("fine", profile=[record("fine")], **({"user_id": "bea"} if "user_id" in str(questions) else {}))
    write(tmp_path, [*questions, fine], [*golds, gold("fine", "2")])
    split, skipped = read(tmp_path, skip_bad=True)
    assert len(skipped) == 1 and sentence in skipped[0]
    assert split.queries[-1].id == "fine" and split.queries[-1].gold == "2"
    assert [r.id for r in split.users[split.queries[-1].user_id].profile] == ["fine"]
    assert all(query.user_id in split.users for query in split.queries)


def test_several_faults_are_reported_at_once(tmp_path):
    write(tmp_path, [question("q1"), question("q2", profile=[record(score="0")])], [gold("q2", "seven"), gold("q3")])
    message = fault(tmp_path)
    assert len(message.splitlines()) == 4
    for part in ("'seven' is no label", "record 'r1', field 'score'", "'q1': has no gold", "gold 'q3' has no question"):
        assert part in message


def test_no_more_than_twenty_faults_are_listed(tmp_path):
    write(tmp_path, [question(f"q{i}") for i in range(33)], [])
    lines = fault(tmp_path).splitlines()
    assert len(lines) == 21 and lines[-1] == "... and 13 more"


@pytest.mark.parametrize("skip_bad", [False, True])
def test_what_nothing_can_be_read_behind_is_an_error_even_with_skip_bad(tmp_path, skip_bad):
    def message():
        with pytest.raises(DataError) as error:
            read(tmp_path, skip_bad=skip_bad)
        return str(error.value)

    assert "dev_questions.json: the file does not exist; the folder is empty" in message()
    assert "dev_outputs.json: the file does not exist" in message()
    write(tmp_path, [question()], [gold()], "LaMP_5")
    assert "dev_outputs.json: holds the outputs of task 'LaMP_5', expected 'LaMP_3'" in message()
    (tmp_path / "dev_outputs.json").write_text('{"task": "LaMP_3",\n "golds": [,]}')
    assert "dev_outputs.json: is broken JSON at line 2, column 12" in message()
    (tmp_path / "dev_outputs.json").write_text("\n<!DOCTYPE html>")
    assert "dev_outputs.json: is HTML, expected JSON" in message()
    (tmp_path / "dev_outputs.json").write_text("[]")
    assert "dev_outputs.json: holds a list, expected an object with 'task' and 'golds'" in message()
    (tmp_path / "dev_outputs.json").write_text('{"task": "LaMP_3"}')
    assert "dev_outputs.json: has null as 'golds', expected a list" in message()
    (tmp_path / "dev_outputs.json").write_text('{"task": "LaMP_3", "golds": []}')
    (tmp_path / "dev_questions.json").write_text("[]")
    assert "dev_questions.json: is an empty list, expected questions" in message()
    (tmp_path / "dev_questions.json").write_bytes(b"\xff\xfe[]")
    assert "dev_questions.json: is not UTF-8 text" in message()
    (tmp_path / "dev_questions.json").write_text("[" * 100_000)
    assert "dev_questions.json: is JSON nested too deeply" in message()
    (tmp_path / "dev_questions.json").write_text("1" * 5_000)
    assert "dev_questions.json: holds a number of too many digits" in message()


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        lamp.read_split(tmp_path / "LaMP_9", RATING, "dev")


def test_the_inputs_of_a_citation_question(tmp_path):
    task = tasks.LAMP["LaMP_1"]
    asked = {"title": "On Ponds", "a": "Ducks, a Survey", "b": 'The "Wet" Web'}
    rows = [{"id": "q1", "input": task.question(asked), "profile": [{"id": "r", "title": "On Lakes", "abstract": "x"}]}]
    write(tmp_path, rows, [gold(output="[2]")], "LaMP_1")
    split, _ = read(tmp_path, task)
    assert dict(split.queries[0].inputs)["title"] == "On Ponds"
    assert split.queries[0].gold == "[2]"


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(lambda text: text.strip())
profiles = st.lists(st.tuples(texts, st.sampled_from(RATING.labels)), max_size=4)


@given(rows=st.lists(st.tuples(texts, st.sampled_from(RATING.labels), profiles), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path: pathlib.Path, rows):
    questions = [
        question(str(i), text, [record(str(j), *held) for j, held in enumerate(profile)])
        for i, (text, _, profile) in enumerate(rows)
    ]
    write(tmp_path, questions, [gold(str(i), label) for i, (_, label, _) in enumerate(rows)])
    split, _ = read(tmp_path)
    assert [(q.inputs["text"], q.gold) for q in split.queries] == [(text.strip(), label) for text, label, _ in rows]
    for i, (_, _, profile) in enumerate(rows):
        held = [(r.fields["text"], r.fields["score"]) for r in split.users[str(i)].profile]
        assert held == profile
