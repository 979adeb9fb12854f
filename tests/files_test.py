import json
import os
import socket

import pytest

from hydrajax import files
from hydrajax.types import DataError


@pytest.mark.parametrize("write", [files.write_json, lambda path, values: files.write_lines(path, [values])])
def test_a_file_is_written_whole_or_not_at_all(tmp_path, write, monkeypatch):
    path = tmp_path / "file.json"
    write(path, {"a": "old"})
    with pytest.raises(ValueError):
        write(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": "old"}

    def fails(self, target):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "replace", fails)
        with pytest.raises(OSError, match="no space"):
            write(path, {"a": "new"})
    assert json.loads(path.read_text()) == {"a": "old"}
    write(path, {"a": "new"})
    assert json.loads(path.read_text()) == {"a": "new"}


def test_any_text_of_a_user_can_be_written(tmp_path):
    files.write_json(tmp_path / "a.json", {"text": "half a pair \ud83d, an é and a \n"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["text"] == "half a pair ?, an é and a \n"


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path):
    path = tmp_path / "lines.jsonl"
    assert files.read_lines(path) == []
    for row in ({"a": 1}, {"a": "ü"}):
        files.append_line(path, row)
    with open(path, "a") as file:
        file.write('{"a": ')
    assert files.read_lines(path) == [{"a": 1}, {"a": "ü"}]
    files.append_line(path, {"a": 3})
    assert files.read_lines(path) == [{"a": 1}, {"a": "ü"}, {"a": 3}]


@pytest.mark.parametrize(("text", "said"), [("{", "broken JSON"), ("[1]", "list, expected an object")])
def test_a_damaged_file_is_called_by_its_name(tmp_path, text, said):
    path = tmp_path / "x.json"
    with pytest.raises(DataError, match=r"x\.json: cannot be read \(No such file"):
        files.read_json(path)
    path.write_text(text)
    with pytest.raises(DataError, match=rf"x\.json: .*{said}"):
        files.read_json(path)


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    beside = f".out.jsonl.{socket.gethostname()}."
    dead, living, other = beside + "999999999", beside + str(os.getppid()), ".out.jsonl.elsewhere.999999999"
    notes = [beside + "txt", f".out.jsonx.{socket.gethostname()}.999999999"]
    for name in (dead, living, other, *notes):
        (tmp_path / name).write_text("half")
    files.write_text(tmp_path / "out.jsonl", "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"out.jsonl", living, other, *notes}
    assert (tmp_path / "out.jsonl").read_text() == "whole"


def test_a_line_that_is_too_deep_is_broken_and_a_byte_order_mark_is_none(tmp_path):
    (tmp_path / "in.jsonl").write_bytes(b"\xef\xbb\xbf" + b'{"a": 1}\n' + b"[" * 200_000)
    lines = files.numbered_lines(tmp_path / "in.jsonl")
    assert next(lines) == (1, {"a": 1})
    with pytest.raises(DataError, match="line 2: is broken JSON"):
        next(lines)


def test_what_a_link_links_to_is_replaced(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    files.write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"
