"""Looking after a store: counts and costs, copies, faults, and what may go."""

import contextlib
import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydrajax.llm import budget, maintenance, models, request, store
from hydrajax.types import DataError
from tests.llm.claims import claim, owner_of

CLAUDE = "claude-haiku-4-5"


def _answer(text="text", **rest) -> request.Answer:
    return request.Answer(**({"text": text, "stop_reason": "end_turn", "input_tokens": 30, "output_tokens": 2} | rest))


def _key(i):
    return f"{i:064x}"


@pytest.fixture
def other(tmp_path):
    opened = store.Store(tmp_path / "other.sqlite")
    yield opened
    opened.close()


def _fill(answers, count=5, model="m"):
    for i in range(count):
        answers.put(
            (_key(i), i), model, _answer(f"é\n{i}", seconds=0.25 * i, request_id=f"req_{i}"), expected=(i, None)
        )


_priced = st.lists(
    st.builds(
        _answer,
        text=st.just("t"),
        input_tokens=st.integers(2000, 5000),
        output_tokens=st.integers(0, 500),
        cache_read=st.integers(0, 1000),
        cache_written=st.integers(0, 1000),
        batch=st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@given(_priced)
@settings(max_examples=25)
def test_what_the_answers_of_a_model_cost_is_what_each_of_them_cost(paid):
    with contextlib.closing(store.Store(":memory:")) as answers:
        for i, answer in enumerate(paid):
            answers.put((_key(i), 0), CLAUDE, answer)
        (row,) = maintenance.stats(answers)
        assert row.cost_usd == pytest.approx(sum(budget.cost(models.find(CLAUDE), answer) for answer in paid))
        assert row.input_tokens == sum(answer.input_tokens for answer in paid)


def test_every_model_is_counted_for_itself(answers):
    _fill(answers, 3, "m")
    answers.put((_key(10), 0), CLAUDE, _answer("", stop_reason="refusal"))
    answers.put((_key(11), 0), CLAUDE, _answer("cut", stop_reason="max_tokens"))
    answers.put((_key(12), 0), CLAUDE, _answer("  "))
    claude, unknown = maintenance.stats(answers)
    assert (claude.model, claude.answers, claude.refused, claude.truncated, claude.empty) == (CLAUDE, 3, 1, 1, 2)
    assert (unknown.model, unknown.answers, unknown.refused, unknown.cost_usd) == ("m", 3, 0, None)
    assert (unknown.input_tokens, unknown.output_tokens) == (90, 6)


def test_an_empty_store_has_no_statistics(answers):
    assert maintenance.stats(answers) == []


# --- copies ---


def test_a_copy_holds_everything(answers, other, tmp_path):
    _fill(answers)
    path = tmp_path / "copy.jsonl"
    assert maintenance.export(answers, path) == 5
    assert maintenance.import_lines(other, path) == maintenance.Imported(new=5, same=0, different=0)
    assert list(other.rows()) == list(answers.rows())
    assert maintenance.import_lines(other, path) == maintenance.Imported(new=0, same=5, different=0)
    assert list(other.rows()) == list(answers.rows())


@given(st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=25)
def test_any_text_survives_being_copied(text):
    path = pathlib.Path(os.environ["XDG_CACHE_HOME"]) / "copy.jsonl"
    with contextlib.closing(store.Store(":memory:")) as answers, contextlib.closing(store.Store(":memory:")) as other:
        answers.put((_key(0), 0), "m", _answer(text))
        maintenance.export(answers, path)
        maintenance.import_lines(other, path)
        assert list(other.rows()) == list(answers.rows())


def test_what_is_there_already_stays(answers, other, tmp_path):
    _fill(answers, 3)
    other.put((_key(1), 1), "m", _answer("another text"))
    maintenance.export(answers, tmp_path / "copy.jsonl")
    assert maintenance.import_lines(other, tmp_path / "copy.jsonl") == maintenance.Imported(new=2, same=0, different=1)
    assert other.get_many([(_key(1), 1)])[_key(1), 1].text == "another text"


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda row: row.pop("text"), "has no text"),
        (lambda row: row.update(text=3), "text is 3, expected str"),
        (lambda row: row.update(key="k"), "expected 64 hexadecimal digits"),
        (lambda row: row.update(sample=-1), "sample is -1, expected 0 or more"),
        (lambda row: row.update(sample=True), "sample is True, expected int"),
        (lambda row: row.update(output_tokens=1.5), "output_tokens is 1.5, expected int"),
    ],
)
def test_one_bad_line_and_nothing_is_taken_in(answers, other, tmp_path, spoil, sentence):
    _fill(answers)
    path = tmp_path / "copy.jsonl"
    maintenance.export(answers, path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    spoil(rows[3])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=rf"copy.jsonl, line 4: .*{sentence}"):
        maintenance.import_lines(other, path)
    assert len(other) == 0
    other.put((_key(1), 1), "m", _answer())  # and no transaction is left open


