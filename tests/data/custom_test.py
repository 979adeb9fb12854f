"""Tasks of one's own: declared in TOML, read from JSON lines."""

import dataclasses
import json

import pytest

from hydrajax.data import custom, tasks
from hydrajax.types import DataError

MINIMAL = """
name = "reply"
kind = "generation"
template = "Answer this message: {message}"
"""

TONE = tasks.Task(
    name="tone",
    kind="classification",
    template="Choose from {labels} for {text}",
    inputs={"text": "text"},
    answer="tone",
    corpus=("text",),
    record_line='"{text}" is "{tone}" ',
    labels=("dry", "wet"),
)


def declare(folder, text):
    path = folder / "task.toml"
    path.write_text(text, encoding="utf-8")
    return path


def complaint(folder, text) -> str:
    with pytest.raises(DataError) as error:
        custom.read_task(declare(folder, text))
    return str(error.value)


def write(folder, rows, split="dev"):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def record(record_id="r1", text="sand", tone="dry", **more):
    return {"id": record_id, "text": text, "tone": tone, **more}


def question(question_id="q1", text="rain", output="wet", **more):
    return {"id": question_id, "inputs": {"text": text}, "output": output, **more}


def test_a_minimal_declaration_gets_sensible_defaults(tmp_path):
    task = custom.read_task(declare(tmp_path, MINIMAL))
    assert (task.name, task.kind, task.answer, task.pseudo_query) == ("reply", "generation", "output", "record")
    assert task.inputs == {"message": "message"}
    assert task.corpus == ("message",)
    assert task.fields == ("message", "output")
    assert task.metrics == ("rouge1", "rougeL", "bleu")


def test_everything_can_be_declared(tmp_path):
    declared = """
    name = "stars"
    kind = "rating"
    template = "How many of {labels} for {text}"
    inputs = {text = "body"}
    answer = "stars"
    corpus = ["title", "body"]
    optional = ["title"]
    labels = [1, 2, 3]
    record_line = "{stars} for {body}"
    record_close = "So "
    max_answer_tokens = 4
    """
    task = custom.read_task(declare(tmp_path, declared))
    assert task == tasks.Task(
        name="stars",
        kind="rating",
        template="How many of {labels} for {text}",
        inputs={"text": "body"},
        answer="stars",
        corpus=("title", "body"),
        optional=("title",),
        labels=("1", "2", "3"),
        record_line="{stars} for {body}",
        record_close="So ",
        max_answer_tokens=4,
    )


def test_records_without_an_input_are_paraphrased(tmp_path):
    task = custom.read_task(declare(tmp_path, MINIMAL + 'inputs = {}\ndemonstration = "Write a reply."\n'))
    assert task.pseudo_query == "paraphrase"
    assert task.fields == ("output",)


@pytest.mark.parametrize(
    ("added", "sentence"),
    [
        ("metrix = 1", "unknown key 'metrix', expected some of name, kind, template, answer"),
        ("answer = 3", "answer is 3, expected a text"),
        ("max_answer_tokens = true", "max_answer_tokens is True, expected a number"),
        ("max_answer_tokens = 0", "max_answer_tokens is 0, expected at least 1"),
        ("inputs = {text = 'text'}", "inputs names the slot 'text', the template has message"),
        ("inputs = {text = 'text'}", "inputs says of slot 'message' nothing"),
        ("inputs = {}", "inputs is empty, which needs a demonstration"),
        ("inputs = {message = 3}", "inputs gives 3 to slot 'message', expected the name of a record field"),
        ("corpus = [1]", "corpus is [1], expected a list of record fields"),
        ("corpus = []", "corpus is empty"),
        ("optional = ['titel']", "optional names the field 'titel', expected some of message, output"),
        ("labels = ['yes', 'no']", "kind 'generation' has no labels"),
        ("= 4", "is broken TOML"),
    ],
)
def test_every_fault_of_a_declaration_is_a_sentence(tmp_path, added, sentence):
    message = complaint(tmp_path, MINIMAL + added)
    assert sentence in message and message.startswith(str(tmp_path / "task.toml"))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('name = "reply"', "", "has no name, which every task needs"),
        ('"reply"', '"my reply"', "name is 'my reply', expected letters"),
        ('"reply"', '"LaMP_3"', "name is 'LaMP_3', which is a task of LaMP"),
        ("generation", "reward", "kind is 'reward', expected one of classification, rating, generation"),
        ("generation", "classification", "kind 'classification' needs at least 2 labels, got 0"),
        ("{message}", "it", "template has no slot for the input"),
        ("{message}", "{message} {labels}", "template quotes {labels}, but there are none"),
        ("Answer this", "Do { this", "template has a stray brace in '{ this message: {mes', expected braces around a"),
        ("{message}", "{message}}", "template has a stray brace in '}', expected"),
        ("{message}", "{message} to { name }", "template has a stray brace in '{ name }', expected"),
        (
            "kind =",
            "record_line = '{message is {output}'\nkind =",
            "record_line has a stray brace in '{message is {out",
        ),
    ],
)
def test_wrong_values_are_sentences(tmp_path, old, new, sentence):
    assert sentence in complaint(tmp_path, MINIMAL.replace(old, new))


