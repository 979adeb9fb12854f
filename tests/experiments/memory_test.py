import contextlib
import dataclasses
import json
import resource
import subprocess

import pytest

from experiments.benchmarks import _benchmark, memory
from hydrajax.data import lamp


@pytest.fixture
def options():
    return memory.Options(train_users=4, dev_users=2)


def test_the_simulated_users_are_of_lamps_size(tmp_path, options):
    memory.write_data(tmp_path, options)
    for split, users in (("train", 4), ("dev", 2)):
        found, skipped = lamp.read_split(tmp_path / memory.TASK.name, memory.TASK, split)
        assert skipped == () and len(found.users) == len(found.queries) == users
        for user in found.users.values():
            assert 10 <= len(user.profile) <= 60
            for record in user.profile:
                assert 50 <= len(record.fields["text"].split()) <= 150
                assert set(record.fields["title"].split()) <= set(record.fields["text"].split())


def test_the_data_depend_on_the_seed_alone(tmp_path, options):
    written = []
    for i, seed in enumerate((0, 0, 1)):
        memory.write_data(tmp_path / str(i), dataclasses.replace(options, seed=seed))
        written.append((tmp_path / str(i) / memory.TASK.name / "dev_questions.json").read_text())
    assert written[0] == written[1] != written[2]


@pytest.mark.parametrize(("peak", "code"), [(memory.LIMIT, 0), (memory.LIMIT + 1, 1)])
def test_the_last_line_is_json_and_the_exit_code_says_whether_the_limit_was_kept(monkeypatch, capsys, peak, code):
    def ran(command, **rest):
        out = command[command.index("--out") + 1]
        results = memory.pathlib.Path(out) / "results.json"
        results.parent.mkdir()
        results.write_text(json.dumps({"llm": {"calls": 12}}))
        assert command[command.index("--llm") + 1] == "scripted"

    monkeypatch.setattr(subprocess, "run", ran)
    monkeypatch.setattr(_benchmark, "peak_bytes", lambda who: peak)
    with pytest.raises(SystemExit) if code else contextlib.nullcontext() as stop:
        memory.main(memory.Options(json=True, train_users=3, dev_users=2))
    assert not code or stop.value.code == code
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["peak_bytes"], found["limit_bytes"], found["calls"]) == (peak, 4 * 2**30, 12)
    assert (found["train_users"], found["dev_users"]) == (3, 2)


def test_the_peak_is_the_childs(monkeypatch):
    code = "import time; x = bytearray(150 * 2**20)"
    subprocess.run([memory.sys.executable, "-c", code], check=True)
    assert _benchmark.peak_bytes(resource.RUSAGE_CHILDREN) >= 150 * 2**20