def test_a_copy_that_cannot_be_written_leaves_what_was_there(answers, tmp_path):
    _fill(answers)
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="folder: is no file"):
        maintenance.export(answers, tmp_path / "folder")
    with pytest.raises(DataError, match="cannot be written"):
        maintenance.export(answers, tmp_path / "nowhere" / "copy.jsonl")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="cannot be written"):
        maintenance.export(answers, tmp_path / "file" / "copy.jsonl")
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir() if "sqlite" not in p.name) == ["file", "folder"]


# --- faults ---


def test_a_sound_store_has_no_fault(answers):
    _fill(answers)
    claim(answers, (_key(99), 0))
    assert maintenance.verify(answers) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("update answers set text = x'00ff' where sample = 2", "text is"),
        ("update answers set input_tokens = -5 where sample = 2", "input_tokens is -5"),
        ("update answers set key = 'short' where sample = 2", "expected 64 hexadecimal digits"),
    ],
)
def test_a_faulty_row_is_named(answers, change, sentence):
    _fill(answers)
    answers.execute(change)
    (fault,) = maintenance.verify(answers)
    assert sentence in fault and "/2: " in fault


def test_a_claim_of_what_is_answered_is_a_fault_that_gc_mends(answers):
    _fill(answers)
    answers.execute("insert into claims values (?, 1, 'batch:x', 0.0)", (_key(1),))
    assert len(maintenance.verify(answers)) == 1
    maintenance.collect_garbage(answers)
    assert maintenance.verify(answers) == []
    assert len(answers) == 5


def test_a_damaged_file_is_said_to_be_damaged(tmp_path):
    path = tmp_path / "damaged.sqlite"
    with contextlib.closing(store.Store(path)) as answers:
        for i in range(300):
            answers.put((_key(i), 0), "m", _answer("text " * 40))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 5000] = b"\xff" * 5000
    path.write_bytes(content)
    with contextlib.closing(store.Store(path)) as answers:
        assert maintenance.verify(answers)


# --- garbage ---


def test_without_conditions_no_answer_goes(answers):
    _fill(answers)
    before = list(answers.rows())
    assert maintenance.collect_garbage(answers) == maintenance.Removed(answers=0, claims=0, batches=0)
    assert list(answers.rows()) == before


def test_only_answers_that_meet_every_condition_go(answers):
    _fill(answers, 4, "m")
    answers.put((_key(10), 0), "n", _answer())
    answers.put((_key(11), 0), "n", _answer("old"))
    answers.execute("update answers set created = created - 10 * 86400 where sample = 3 or text = 'old'")
    assert maintenance.collect_garbage(answers, model="n", older_than_days=5.0).answers == 1
    assert answers.get_many([(_key(11), 0)]) == {} and len(answers) == 5
    assert maintenance.collect_garbage(answers, older_than_days=5.0).answers == 1
    assert maintenance.collect_garbage(answers, older_than_days=5.0).answers == 0
    assert maintenance.collect_garbage(answers, model="m").answers == 3
    assert [row["model"] for row in answers.rows()] == ["n"]


