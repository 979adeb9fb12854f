"""The TFDS builder gives the splits that the JSON reader gives, from a folder and from the network."""

import functools
import http.server
import json
import logging
import subprocess
import sys
import threading

import pytest

from hydrajax.data import lamp, tasks, tfds_lamp
from hydrajax.types import DataError


def write(folder, task, *, score="4"):
    """Two users with three questions; one profile is empty, dates are out of order."""
    folder.mkdir(parents=True, exist_ok=True)
    label = task.labels[1] if task.labels else "a gold"
    slots = dict.fromkeys(task.slots, "what is asked “now”")
    for split in ("train", "dev"):
        fields = {field: label if field == task.answer else f"{split} {field} ünd" for field in task.fields}
        profile = [
            {"id": "new", **fields, "date": "2020-02-02"},
            {"id": "old", **{f: t for f, t in fields.items() if f not in task.optional}, "date": "2019-01-01"},
        ]
        questions = [
            {
                "id": f"{split}-q{i}",
                "user_id": user,
                "input": task.question(slots),
                "profile": profile if user == "ann" else [],
            }
            for i, user in enumerate(("ann", "bea", "ann"))
        ]
        (folder / f"{split}_questions.json").write_text(json.dumps(questions))
        golds = [{"id": row["id"], "output": score if task.kind == "rating" else label} for row in questions]
        (folder / f"{split}_outputs.json").write_text(json.dumps({"task": task.name, "golds": golds}))
    return folder


def load(name, *, data_dir, **rest):
    return tfds_lamp.load(tfds_lamp.config(name, **rest), data_dir=data_dir)


@pytest.mark.parametrize("name", tasks.LAMP)
def test_a_folder_reads_back_as_the_json_reader_reads_it(tmp_path, name):
    folder = write(tmp_path / name, tasks.LAMP[name])
    splits, skipped = load(name, data_dir=tmp_path / "tfds", folder=folder)
    assert skipped == ()
    for split in ("train", "dev"):
        expected, _ = lamp.read_split(folder, tasks.LAMP[name], split)
        assert splits[split] == expected
        assert list(splits[split].users) == list(expected.users)
        assert [r.id for r in splits[split].users["ann"].profile] == ["old", "new"]


def test_what_is_built_is_read_without_the_files_and_other_contents_are_built_anew(tmp_path):
    folder = write(tmp_path / "LaMP_3", tasks.LAMP["LaMP_3"], score="4")
    read = functools.partial(load, "LaMP_3", data_dir=tmp_path / "tfds", folder=folder)
    assert read()[0]["dev"].queries[0].gold == "4"
    built = sorted(path.name for path in (tmp_path / "tfds" / "lamp").iterdir())
    assert read()[0]["dev"].queries[0].gold == "4"
    assert sorted(path.name for path in (tmp_path / "tfds" / "lamp").iterdir()) == built
    write(folder, tasks.LAMP["LaMP_3"], score="2")
    assert read()[0]["dev"].queries[0].gold == "2"


def test_faults_are_sentences_and_skipped_ones_are_kept(tmp_path):
    folder = write(tmp_path / "LaMP_3", tasks.LAMP["LaMP_3"], score="9")
    read = functools.partial(load, "LaMP_3", data_dir=tmp_path / "tfds", folder=folder)
    with pytest.raises(DataError, match="'9' is no label of LaMP_3"):
        read()
    for _ in range(2):  # built, and read again
        splits, skipped = read(skip_bad=True)
        assert splits["train"].queries == () and list(splits["train"].users) == ["ann", "bea"]
        assert len(skipped) == 6 and "gold 'train-q0'" in skipped[0]
    with pytest.raises(DataError, match="'9' is no label of LaMP_3"):
        read()


def test_a_missing_file_and_an_unknown_task_are_named(tmp_path):
    with pytest.raises(DataError, match=r"train_questions\.json: cannot be read"):
        load("LaMP_7", data_dir=tmp_path, folder=tmp_path)
    with pytest.raises(DataError, match="'LaMP_8' is no task of LaMP, expected one of LaMP_1, LaMP_2N"):
        load("LaMP_8", data_dir=tmp_path)


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A server of one folder in the place of the benchmark's site."""
    root = tmp_path / "site"
    root.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Silent, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(tfds_lamp, "ADDRESS", f"http://127.0.0.1:{server.server_address[1]}")
    yield root
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("name", "by", "place"),
    [("LaMP_2M", "user", "LaMP_2/new"), ("LaMP_2N", "user", "LaMP_2"), ("LaMP_4", "time", "time/LaMP_4")],
)
def test_the_benchmark_is_downloaded(tmp_path, site, name, by, place):
    folder = write(tmp_path / "made", tasks.LAMP[name])
    for split in ("train", "dev"):
        (site / place / split).mkdir(parents=True)
        for part in ("questions", "outputs"):
            file = f"{split}_{part}.json"
            (site / place / split / file).write_bytes((folder / file).read_bytes())
    splits, _ = load(name, by=by, data_dir=tmp_path / "tfds")
    assert splits["dev"] == lamp.read_split(folder, tasks.LAMP[name], "dev")[0]


def test_without_the_files_on_the_site_one_sentence_says_what_to_do(tmp_path, site):
    with pytest.raises(DataError, match="LaMP_7 cannot be downloaded .* name the folder that holds its JSON files"):
        load("LaMP_7", data_dir=tmp_path / "tfds")


def test_lamp_6_cannot_be_downloaded(tmp_path):
    with pytest.raises(DataError, match="LaMP_6 is made of the Avocado corpus"):
        load("LaMP_6", data_dir=tmp_path)


def test_nothing_is_printed(tmp_path, capfd):
    level = logging.getLogger("absl").level
    folder = write(tmp_path / "LaMP_7", tasks.LAMP["LaMP_7"])
    load("LaMP_7", data_dir=tmp_path / "tfds", folder=folder)
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("absl").level == level


def test_the_builder_is_an_ordinary_one():
    names = set(tfds_lamp.Lamp.builder_configs)
    assert names == {f"{task}_{by}" for task in tasks.LAMP for by in ("user", "time")}


def test_the_data_package_needs_neither_tfds_nor_tensorflow_nor_jax():
    modules = "lamp, custom, feedback, pseudo, folds, simulated, tasks"
    code = f"import sys; from hydrajax.data import {modules}; "
    code += "print([name for name in ('tensorflow_datasets', 'tensorflow', 'jax') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
