import functools
import json
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from hydrajax.training import checkpoints, checks, sharded, step
from hydrajax.types import DataError
from tests.training import sharded_worker as worker
from tests.training.conftest import assert_close, assert_equal, edited, make_batch

C = worker.C
ROOT = pathlib.Path(__file__).parents[2]


@functools.cache
def mesh_of(users, data=1):
    return sharded.make_mesh(users, data, devices=jax.devices()[: users * data])


@functools.cache
def plain(name):
    """The same run with the step of one device: (state, metrics)."""
    update = jax.jit(step.make_train_step(worker.scorer_of(name), worker.TX, worker.TX))
    state, metrics = worker.start(name), []
    for batch in worker.random_batches():
        state, one = update(state, batch)
        metrics.append(one)
    return state, metrics


def learned(state):
    return {"bank": state.bank, "shared": state.shared}


def python(*args):
    return subprocess.Popen([sys.executable, "-m", "tests.training.sharded_worker", *args], cwd=ROOT)


@pytest.mark.slow
@pytest.mark.parametrize("name", worker.FAMILIES)
@pytest.mark.parametrize(("users", "data"), [(1, 1), (2, 1), (2, 2)])
def test_devices_change_nothing_but_rounding(name, users, data):
    state, metrics, _ = worker.run(name, mesh_of(users, data))
    expected, expected_metrics = plain(name)
    assert_close(learned(state), learned(expected), atol=1e-5)
    assert_close(state.bank_opt, expected.bank_opt, atol=1e-5)
    assert int(state.step) == 6
    for got, wanted in zip(metrics, expected_metrics, strict=True):
        for key in ("loss", "weight"):
            assert got[key].shape == (users * data,)
            np.testing.assert_allclose(np.sum(got[key]), wanted[key], rtol=1e-4)
    # Each device holds its rows of the bank and no others.
    for leaf in jax.tree.leaves((state.bank, state.bank_opt)):
        assert {shard.data.shape[0] for shard in leaf.addressable_shards} == {C // (users * data)}


def test_absent_users_stay_bit_identical():
    mesh = mesh_of(2, 2)
    state = sharded.place(worker.start("both"), mesh)
    update = jax.jit(sharded.make_sharded_step(worker.scorer_of("both"), worker.TX, worker.TX, mesh))
    batch = sharded.route(make_batch([3, 13, 2], slots=5, capacity=C), C, mesh.size)
    after, _ = update(state, sharded.put_batch(batch, mesh))
    absent = np.setdiff1d(np.arange(C), [2, 3, 13])
    for old, new in zip(
        jax.tree.leaves((state.bank, state.bank_opt)), jax.tree.leaves((after.bank, after.bank_opt)), strict=True
    ):
        np.testing.assert_array_equal(np.asarray(new)[absent], np.asarray(old)[absent])
        assert not np.array_equal(np.asarray(new)[[2, 3, 13]], np.asarray(old)[[2, 3, 13]])


def test_the_step_is_traced_once_a_shape():
    mesh, traces = mesh_of(2), []
    pure = sharded.make_sharded_step(worker.scorer_of("both"), worker.TX, worker.TX, mesh)

    def counted(state, batch):
        traces.append(batch.x.shape[1])
        return pure(state, batch)

    update, state = jax.jit(counted, donate_argnums=0), sharded.place(worker.start("both"), mesh)
    for seed, size in enumerate([6, 6, 9, 6, 9, 6]):
        batch = make_batch([seed, 9, 12], size=size, seed=seed, capacity=C)
        state, _ = update(state, sharded.put_batch(sharded.route(batch, C, 2, slots=4), mesh))
    assert traces == [6, 9]


@pytest.mark.slow
def test_eight_devices_without_a_collective_for_heads_and_their_checkpoint_on_two(tmp_path):
    assert python("eight", str(tmp_path)).wait(timeout=300) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found == {"heads": {}, "both": {"all-reduce": 1}}
    mesh = mesh_of(2)
    for name in worker.FAMILIES:
        expected, _ = plain(name)
        saved = np.load(tmp_path / f"{name}.npz")
        for leaf, wanted in checks.leaves(learned(expected)).items():
            np.testing.assert_allclose(saved[leaf], np.atleast_1d(wanted), atol=1e-5)
        with checkpoints.opened(tmp_path / f"checkpoint-{name}") as kept:
            state = kept.load(sharded.place(worker.start(name), mesh))
        assert {leaf.sharding.mesh.size for leaf in jax.tree.leaves(state.bank)} == {2}
        for leaf, got in checks.leaves(learned(state)).items():
            np.testing.assert_array_equal(np.atleast_1d(got), saved[leaf])
        # And it goes on learning there.
        update = sharded.make_sharded_step(worker.scorer_of(name), worker.TX, worker.TX, mesh)
        batch = worker.batch_of_users(make_batch([1, 12], seed=9, capacity=C))
        after, _ = jax.jit(update)(state, sharded.put_batch(sharded.route(batch, C, 2, slots=4), mesh))
        one = jax.jit(step.make_train_step(worker.scorer_of(name), worker.TX, worker.TX))(expected, batch)[0]
        assert_close(learned(after), learned(one), atol=1e-5)


@pytest.mark.slow
def test_two_processes_learn_the_same(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    both = [python("process", str(tmp_path), str(i), port) for i in range(2)]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    for name in worker.FAMILIES:
        parts = [np.load(tmp_path / f"{name}-{i}.npz") for i in range(2)]
        for leaf, wanted in checks.leaves(learned(plain(name)[0])).items():
            if leaf.startswith("bank"):
                got = np.concatenate([part[leaf] for part in parts])
            else:
                np.testing.assert_array_equal(*(part[leaf] for part in parts))
                got = parts[0][leaf]
            np.testing.assert_allclose(got, np.atleast_1d(wanted), atol=1e-5)


def test_users_are_routed_to_the_shards_of_their_rows():
    batch = make_batch([9, 2, 15, 8], slots=6, capacity=C)
    routed = sharded.route(batch, C, 4, slots=3)  # blocks of four rows
    np.testing.assert_array_equal(routed.rows, [2, 4, 4, 4, 4, 4, 1, 0, 4, 3, 4, 4])
    np.testing.assert_array_equal(routed.ids, [2, C, C, C, C, C, 9, 8, C, 15, C, C])
    for slot, source in ((0, 1), (6, 0), (7, 3), (9, 2)):
        assert_equal(
            *(
                jax.tree.map(lambda leaf, i=i: leaf[i], b.replace(rows=b.x, ids=None, routed=None))
                for b, i in ((routed, slot), (batch, source))
            )
        )
    assert not routed.targets.mask[[1, 2, 3, 4, 5, 8, 10, 11]].any()
    assert sharded.route(batch, C, 4).rows.shape == (4 * 2,)
    assert sharded.route(make_batch([], capacity=C), C, 4).rows.tolist() == [4] * 4


def test_what_cannot_be_routed_or_placed_is_one_sentence():
    batch = make_batch([9, 2, 10, 8], capacity=C)
    with pytest.raises(
        DataError, match="shard 2 has 3 users of the batch and 2 slots: give more slots, or fewer users"
    ):
        sharded.route(batch, C, 4, slots=2)
    with pytest.raises(DataError, match="row 9 comes twice"):
        sharded.route(batch.replace(rows=edited(batch.rows, 1, 9)), C, 4)
    with pytest.raises(DataError, match="a bank of 16 rows cannot be dealt to 3 shards"):
        sharded.route(batch, C, 3)
    with pytest.raises(DataError, match="a bank of 16 rows cannot be dealt to 3 shards"):
        sharded.place(worker.start("heads"), mesh_of(3))
    with pytest.raises(DataError, match=r"not routed: sharded.route\(batch, capacity, 2\) comes first"):
        sharded.put_batch(batch, mesh_of(2))
    routed = sharded.route(batch, C, 4)
    with pytest.raises(DataError, match="routed for 4 shards, the mesh has 2 devices"):
        sharded.put_batch(routed, mesh_of(2))
    with pytest.raises(DataError, match="the batch is routed already"):
        sharded.route(routed, C, 4)
    with pytest.raises(DataError, match="shards is 0, expected"):
        sharded.route(batch, C, 0)
    with pytest.raises(DataError, match="the capacity is 0, expected"):
        sharded.route(batch, 0, 4)
    with pytest.raises(DataError, match="data is 0, expected"):
        sharded.make_mesh(data=0)
    with pytest.raises(DataError, match="a mesh of 3 x 2 devices, there are 4"):
        sharded.make_mesh(3, 2)


def test_a_step_refuses_a_batch_that_is_not_routed_for_its_bank():
    mesh, name = mesh_of(2), "heads"
    state = sharded.place(worker.start(name), mesh)
    step_ = jax.jit(sharded.make_sharded_step(worker.scorer_of(name), worker.TX, worker.TX, mesh))
    batch = make_batch([9, 2, 10, 8], capacity=C)
    with pytest.raises(DataError, match="the batch is not routed, the bank has 16 rows on 2"):
        step_(state, batch)
    with pytest.raises(DataError, match="the batch is routed for 32 rows on 2 shards, the bank has 16 rows on 2"):
        step_(state, sharded.put_batch(sharded.route(batch, 2 * C, 2), mesh))
    alone = jax.jit(step.make_train_step(worker.scorer_of(name), worker.TX, worker.TX))
    with pytest.raises(DataError, match="the batch is routed for shards, expected one of the whole bank"):
        alone(worker.start(name), sharded.route(batch, C, 2))
