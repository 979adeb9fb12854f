"""What runs give does not change by accident: discrete values exactly, floats to 1e-5, requests by their hashes.

A change that is meant to change them freezes them anew (`python -m tests.golden.runs`) in a commit that says why.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests.golden import runs

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """All runs, made once in a process of their own."""
    folder = tmp_path_factory.mktemp("golden")
    done = subprocess.run(
        [sys.executable, "-m", "tests.golden.runs", str(folder)], cwd=ROOT, env=dict(os.environ), capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return folder


def differences(expected, got, where=""):
    """One line for each value that differs."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for name in sorted({*expected, *got}):
            if name in expected and name in got:
                yield from differences(expected[name], got[name], f"{where}.{name}")
            else:
                yield f"{where}.{name}: only in {'the frozen' if name in expected else 'the new'} one"
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        for i, pair in enumerate(zip(expected, got, strict=True)):
            yield from differences(*pair, f"{where}[{i}]")
    elif isinstance(expected, float) and isinstance(got, float):
        if not abs(expected - got) <= 1e-5 * max(1.0, abs(expected)):
            yield f"{where}: {got}, expected {expected}"
    elif expected != got or type(expected) is not type(got):
        yield f"{where}: {str(got)[:200]}, expected {str(expected)[:200]}"


@pytest.mark.parametrize("golden", runs.RUNS, ids=lambda golden: golden.name)
def test_a_run_gives_what_it_gave(found, golden):
    expected = json.loads((runs.EXPECTED / f"{golden.name}.json").read_text())
    got = json.loads((found / f"{golden.name}.json").read_text())
    assert list(differences(expected, got))[:20] == []


def test_a_difference_is_seen():
    frozen = {"a": [1, 2.0, "x"], "b": None}
    assert list(differences(frozen, {"a": [1, 2.0 + 1e-7, "x"], "b": None})) == []
    assert len(list(differences(frozen, {"a": [1, 2.1, "y"], "c": 0}))) == 4
