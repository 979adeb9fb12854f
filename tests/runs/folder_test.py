import dataclasses

import pytest

from hydrajax import files
from hydrajax.runs import config as config_lib
from hydrajax.runs import folder
from hydrajax.types import DataError

CONFIG = config_lib.Demo(seed=3)


def test_the_folder_of_the_same_run_is_taken_up_again(tmp_path):
    out = tmp_path / "a" / "run"
    folder.prepare(out, CONFIG, "first")
    (out / "something").write_text("kept")
    folder.prepare(out, CONFIG, "second")
    assert (out / "something").read_text() == "kept"
    assert folder.read_config(out) == CONFIG
    assert files.read_json(out / "config.json")["command"] == "second"


def test_another_runs_folder_is_refused_and_left_as_it_was(tmp_path):
    folder.prepare(tmp_path, CONFIG, "first")
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(DataError, match="other settings.*seed.*--out") as error:
        folder.prepare(tmp_path, dataclasses.replace(CONFIG, seed=4), "second")
    assert str(tmp_path) in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_folder_of_something_else_is_refused_and_left_as_it_was(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty.*--out"):
        folder.prepare(tmp_path, CONFIG, "command")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_is_no_folder(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(DataError, match="file.*--out"):
        folder.prepare(path, CONFIG, "command")
    assert path.read_text() == "mine"


def test_an_empty_folder_will_do(tmp_path):
    folder.prepare(tmp_path, CONFIG, "command")
    assert folder.read_config(tmp_path) == CONFIG


def test_a_folder_without_a_run_has_no_configuration(tmp_path):
    with pytest.raises(DataError, match="holds no run"):
        folder.read_config(tmp_path)


@pytest.mark.parametrize(("text", "said"), [("{", "broken JSON"), ("[1]", "list, expected an object")])
def test_a_damaged_file_is_called_by_its_name(tmp_path, text, said):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(DataError, match=said) as error:
        folder.read_config(tmp_path)
    assert str(path) in str(error.value)
