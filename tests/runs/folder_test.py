import dataclasses

import pytest

from hydrajax import files
from hydrajax.runs import authorship_config, folder, kinds
from hydrajax.runs import config as config_lib
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


LAMP = config_lib.Lamp(task="LaMP_3", data_dir="/data", seed=1)


def as_before(out, **more):
    """The folder of a run from before its module was noted."""
    out.mkdir(exist_ok=True)
    files.write_json(out / "config.json", {**kinds.to_json(LAMP), "command": "c", **more})


def test_a_folder_from_before_its_module_was_noted_goes_on(tmp_path):
    as_before(tmp_path)
    assert folder.read_config(tmp_path) == LAMP and folder.read(tmp_path)["module"] == LAMP.module
    folder.prepare(tmp_path, LAMP, "again")
    assert files.read_json(tmp_path / "config.json")["module"] == LAMP.module


def test_a_setting_that_came_later_tells_no_folder_apart_where_it_is_as_before(tmp_path):
    values = kinds.to_json(LAMP)
    assert "moments" not in values["scorer"]
    as_before(tmp_path, scorer={**values["scorer"]})
    folder.prepare(tmp_path, LAMP, "again")


def test_a_demo_of_other_simulated_users_is_refused_in_one_sentence(tmp_path):
    kept = {**kinds.to_json(config_lib.Demo()), "task": "demo", "data_dir": None, "folds": 0, "skip_bad": False}
    files.write_json(tmp_path / "config.json", kept)
    with pytest.raises(DataError, match="does not hold the configuration of a run.*'task'"):
        folder.read_config(tmp_path)
    with pytest.raises(DataError, match="other settings"):
        folder.prepare(tmp_path, config_lib.Demo(), "again")


@pytest.mark.parametrize("values", [{"experiment": "sorcery"}, {}])
def test_what_is_no_kind_of_run_is_refused(tmp_path, values):
    files.write_json(tmp_path / "config.json", values)
    with pytest.raises(DataError, match="no kind of run"):
        folder.read(tmp_path)


def test_a_run_of_another_kind_cannot_be_asked(tmp_path):
    folder.prepare(tmp_path, authorship_config.Authorship(data=("a",)), "command")
    with pytest.raises(DataError, match="holds a run of 'hyperalign', of which this cannot be asked"):
        folder.read_config(tmp_path)
    with pytest.raises(DataError, match="holds a run of 'hyperalign', not of 'demo'"):
        folder.prepare(tmp_path, CONFIG, "command")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": "three"}, "seed is 'three', expected a whole number"),
        ({"train_users": 1.5}, "train_users is 1.5, expected"),
        ({"settings": {"shown": "4"}}, "settings.shown is '4', expected a tuple"),
        ({"scorer": {"epochs": "2"}}, "scorer.epochs is '2', expected"),
        ({"command": 3}, "command is 3, expected a text or a list"),
        ({"experiment": ["demo"]}, "experiment is a list, expected a text"),
    ],
)
def test_a_setting_of_another_type_is_refused_by_whatever_reads_the_folder(tmp_path, changed, said):
    folder.prepare(tmp_path, CONFIG, "command")
    files.write_json(tmp_path / "config.json", {**files.read_json(tmp_path / "config.json"), **changed})
    for read in (folder.read, folder.read_config):
        with pytest.raises(DataError, match=f"config.json: .*{said}"):
            read(tmp_path)


def test_so_is_one_of_another_kind_of_run(tmp_path):
    folder.prepare(tmp_path, authorship_config.Authorship(data=("a",)), "command")
    assert folder.read(tmp_path)["seed"] == 0
    files.write_json(tmp_path / "config.json", {**files.read_json(tmp_path / "config.json"), "authors": "ten"})
    with pytest.raises(DataError, match="authors is 'ten', expected a whole number"):
        folder.read(tmp_path)


def test_what_a_run_would_refuse_today_can_still_be_read(tmp_path):
    """Its report is written again; it is not gone on with."""
    folder.prepare(tmp_path, CONFIG, "command")
    values = files.read_json(tmp_path / "config.json")
    files.write_json(tmp_path / "config.json", {**values, "scorer": {**values["scorer"], "epochs": 8}})
    assert folder.read(tmp_path)["scorer"]["epochs"] == 8
    with pytest.raises(DataError, match="scorer.epochs is 8"):
        folder.read_config(tmp_path)
