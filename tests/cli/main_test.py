"""The command as a process of its own: it answers at once, since it imports only what it needs."""

import os
import subprocess
import sys

import pytest

from hydrajax.prompting import contract, library

# What may be imported by a command that computes nothing: small packages, none of which takes long.
ALLOWED = {
    "cython_runtime", "docstring_parser", "filelock", "hydrajax", "jaxtyping", "markdown_it", "mdurl", "numpy",
    "platformdirs", "psutil",
    "pygments", "rich", "safetensors", "shtab", "tyro", "typeguard", "typing_extensions", "wadler_lindig",
}  # fmt: skip
CODE = """
import atexit, sys
before = set(sys.modules)
def report():
    loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
    print("loaded", *sorted(loaded), file=sys.stderr)
atexit.register(report)
from hydrajax import entry
sys.argv = ["hydrajax", *sys.argv[1:]]
entry.main()
"""


@pytest.fixture
def store(tmp_path):
    from hydrajax.llm import store as store_lib

    store_lib.Store(tmp_path / "s.sqlite").close()
    return str(tmp_path / "s.sqlite")


@pytest.fixture
def run(tmp_path):
    model = contract.UserModel(text="calm", records=("r0",), llm="m")
    key = library.Key("hypotheses", "u", "whole")
    library.Library(tmp_path / "run" / library.FILE).add({key: library.Entry(model=model)})
    return str(tmp_path / "run")


def loaded(arguments):
    """(exit code, what was printed, the packages that the command has imported)."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run([sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, env=env)
    *printed, last = done.stderr.splitlines()
    return done.returncode, done.stdout + "\n".join(printed), set(last.split()[1:])


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--help"], 0, "user-models"),
        (["run", "--help"], 0, "hyperalign"),
        (["run", "lamp", "--help"], 0, "--settings.retrieved"),
        (["run", "hyperalign", "--help"], 0, "--judge"),
        (["store", "stats", "--store", "{store}"], 0, "attempts"),
        (["user-models", "list", "{run}"], 0, "calm"),
        (["store", "stats", "--store", "missing.sqlite"], 2, "there is no such store"),
        (["report", "no-run"], 2, "holds no run"),
        (["answer", "no-run", "--user", "u", "--input", "i"], 2, "holds no run"),
        (["personalise", "no-run", "--profile", "people.json"], 2, "holds no run"),
        (["personalise", "--help"], 0, "--profile"),
        (["run", "lamp", "--no-such-option"], 2, "no-such-option"),
        (["run", "lamp"], 2, "--task"),
        (["run", "lamp", "--task", "LaMP_3", "--seed", "-1"], 2, "seed is -1"),
        (["run", "lamp", "--task", "LaMP_9", "--data-dir", "nowhere"], 2, "unknown task 'LaMP_9'"),
        (["run", "lamp", "--task", "LaMP_3", "--data-dir", "nowhere"], 2, "does not exist"),
        (["run", "lamp", "--task", "LaMP_3", "--data-dir", "nowhere", "--plan"], 2, "does not exist"),
        (["run", "hyperalign", "--data", "missing.jsonl"], 2, "missing.jsonl"),
        (["sample", "--input", "i", "--output", "o", "--llm", "gpt", "--store", "{store}"], 2, "unknown LLM 'gpt'"),
        (["run", "--config", "missing.py"], 2, "missing.py"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_computes_nothing_imports_little(arguments, code, says, store, run):
    arguments = [argument.format(store=store, run=run) for argument in arguments]
    ended, printed, packages = loaded(arguments)
    assert (ended, says in printed) == (code, True), printed
    found = {name for name in packages if name not in sys.stdlib_module_names and not name.startswith("_")}
    assert found - ALLOWED == set()
