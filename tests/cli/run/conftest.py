"""What tests of the run commands share: data of a small task, an empty folder, and what a refusal looks like."""

import json
import pathlib

import pytest

from hydrajax.cli import main
from hydrajax.data import tasks
from hydrajax.methods import selection
from hydrajax.runs import workbench
from tests.runs import conftest as stand_ins

TASK = tasks.LAMP["LaMP_3"]


@pytest.fixture(autouse=True)
def _anywhere(monkeypatch, tmp_path):
    """Every test starts in an empty folder, under `there`; data lie beside it."""
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def untrained(monkeypatch):
    """Runs without base and training."""
    monkeypatch.setattr(selection, "ValidatedLearner", stand_ins.Learner)
    monkeypatch.setattr(workbench, "encoders", stand_ins.encoders)


class Data:
    """LaMP's files as lists that a test may spoil before they are written."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder / "data"
        self.files = {}
        for split, users in (("train", 4), ("dev", 3)):
            questions, golds = [], []
            for i in range(users):
                profile = [
                    {"id": f"{j}", "text": f"review {j} of {split} {i} lantern meadow", "score": str(1 + (i + j) % 5)}
                    for j in range(4)
                ]
                text = TASK.question({"text": f"{split} {i} asks of copper and violin"})
                questions.append({"id": f"{split}{i}", "input": text, "profile": profile})
                golds.append({"id": f"{split}{i}", "output": str(1 + i % 5)})
            self.files[f"{split}_questions.json"] = questions
            self.files[f"{split}_outputs.json"] = {"task": "LaMP_3", "golds": golds}

    def write(self) -> str:
        (self.folder / "LaMP_3").mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (self.folder / "LaMP_3" / name).write_text(text)
        return str(self.folder)


@pytest.fixture
def data(tmp_path):
    return Data(tmp_path)


def lamp(data, *more, llm="scripted"):
    return [
        "run", "lamp", "--task", "LaMP_3", "--data-dir", data.write(), "--train-users", "None", "--dev-users", "None",
        "--llm", llm, *more,
    ]  # fmt: skip


def refused(arguments, capfd):
    """What is said on standard error by a command that exits with 2 and leaves nothing behind."""
    with pytest.raises(SystemExit) as stop:
        main.main(arguments)
    assert stop.value.code == 2
    out, err = capfd.readouterr()
    assert "Traceback" not in err and "hydrajax" in err and out == ""
    assert list(pathlib.Path.cwd().iterdir()) == []
    return err


def drop(data, name):
    data.files[name] = ""
    data.write()
    (data.folder / "LaMP_3" / name).unlink()
    del data.files[name]
