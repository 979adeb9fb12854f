"""The command as a process of its own: it answers at once, since it imports only what it needs."""

import json
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
# Commands begin in copies of one process that has imported what they may: each needs a fresh one, and none takes long.
CODE = """
import contextlib, importlib, json, os, sys
for name in json.loads(sys.argv[1]):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
before = set(sys.modules)
for line in sys.stdin:
    arguments, out, err, to = json.loads(line)
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    sys.stdin = open(os.devnull)
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY), stream)
    code = 0
    try:
        from hydrajax import entry
        sys.argv = ["hydrajax", *arguments]
        code = entry.main()
    except SystemExit as ended:
        code = ended.code
    loaded = sorted({name.partition(".")[0] for name in set(sys.modules) - before})
    with open(to, "w") as file:
        json.dump(loaded, file)
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(code or 0)
"""


@pytest.fixture(scope="module")
def commands():
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    packages = json.dumps(sorted(ALLOWED - {"hydrajax"}))
    start = [sys.executable, "-c", CODE, packages]
    with subprocess.Popen(start, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        yield process
        process.stdin.close()


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


def loaded(commands, arguments, folder):
    """(exit code, what was printed, the packages that the command has imported besides those that any may)."""
    out, err, to = (folder / name for name in ("out", "err", "loaded"))
    commands.stdin.write(json.dumps([arguments, str(out), str(err), str(to)]) + "\n")
    commands.stdin.flush()
    ended = int(commands.stdout.readline())
    return ended, out.read_text() + err.read_text(), set(json.loads(to.read_text()))


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
def test_what_computes_nothing_imports_little(arguments, code, says, store, run, commands, tmp_path):
    arguments = [argument.format(store=store, run=run) for argument in arguments]
    ended, printed, packages = loaded(commands, arguments, tmp_path)
    assert (ended, says in printed) == (code, True), printed
    found = {name for name in packages if name not in sys.stdlib_module_names and not name.startswith("_")}
    assert found - ALLOWED == set()