def test_braces_that_have_their_other_one_stand_for_themselves(tmp_path):
    shaped = MINIMAL.replace('"Answer', '\'Answer as {"reply": {"text": ...}, "of": {}}:').replace('}"', "}'")
    task = custom.read_task(declare(tmp_path, shaped))
    assert task.slots == ("message",)
    assert task.question({"message": "hi"}).startswith('Answer as {"reply": {"text": ...}, "of": {}}:')


@pytest.mark.parametrize(
    ("kind", "labels", "sentence"),
    [
        ("classification", '["a", "A"]', "labels hold one label twice"),
        ("classification", '["a", " b"]', "expected texts or numbers without blanks"),
        ("classification", '["a", ["b"]]', "expected texts or numbers without blanks"),
        ("rating", '["good", "bad"]', "kind 'rating' needs numbers as labels, got good, bad"),
    ],
)
def test_wrong_labels_are_sentences(tmp_path, kind, labels, sentence):
    assert sentence in complaint(tmp_path, MINIMAL.replace("generation", kind) + f"labels = {labels}")


def test_several_faults_of_a_declaration_come_together(tmp_path):
    message = complaint(tmp_path, 'kind = "generation"\nfoo = 1\nanswer = 2\n')
    assert len(message.splitlines()) == 4


def test_one_question_a_line_and_one_user_a_line_say_the_same(tmp_path):
    profile = [record(), record("r2", "sea", "wet")]
    write(
        tmp_path,
        [
            question("q1", user_id="ann", profile=profile),
            question("q2", text="dust", output="dry", user_id="ann"),
            question("q3", user_id="bea", profile=[]),
        ],
    )
    by_question, _ = custom.read_split(tmp_path, TONE, "dev")
    write(
        tmp_path,
        [
            {
                "user_id": "ann",
                "profile": profile,
                "queries": [question("q1"), question("q2", text="dust", output="dry")],
            },
            {"user_id": "bea", "profile": [], "queries": [question("q3")]},
        ],
    )
    by_user, skipped = custom.read_split(tmp_path, TONE, "dev")
    assert by_question == by_user and skipped == ()
    assert [query.user_id for query in by_user.queries] == ["ann", "ann", "bea"]
    assert len(by_user.users["ann"].profile) == 2


def test_without_users_a_question_is_a_user_and_input_may_be_short(tmp_path):
    write(tmp_path, [{"id": 1, "input": "rain", "output": "wet", "profile": [record()]}])
    split, _ = custom.read_split(tmp_path, TONE, "dev")
    assert list(split.users) == ["1"] and split.queries[0].inputs == {"text": "rain"}


def test_a_user_without_questions_stays(tmp_path):
    write(tmp_path, [{"user_id": "ann", "profile": [record()], "queries": []}])
    split, _ = custom.read_split(tmp_path, TONE, "dev")
    assert list(split.users) == ["ann"] and split.queries == ()