DEAD = """
import sys
from hydrajax.llm import store
answers = store.Store(sys.argv[1])
for number in range(3):
    key = (f"{number:064x}", 0)
    assert answers.claim_many([key]) == {key: None}
print("claimed", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def claimer(answers):
    """A process that has claimed three requests."""
    child = subprocess.Popen(
        [sys.executable, "-c", DEAD, str(answers.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "claimed\n"
    yield child
    child.kill()
    child.communicate()


def test_claims_of_the_living_stay_and_those_of_the_dead_go(answers, claimer):
    assert claim(answers, (_key(7), 0)) is None
    assert claim(answers, (_key(1), 0)).endswith(store.process_name().split("/")[2]) is False
    assert maintenance.collect_garbage(answers) == maintenance.Removed(answers=0, claims=0, batches=0)
    claimer.kill()
    claimer.wait()
    assert maintenance.collect_garbage(answers) == maintenance.Removed(answers=0, claims=3, batches=0)
    assert owner_of(answers, (_key(7), 0)) == store.process_name()
    assert owner_of(answers, (_key(1), 0)) is None


def test_who_was_killed_is_dead_even_while_nobody_has_asked_how_it_ended(answers, claimer):
    """Its parent may be waiting for something else first: for the very process that waits for these requests."""
    os.kill(claimer.pid, signal.SIGKILL)
    os.waitid(os.P_PID, claimer.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is not reaped
    assert claim(answers, (_key(1), 0)) is None


def test_requests_of_a_batch_under_way_stay_noted(answers):
    answers.begin_batch("host/1/1.00#x", "m", [(_key(1), 0)])
    answers.name_batch("host/1/1.00#x", "msgbatch_1")
    maintenance.collect_garbage(answers)
    assert owner_of(answers, (_key(1), 0)) == "batch:host/1/1.00#x"
    assert [batch.id for batch in answers.batches()] == ["msgbatch_1"]


def test_a_store_of_the_first_version_can_be_read_and_copied(tmp_path, other):
    path = tmp_path / "first.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(
            "create table answers (key text not null, sample integer not null, model text not null, text text not null,"
            " stop_reason text not null, input_tokens integer not null, output_tokens integer not null,"
            " created real not null, primary key (key, sample)) without rowid"
        )
        db.execute("insert into answers values (?, 0, 'm', 'paid', 'end_turn', 1, 1, 5.0)", (_key(1),))
        db.commit()
    with contextlib.closing(store.Store(path)) as old:
        assert maintenance.verify(old) == []
        maintenance.export(old, tmp_path / "copy.jsonl")
    assert maintenance.import_lines(other, tmp_path / "copy.jsonl").new == 1
    assert other.get_many([(_key(1), 0)])[_key(1), 0].text == "paid"


def test_notes_of_batches_without_a_request_go(answers):
    answers.begin_batch("gone#1", "m", [])
    answers.begin_batch("there#1", "m", [("0" * 64, 0)])
    assert maintenance.collect_garbage(answers).batches == 1
    assert [batch.intent for batch in answers.batches()] == ["there#1"]


def test_batches_under_way_are_forgotten_on_demand(answers):
    answers.begin_batch("there#1", "m", [("0" * 64, 0)])
    assert maintenance.collect_garbage(answers, batches=True) == maintenance.Removed(answers=0, claims=1, batches=1)
    assert claim(answers, ("0" * 64, 0)) is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"input_tokens": 10**26}, "input_tokens is 1"), ({"seconds": float("nan")}, "seconds is nan"),
     ({"text": "\ud83d"}, "text holds half a surrogate pair")],
)  # fmt: skip
def test_what_no_store_can_hold_is_named_with_its_line(answers, tmp_path, changed, said):
    _fill(answers)
    maintenance.export(answers, tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [rows[0], rows[1] | changed]))
    with contextlib.closing(store.Store(":memory:")) as other:
        with pytest.raises(DataError, match=f"line 2: {said}"):
            maintenance.import_lines(other, tmp_path / "in.jsonl")
        assert len(other) == 0
