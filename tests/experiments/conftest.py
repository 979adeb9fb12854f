"""Experiments run as the command line runs them, with a base of 8 features and a scripted LLM."""

import jax
import pytest

from hydrajax.cli import main, run
from hydrajax.runs import workbench
from tests.runs.conftest import encoders


@pytest.fixture
def small_base(monkeypatch):
    monkeypatch.setattr(workbench, "encoders", encoders)


@pytest.fixture
def experiment(tmp_path, monkeypatch, capsys):
    """Runs an experiment in its smoke size with a store in `tmp_path`; returns what was said."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(name, *options, out="out", store="answers.sqlite"):
        places = ["--store", tmp_path / store, "--cache", tmp_path / "features", "--out", tmp_path / out]
        main.main(["run", "--config", config_file(name), "--smoke", *map(str, (*places, *options))])
        return capsys.readouterr()

    yield call
    # A run keeps compiled programs in its cache; the folder of a test does not outlive the test.
    jax.config.update("jax_compilation_cache_dir", None)


@pytest.fixture
def refused(experiment, capsys):
    """Runs an experiment that must be refused in one sentence; returns it."""

    def call(*arguments, **rest):
        with pytest.raises(SystemExit) as ended:
            experiment(*arguments, **rest)
        said = capsys.readouterr().err
        assert ended.value.code == 2 and said.count("hydrajax: ") == 1 and "Traceback" not in said
        return said.partition("hydrajax: ")[2]

    return call


@pytest.fixture
def configured():
    """The configuration of an experiment's smoke size, with options."""

    def call(name, *options, smoke=True):
        return run.parse(["--config", config_file(name), *["--smoke"] * smoke, *map(str, options)]).config

    return call


def config_file(name):
    return f"experiments/configs/{name}.py"