FAULTS = {
    "broken line": ("{", "dev.jsonl, line 1: is broken JSON at column 2"),
    "no object": ("[1]", "dev.jsonl, line 1: is a list, expected an object"),
    "no id": (
        {"user_id": "ann", "inputs": {"text": "x"}, "output": "wet", "profile": []},
        "line 1: has nothing as 'id'",
    ),
    "no gold": (question(output=None, user_id="ann", profile=[]), "question 'q1': has no output"),
    "unknown label": (
        question(output="damp", user_id="ann", profile=[]),
        "'damp' is no label of tone, expected one of: dry",
    ),
    "unknown slot": (
        {"id": "q1", "inputs": {"txt": "x"}, "output": "wet", "user_id": "ann", "profile": []},
        "question 'q1': has the input 'txt', expected text",
    ),
    "empty input": (question(text=" ", user_id="ann", profile=[]), "question 'q1': has no text as input 'text'"),
    "no inputs": (
        {"id": "q1", "output": "wet", "user_id": "ann", "profile": []},
        "question 'q1': has null as 'inputs', expected an object with text",
    ),
    "no profile anywhere": (question(user_id="ann"), "question 'q1': no line gives a profile of user 'ann'"),
    "no user": (question(profile=[]), "question 'q1': has nothing as 'user_id'"),
    "record without a field": (
        question(user_id="ann", profile=[{"id": "r1", "text": "x"}]),
        "record 'r1' has nothing as field 'tone', which tone needs as text",
    ),
    "record field that is no number": (
        question(user_id="ann", profile=[{"id": "r1", "text": float("nan"), "tone": "dry"}]),
        "record 'r1' has NaN as field 'text', which tone needs as text",
    ),
    "input that is no number": (
        {"id": "q1", "inputs": {"text": float("-inf")}, "output": "wet", "user_id": "ann", "profile": []},
        "question 'q1': has -Infinity as input 'text', expected a text or a finite number",
    ),
    "id with a NUL character": (question("q\0", user_id="ann", profile=[]), "has a text with a NUL character as 'id'"),
    "user with half a surrogate pair": (
        question(user_id="a\ud83d", profile=[]),
        "question 'q1': has a text with half a surrogate pair ('\\ud83d') as 'user_id'",
    ),
    "no list of queries": (
        {"user_id": "ann", "profile": [], "queries": {}},
        "user 'ann' has no list of objects as 'queries'",
    ),
    "question twice": (
        question("fine", user_id="ann", profile=[]),
        "question 'fine': this question id occurs more than once",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_of_the_data_is_a_sentence_and_can_be_skipped(tmp_path, name):
    bad, sentence = FAULTS[name]
    fine = question("fine", user_id="bea", profile=[record()])
    write(tmp_path, [bad, fine])
    with pytest.raises(DataError) as error:
        custom.read_split(tmp_path, TONE, "dev")
    assert sentence in str(error.value) and len(str(error.value).splitlines()) == 1
    split, skipped = custom.read_split(tmp_path, TONE, "dev", skip_bad=True)
    assert len(skipped) == 1 and sentence in skipped[0]
    assert "fine" in [query.id for query in split.queries]
    assert all(query.user_id in split.users for query in split.queries)


def test_several_faults_of_the_data_come_together(tmp_path):
    write(tmp_path, [question("q1", output="damp", user_id="a", profile=[]), "{", question("q1", user_id="a")])
    with pytest.raises(DataError) as error:
        custom.read_split(tmp_path, TONE, "dev")
    assert len(str(error.value).splitlines()) == 3


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"train\.jsonl: the file does not exist; the folder is empty"):
        custom.read_split(tmp_path, TONE, "train")
    (tmp_path / "train.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"train\.jsonl: is empty, expected a user or a question a line"):
        custom.read_split(tmp_path, TONE, "train", skip_bad=True)


def test_two_slots_are_filled_by_name(tmp_path):
    task = dataclasses.replace(TONE, template="{labels} {text} {place}", inputs={"text": "text", "place": "place"})
    row = {"id": "q1", "inputs": {"text": "rain", "place": "roof"}, "output": "wet", "profile": []}
    write(tmp_path, [row])
    split, _ = custom.read_split(tmp_path, task, "dev")
    assert task.query_text(split.queries[0]) == "rain roof"


@pytest.mark.parametrize("piece", ["{message.__class__}", "{message", "{}", "{message!r}"])
def test_what_is_no_slot_is_shown_in_one_sentence(tmp_path, piece):
    said = complaint(tmp_path, MINIMAL.replace("{message}", piece))
    assert f"template has no slot for the input ({piece!r} is none), expected one like" in said and "\n" not in said


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"inputs": {"txt": "text"}, "template": "{labels} {txt}"}, "no question has the input 'txt', which the"),
        ({"corpus": ("texts",)}, "no record has the field 'texts', which the declaration of task 'tone' names"),
        ({"answer": "mood"}, "no record has the field 'mood', .* names; they have id, text, tone"),
    ],
)
def test_a_name_that_nothing_in_the_data_has_is_one_sentence(tmp_path, changes, says):
    write(tmp_path, [question(f"q{i}", profile=[record()]) for i in range(30)])
    with pytest.raises(DataError, match=rf"^.*dev\.jsonl: {says}[^\n]*$"):
        custom.read_split(tmp_path, dataclasses.replace(TONE, **changes), "dev")


