import contextlib
import dataclasses
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hydrajax.llm import request, store
from hydrajax.types import DataError
from tests.llm.claims import claim, owner_of


def _answer(text="text", **rest) -> request.Answer:
    return request.Answer(**({"text": text, "stop_reason": "end_turn", "input_tokens": 3, "output_tokens": 2} | rest))


@pytest.fixture
def answers(tmp_path):
    opened = store.Store(tmp_path / "deep" / "answers.sqlite")
    yield opened
    opened.close()


def test_what_is_put_is_found_after_reopening(answers):
    put = answers.put(("k", 1), "m", _answer("é\n", stop_reason="refusal"))
    assert not put.cached
    assert len(answers) == 1
    reopened = store.Store(answers.path)
    assert reopened.get_many([("k", 0), ("k", 1), ("l", 1)]) == {
        ("k", 1): _answer("é\n", stop_reason="refusal", cached=True)
    }
    reopened.close()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives(text):
    opened = store.Store(":memory:")
    opened.put(("k", 0), "m", _answer(text))
    assert opened.get_many([("k", 0)])["k", 0].text == text
    opened.close()


def test_the_first_answer_stays(answers):
    assert answers.put(("k", 0), "m", _answer("first")).text == "first"
    assert answers.put(("k", 0), "m", _answer("second")).text == "first"
    assert answers.get_many([("k", 0)])["k", 0].text == "first"
    assert answers.put(("k", 1), "m", _answer("another sample")).text == "another sample"


def test_repeated_wishes_are_found_once(answers):
    answers.put(("k", 0), "m", _answer())
    assert list(answers.get_many([("k", 0)] * 3)) == [("k", 0)]
    assert answers.get_many([]) == {}


def test_by_default_one_file_in_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    opened = store.Store()
    opened.put(("k", 0), "m", _answer())
    opened.close()
    assert tmp_path in opened.path.parents and opened.path.is_file()
    again = store.Store()
    assert len(again) == 1
    again.close()


def _not_a_database(path):
    path.write_text("these are no answers " * 100)


def _another_database(path):
    with sqlite3.connect(path) as db:
        db.execute("create table answers (something_else)")
    db.close()


@pytest.mark.parametrize("make", [_not_a_database, _another_database, os.mkdir])
def test_a_file_that_is_no_store_is_named_and_left_alone(make, tmp_path):
    path = tmp_path / "answers.sqlite"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(DataError, match=r"answers\.sqlite: cannot be used as a store of answers"):
        store.Store(path)
    assert before is None or before == path.read_bytes()


WRITER = """
import sys
from hydrajax.llm import request, store
path, name = sys.argv[1:]
answers = store.Store(path)
for number in range(60):
    answer = request.Answer(text=f"{name} {number}", stop_reason="end_turn", input_tokens=1, output_tokens=1)
    print(answers.put((f"key {number}", 0), "m", answer).text)
answers.close()
"""


def test_several_processes_agree_on_every_answer(tmp_path):
    """All of them open a file that does not exist yet, and write the same keys."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "answers.sqlite")]
    writers = [
        subprocess.Popen([*command, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for name in ("first", "second", "third", "fourth")
    ]
    said = []
    for writer in writers:
        out, error = writer.communicate(timeout=60)
        assert writer.returncode == 0, error
        said.append(out.splitlines())
    assert said[0] == said[1] == said[2] == said[3]
    assert [line.split()[1] for line in said[0]] == [str(number) for number in range(60)]
    opened = store.Store(tmp_path / "answers.sqlite")
    assert len(opened) == 60
    opened.close()


KILLED = """
import os, signal, sys
from hydrajax.llm import request, store
answers = store.Store(sys.argv[1])
answers.put(("k", 0), "m", request.Answer(text="paid", stop_reason="end_turn", input_tokens=1, output_tokens=1))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_an_answer_outlives_the_death_of_its_process(tmp_path):
    path = tmp_path / "answers.sqlite"
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)]).returncode == -signal.SIGKILL
    opened = store.Store(path)
    assert opened.get_many([("k", 0)])["k", 0].text == "paid"
    opened.close()


def test_claims_of_another_machine_are_believed_for_a_while(answers):
    now = time.time()
    for key, since in (("young", now - 60), ("old", now - 2 * store.TRUSTED_SECONDS)):
        answers.execute("insert into claims values (?, 0, 'elsewhere/7/1.00', ?)", (key, since))
    assert claim(answers, ("young", 0)) == "elsewhere/7/1.00"
    assert claim(answers, ("old", 0)) is None


def test_many_claims_are_those_of_each(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "CLAIMED_AT_ONCE", 3)
    with (
        contextlib.closing(store.Store(tmp_path / "a")) as mine,
        contextlib.closing(store.Store(tmp_path / "a")) as other,
    ):
        other.owner = "batch:x"
        keys = [(f"{i:064x}", i) for i in range(10)]
        answer = mine.put(keys[4], "m", request.Answer(text="t", stop_reason="s", input_tokens=1, output_tokens=1))
        assert claim(other, keys[7]) is None
        found = mine.claim_many(keys)
        assert list(found) == keys or set(found) == set(keys)
        assert found[keys[4]] == dataclasses.replace(answer, cached=True) and found[keys[7]] == "batch:x"
        assert all(found[key] is None for i, key in enumerate(keys) if i not in (4, 7))
        assert all(owner_of(mine, key) == mine.owner for i, key in enumerate(keys) if i not in (4, 7))
        assert mine.claim_many([]) == {}
