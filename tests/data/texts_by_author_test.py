"""Texts by author: files, folders, and what is said of faulty ones."""

import gzip
import json

import pytest

from hydrajax.data import texts_by_author
from hydrajax.types import DataError

ROWS = [{"author": "ann", "file": f"{i}.txt", "text": f"Text {i} by ann."} for i in range(3)]


def write(path, rows):
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def complaint(*paths):
    with pytest.raises(DataError) as error:
        texts_by_author.read(paths)
    return str(error.value)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_lines_plain_or_gzipped(tmp_path, name):
    found = texts_by_author.read([write(tmp_path / name, ROWS)])
    assert [(t.author, t.file, t.text, t.source) for t in found] == [
        ("ann", row["file"], row["text"], name) for row in ROWS
    ]


def test_a_folder_with_one_folder_an_author(tmp_path):
    for author in ("bob", "ann"):
        (tmp_path / "texts" / author).mkdir(parents=True)
        (tmp_path / "texts" / author / "1.txt").write_text(f"By {author}.")
    found = texts_by_author.read([tmp_path / "texts"])
    assert [(t.author, t.file, t.text) for t in found] == [
        ("ann", "ann/1.txt", "By ann."),
        ("bob", "bob/1.txt", "By bob."),
    ]


def test_sources_of_one_name_are_told_apart(tmp_path):
    paths = []
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        paths.append(write(tmp_path / folder / "a.jsonl", ROWS))
    assert len({t.source for t in texts_by_author.read(paths)}) == 2


def test_every_fault_is_one_sentence_with_file_and_line(tmp_path):
    path = write(
        tmp_path / "a.jsonl",
        [ROWS[0], "{", '"text"', {"author": "ann", "file": "x"}, {"author": " ", "text": "a"}, ROWS[0]],
    )
    lines = complaint(path).splitlines()
    assert len(lines) == 5
    assert all(str(path) in line for line in lines)
    for number, words in enumerate(
        ("broken JSON", "expected an object", "text is None", "author is ' '", "more than once")
    ):
        assert f"line {number + 2}" in lines[number] and words in lines[number]


def test_what_cannot_be_read(tmp_path):
    assert "no texts were given" in complaint()
    assert "the file does not exist" in complaint(tmp_path / "missing.jsonl")
    path = write(tmp_path / "a.jsonl", ROWS)
    assert "given twice" in complaint(path, path)
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(json.dumps(ROWS[0]).encode())[:-9])
    assert "cannot be read" in complaint(cut)
    (tmp_path / "empty").mkdir()
    assert "holds no text" in complaint(tmp_path / "empty")


def test_attributes_of_an_author_are_those_of_all_texts(tmp_path):
    first = write(tmp_path / "a.jsonl", [{**ROWS[0], "attributes": {"age": 34}}, ROWS[1]])
    second = write(tmp_path / "b.jsonl", [{**ROWS[2], "attributes": {"job": "nurse"}}])
    found = texts_by_author.read([first, second])
    assert [dict(text.attributes) for text in found] == [{"age": "34", "job": "nurse"}] * 3
    other = write(tmp_path / "c.jsonl", [{**ROWS[2], "attributes": {"age": 35}}])
    assert "attribute 'age' is '35', and elsewhere '34'" in complaint(first, other)
    assert all(not text.attributes for text in texts_by_author.read([write(tmp_path / "d.jsonl", ROWS)]))