def test_the_unknown_key_of_a_line_without_an_id_is_named(tmp_path):
    write(tmp_path, [{"user_id": "ann", "profile": [record()], "querys": []}])
    with pytest.raises(DataError, match="line 1: has no 'id', and the unknown key 'querys', expected some of id, us"):
        custom.read_split(tmp_path, TONE, "dev")


def test_profiles_without_a_common_record_are_a_fault(tmp_path):
    write(tmp_path, [question(f"q{i}", profile=[record(f"r{i}")], user_id="ann") for i in range(2)])
    with pytest.raises(DataError, match="user 'ann': its 2 profiles have no record in common"):
        custom.read_split(tmp_path, TONE, "dev")
    split, skipped = custom.read_split(tmp_path, TONE, "dev", skip_bad=True)
    assert split.users["ann"].profile == () and any("2 records are left out" in sentence for sentence in skipped)


def test_attributes_of_a_user_are_read_from_any_line(tmp_path):
    rows = [
        {"user_id": "ann", "attributes": {"age": 34}, "profile": [record()], "queries": []},
        question("q1", user_id="ann", attributes={"job": " nurse ", "age": "34"}),
        question("q2", user_id="bob", profile=[record()]),
    ]
    write(tmp_path, rows)
    split, _ = custom.read_split(tmp_path, TONE, "dev")
    assert {name: dict(user.attributes) for name, user in split.users.items()} == {
        "ann": {"age": "34", "job": "nurse"},
        "bob": {},
    }


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ("34", "has a text as 'attributes'"),
        ({"age": None}, "attribute 'age' is null, expected a text or a finite number"),
        ({"age": " "}, "attribute 'age'"),
        ({"life": "long " * 60}, "of at most 200 characters"),
        ({"age": 35}, "is '35', and elsewhere '34'"),
    ],
)
def test_attributes_that_cannot_be_used_are_refused(tmp_path, attributes, said):
    first = question("q0", user_id="ann", profile=[record()], attributes={"age": 34})
    write(tmp_path, [first, question("q1", user_id="ann", attributes=attributes)])
    with pytest.raises(DataError, match="question 'q1'") as error:
        custom.read_split(tmp_path, TONE, "dev")
    assert said in str(error.value)


def test_a_key_that_nothing_reads_is_named_once_with_those_that_are_known(tmp_path):
    rows = [
        {"user_id": "a", "profile": [record()], "atributes": {"age": 3}, "queries": [question("q1", gold="wet")]},
        {"user_id": "b", "profile": [record()], "atributes": {"age": 4}, "queries": [question("q2")]},
    ]
    write(tmp_path, rows)
    with pytest.raises(DataError) as error:
        custom.read_split(tmp_path, TONE, "dev")
    first, second = str(error.value).splitlines()
    assert "dev.jsonl, line 1: has the unknown key 'atributes' (2 times in this file), expected some of id" in first
    assert "has the unknown key 'gold', expected some of id, user_id, inputs" in second
    split, skipped = custom.read_split(tmp_path, TONE, "dev", skip_bad=True)
    assert len(split.queries) == 2 and skipped == (first, second)
