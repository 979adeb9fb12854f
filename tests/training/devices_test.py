import os
import pathlib
import re
import socket
import subprocess
import sys
from unittest import mock

import jax
import numpy as np
import pytest

from hydrajax.nn import backends, encode, heads, processes, scorer, tokens
from hydrajax.training import checkpoints, head_fits, programs, solver
from hydrajax.training import rows as rows_in
from hydrajax.types import DataError
from tests.training import devices_worker as worker
from tests.training import sharded_worker
from tests.training.conftest import assert_close, assert_equal, make_base, make_examples

ROOT = pathlib.Path(__file__).parents[2]


def start(mode, folder, number, port=None, count=2):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if port is not None:
        environment |= {
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
            "JAX_NUM_PROCESSES": str(count),
            "JAX_PROCESS_ID": str(number),
        }
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.devices_worker", mode, str(folder), str(number)],
        cwd=ROOT,
        env=environment,
    )


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one device finds."""
    with mock.patch.object(backends, "_most", 1):
        return worker.run(tmp_path_factory.mktemp("alone"))


def assert_same(path, expected):
    with np.load(path) as found:
        assert set(found) == set(expected)
        for name, wanted in expected.items():
            # The true gradient of an attention's keys' bias is zero, and Adam makes steps of rounding.
            if not re.search("qkv.*bias", name):
                np.testing.assert_allclose(found[name], wanted, atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_eight_devices_find_what_one_finds(tmp_path, alone):
    assert start("devices", tmp_path, 8).wait(timeout=600) == 0
    assert_same(tmp_path / "8.npz", alone)
    # What they kept, one device goes on with: everything is done.
    assert_same(tmp_path / "8.npz", worker.run(tmp_path / "kept"))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["alike", "led"])
def test_two_processes_find_what_one_finds(tmp_path, alone, mode):
    port = free_port()
    both = [start(mode, tmp_path, i, port) for i in range(2)]
    assert [process.wait(timeout=600) for process in both] == [0, 0]
    for name in ("alike-0", "alike-1") if mode == "alike" else ("led",):
        assert_same(tmp_path / f"{name}.npz", alone)


@pytest.mark.parametrize("number", [0, 1])
def test_a_process_that_does_not_come_is_one_sentence(monkeypatch, number):
    port = free_port()
    for name, value in ((processes.ADDRESS, f"127.0.0.1:{port}"), (processes.COUNT, "3"), (processes.NUMBER, number)):
        monkeypatch.setenv(name, str(value))
    others = "1, 2" if number == 0 else "0"
    with pytest.raises(DataError, match=f"process {others} of 3 did not come to 127.0.0.1:{port} within 1 s"):
        processes.join(1)
    monkeypatch.setenv(processes.ADDRESS, "nowhere")
    with pytest.raises(DataError, match="JAX_COORDINATOR_ADDRESS is 'nowhere', expected host:port"):
        processes.join(1)
    monkeypatch.setenv(processes.COUNT, "many")
    with pytest.raises(DataError, match="JAX_NUM_PROCESSES is 'many', expected a whole number"):
        processes.join(1)


def problem_of(family, examples, num_users):
    return solver.Problem(
        family=heads.get(family),
        loss="cross_entropy",
        examples=examples,
        num_users=num_users,
        keys=solver.checked_keys(None, num_users),
        epochs=(2,),
        batch_examples=8,
    )


@pytest.mark.slow
@pytest.mark.parametrize("family", ["mlp", "linear"])
def test_users_are_fitted_by_the_device_that_they_are_dealt_to(family, monkeypatch):
    problem, calls = problem_of(family, worker.NEW, 5), []
    expected, curve = solver.solve(problem, [solver.Setting()])
    backends.use(3)
    solved = solver._computed

    def spied(fits, *args):
        for run, users in fits:
            calls.append((run, users))
            yield from solved([(run, users)], *args)

    monkeypatch.setattr(solver, "_computed", spied)
    found, dealt_curve = solver.solve(problem, [solver.Setting()])
    assert_close(found[2], expected[2], atol=1e-6)
    np.testing.assert_allclose(dealt_curve, curve, rtol=1e-5)
    for run, _ in calls:
        text = run.func.lower(*run.args, np.full(3, -1, np.int32)).compile().as_text()
        assert "num_partitions=3" in text and sharded_worker.collectives(text) == {}


def test_scores_are_of_the_same_heads_on_every_device():
    users = jax.tree.map(np.asarray, sharded_worker.start("heads").bank)
    family, rng = sharded_worker.FAMILIES["heads"], np.random.default_rng(0)
    x, extras = worker.TRAIN.features, worker.TRAIN.extras
    rows = rng.integers(0, sharded_worker.C, len(x)).astype(np.int32)

    def scored(users):
        return programs.score(family, {}, users, x, extras, rows, normaliser=scorer.unchanged(sharded_worker.DIMS))

    expected = scored(users)
    backends.use(3)
    placed = programs.on_devices(users)
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(placed)} == {3}
    for stack in (users, placed):
        np.testing.assert_allclose(scored(stack), expected, atol=1e-6)


@pytest.mark.slow
def test_rows_of_a_batch_are_divided():
    base, rng = make_base(), np.random.default_rng(0)
    encodings = [tokens.Encoding(tuple(rng.integers(0, 20, n).tolist()), (0,) * n) for n in rng.integers(1, 30, 23)]
    expected = encode.compute(base, encodings)
    backends.use(3)
    for packing in (0, 32):
        np.testing.assert_allclose(encode.compute(base, encodings, packing=packing), expected, atol=1e-5)


def test_a_checkpoint_of_several_processes_is_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    state = sharded_worker.start("both")
    with checkpoints.opened(tmp_path) as kept:
        assert kept.note() is None
        kept.save(3, state, {"done": 3})
    assert [path.name for path in tmp_path.iterdir()] == [checkpoints.ONE_FILE]
    with checkpoints.opened(tmp_path) as kept:
        assert kept.note() == {"done": 3}
        assert_equal(kept.load(state), state)
        with pytest.raises(DataError, match="state.safetensors: the checkpoint"):
            kept.load(sharded_worker.start("heads"))
    (tmp_path / checkpoints.ONE_FILE).write_bytes(b"damaged")
    with checkpoints.opened(tmp_path) as kept, pytest.raises(DataError, match="is damaged or of another run"):
        kept.note()


def test_more_devices_than_there_are_is_one_sentence():
    with pytest.raises(DataError, match="devices is 5, expected 1 to the 4 of this machine"):
        backends.use(5)


@pytest.mark.slow
def test_what_an_accelerator_does_changes_nothing_but_rounding(monkeypatch):
    base, rng = make_base(), np.random.default_rng(0)
    encodings = [tokens.Encoding(tuple(rng.integers(0, 20, n).tolist()), (0,) * n) for n in rng.integers(1, 30, 23)]
    examples = make_examples((10, 0, 16, 40, 9))

    def everything():
        made = head_fits.fit_heads("linear", examples.x, examples.user, examples.label, num_users=5)
        same = scorer.unchanged(heads.Dims(features=examples.features.shape[1], extras=0))
        none = examples.extras[:, :0]
        scores = programs.score(heads.get("linear"), {}, made, examples.features, none, examples.user, normaliser=same)
        return encode.compute(base, encodings), made, scores

    expected = everything()
    monkeypatch.setattr(backends, "on_cpu", lambda: False)
    assert_close(everything(), expected, atol=1e-4)
    assert backends.computed_by() == ("cpu", "default")


def test_choices_of_an_accelerator_grow_with_what_there_is(monkeypatch):
    sizes = [rows_in.pooled_batch(n) for n in (10, 10**9)]
    assert sizes == [256, 256]
    monkeypatch.setattr(backends, "on_cpu", lambda: False)
    assert [rows_in.pooled_batch(n) for n in (10, 2**16, 2**17, 10**9)] == [256, 256, 512, 4096]
    assert [rows_in.frozen_users(n, stored=False) for n in (10, 2**11, 2**13, 10**9)] == [8, 8, 32, 128]
    assert [rows_in.frozen_users(n, stored=True) for n in (10, 200, 10**9)] == [8, 25, 1024]
    assert [backends.rows_of_batch(n, 64, 4) for n in (1, 5, 33, 100)] == [4, 8, 64, 64]
    config = make_base().module.config
    assert backends.batch_tokens(config) == backends.MOST_TOKENS
