"""A whole run of several processes, or on several devices, is that of one."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
SIZES = (
    "--train-users 4 --dev-users 2 --queries-per-user 1 --settings.pseudo-queries 2 --settings.derangements 2 "
    "--settings.samples 2 --settings.validation .5 --epochs 0 2 --scorer.pooled-epochs 2 --scorer.dropout 0 "
    "--scorer.learning-rate .05 --scorer.family linear --losses pairwise"
)


def start(folder, name, **environment):
    command = [sys.executable, "-m", "hydrajax.cli", "run", "demo", "--llm", "scripted"]
    own = {"out": name, "store": f"{name}.sqlite", "cache": f"{name}-features"}
    places = [word for option, file in own.items() for word in (f"--{option}", str(folder / file))]
    return subprocess.Popen(
        [*command, *SIZES.split(), *places],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def numbers(tree, path=""):
    """Every number of results, by its place; what time took is none of them."""
    if isinstance(tree, dict):
        for name, part in tree.items():
            if name != "seconds":
                yield from numbers(part, f"{path}/{name}")
    elif isinstance(tree, list):
        for i, part in enumerate(tree):
            yield from numbers(part, f"{path}/{i}")
    elif isinstance(tree, (int, float)):
        yield path, tree


def assert_same(a, b):
    found, expected = (dict(numbers(json.loads((folder / "results.json").read_text()))) for folder in (a, b))
    assert found.keys() == expected.keys() and len(expected) > 30
    np.testing.assert_allclose(list(found.values()), list(expected.values()), atol=1e-3)


@pytest.mark.slow
def test_runs_on_eight_devices_and_in_two_processes_are_that_of_one_device(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    many = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"}
    two = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    running = [
        start(tmp_path, "one"),
        start(tmp_path, "eight", **many),
        *(start(tmp_path, "two", **two, JAX_PROCESS_ID=str(i)) for i in range(2)),
    ]
    said = [process.communicate(timeout=900)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0, 0], "\n".join(said)
    assert "devices: 1\n" in said[0] and "devices: 8\n" in said[1] and "devices: 2\n" in said[2]
    # The second process has nothing to say, and writes nothing.
    assert "devices" not in said[3] and "report" not in said[3]
    assert len((tmp_path / "two" / "invocations.jsonl").read_text().splitlines()) == 1
    for name in ("eight", "two"):
        assert_same(tmp_path / name, tmp_path / "one")
