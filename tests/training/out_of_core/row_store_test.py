import errno
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hydrajax.nn import heads, scorer
from hydrajax.training import directory as directories
from hydrajax.training import optimizers, out_of_core
from hydrajax.training import state as states
from hydrajax.training.out_of_core import row_store
from hydrajax.types import DataError
from tests.training.conftest import D, X, assert_equal

C = 10
DIMS = heads.Dims(features=D, extras=X)
LINEAR = heads.get("linear")
ONE = scorer.Scorer(family=LINEAR, dims=DIMS)
TX = optimizers.adamw(0.05, 0.1)
HEAD = {"w": np.arange(D + X, dtype=np.float32), "b": np.float32(3)}
FRESH = states.initial(ONE, TX, head=HEAD)


def users(rows, seed=0):
    """Rows of random numbers, as training might leave them."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: (leaf + rng.integers(1, 9, leaf.shape)).astype(leaf.dtype), FRESH(rows))


def rows(*numbers):
    return np.array(numbers, np.int32)


@pytest.fixture(params=["memory", "files"])
def store(request, tmp_path):
    if request.param == "memory":
        made = out_of_core.in_memory(C, FRESH)
    else:
        made = out_of_core.create(tmp_path / "bank", C, FRESH, rows_per_file=4)
    with made:
        yield made


def test_rows_come_back_as_written_and_the_others_stay_fresh(store):
    store.write(rows(7, 2, 3), users(rows(7, 2, 3)))
    again = users(rows(2), seed=1)
    store.write(rows(2), again)
    first = users(rows(7, 2, 3))
    expected = FRESH(np.arange(C))
    for row, source, slot in ((7, first, 0), (3, first, 2), (2, again, 0)):
        jax.tree.map(lambda leaf, new, row=row, slot=slot: leaf.__setitem__(row, new[slot]), expected, source)
    assert_equal(store.read(np.arange(C)), expected)
    assert_equal(store.read(rows(3, 9, 7)), jax.tree.map(lambda leaf: leaf[rows(3, 9, 7)], expected))
    assert_equal(store.read(rows()), jax.tree.map(lambda leaf: leaf[:0], expected))
    assert store.torn().size == 0


def test_reset_rows_are_fresh_and_nothing_remains(store, tmp_path):
    marked = jax.tree.map(lambda leaf: np.full_like(leaf, 1234567), FRESH(rows(1, 5)))
    store.write(rows(1, 5), marked)
    store.reset(rows(5))
    assert_equal(store.read(rows(5)), FRESH(rows(5)))
    assert_equal(store.read(rows(1)), jax.tree.map(lambda leaf: leaf[:1], marked))
    trace = np.float32(1234567).tobytes()
    kept = [path.read_bytes().count(trace) for path in sorted((tmp_path / "bank").glob("rows-*"))]
    assert not kept or (kept[0] > 0 and sum(kept[1:]) == 0)


def test_a_store_grows_where_it_stands(store):
    store.write(rows(9), users(rows(9)))
    for capacity in (11, 12, 30):  # within a file, at its end, and new files
        store.grow(capacity)
        assert store.capacity == capacity
        assert_equal(store.read(rows(9)), users(rows(9)))
        assert_equal(store.read(rows(capacity - 1)), FRESH(rows(capacity - 1)))
        store.write(rows(capacity - 1), users(rows(1), seed=capacity))
    assert_equal(store.read(rows(10)), users(rows(1), seed=11))
    with pytest.raises(DataError, match="has 30 rows, it cannot grow to 3"):
        store.grow(3)


@pytest.mark.parametrize(
    ("bad", "message"),
    [(rows(0, C), "rows from 0 to 10, expected 0 to 9"), (rows(-1), "rows from -1"), (rows(2, 2), "row 2 comes twice")],
)
def test_faulty_rows_are_one_sentence(store, bad, message):
    for call in (store.read, store.reset, lambda bad: store.write(bad, users(bad))):
        with pytest.raises(DataError, match=message):
            call(bad)


def test_values_that_do_not_fit_are_refused(store):
    with pytest.raises(DataError, match=r"the users: 0/b is float32\[1\], expected float32\[2\]"):
        store.write(rows(1, 2), users(rows(1)))
    with pytest.raises(DataError, match="the head family stores nothing per user"):
        out_of_core.in_memory(C, lambda rows: ({}, {"count": np.zeros(len(rows))}))


def test_a_row_moves_between_a_store_and_a_file(store, tmp_path):
    store.write(rows(4), users(rows(4)))
    one = jax.tree.map(lambda leaf: leaf[0], store.read(rows(4)))
    directories.save_row(tmp_path / "ann", "ann", one, family=LINEAR, dims=DIMS)
    _, back = directories.load_row(tmp_path / "ann", one, family=LINEAR, dims=DIMS)
    store.write(rows(6), jax.tree.map(lambda leaf: leaf[None], back))
    assert_equal(store.read(rows(6)), users(rows(4)))


def test_rows_of_their_own_initialisation_and_of_bfloat16():
    tx = optax.scale_by_adam(mu_dtype=jnp.bfloat16)
    one = scorer.Scorer(family=heads.get("mlp"), dims=DIMS)
    key = jax.random.key(5)
    state = states.init_state(one, tx, tx, num_users=C, key=key)
    store = out_of_core.in_memory(C, states.initial(one, tx, key=key))
    assert_equal(store.read(np.arange(C)), (state.bank, state.bank_opt))
    half = store.read(rows(1, 8))
    half[1].mu["w1"][:] = 0.1
    store.write(rows(1, 8), half)
    assert_equal(store.read(rows(8, 1)), jax.tree.map(lambda leaf: leaf[::-1], half))
    assert half[1].mu["w1"].dtype == jnp.bfloat16


def test_a_bank_is_found_again_as_it_was(tmp_path):
    with out_of_core.create(tmp_path, C, FRESH, rows_per_file=4) as store:
        store.write(rows(7, 2), users(rows(7, 2)))
        store.grow(13)
        with pytest.raises(DataError, match="in use by another process"):
            out_of_core.reopen(tmp_path, FRESH)
    store.close()
    with out_of_core.reopen(tmp_path, FRESH) as store:
        assert store.capacity == 13
        assert_equal(store.read(rows(7, 2)), users(rows(7, 2)))
        assert_equal(store.read(rows(12)), FRESH(rows(12)))


def test_a_large_bank_takes_no_room_until_users_learn(tmp_path):
    capacity = 10**7
    with out_of_core.create(tmp_path, capacity, FRESH) as store:
        size = capacity * store.row_bytes
        assert sum(path.stat().st_size for path in tmp_path.glob("rows-*")) >= size > 10**9
        store.write(rows(capacity - 1), users(rows(0)))
        assert_equal(store.read(rows(capacity - 1)), users(rows(0)))
        assert sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir()) < 10**6


def test_what_is_not_this_bank_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match=r"bank.json: cannot be read \(No such file"):
        out_of_core.reopen(tmp_path / "nothing", FRESH)
    folder = tmp_path / "bank"
    out_of_core.create(folder, C, FRESH, rows_per_file=4).close()
    with pytest.raises(DataError, match="holds a bank already"):
        out_of_core.create(folder, C, FRESH)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be made \((Not a directory|File exists)"):
        out_of_core.create(tmp_path / "file" / "bank", C, FRESH)

    wide = scorer.Scorer(family=LINEAR, dims=heads.Dims(features=D + 1, extras=X))
    with pytest.raises(DataError, match=r"0/w is float32\[7\], expected float32\[8\]"):
        out_of_core.reopen(folder, states.initial(wide, TX, key=jax.random.key(0)))
    with pytest.raises(DataError, match="have 1/1/count: of another family or optimizer"):
        out_of_core.reopen(folder, states.initial(ONE, optax.sgd(0.1), head=HEAD))

    os.truncate(folder / "rows-00001.bin", 100)
    with pytest.raises(DataError, match="rows-00001.bin: has 100 bytes, expected"):
        out_of_core.reopen(folder, FRESH)
    (folder / "rows-00001.bin").unlink()
    with pytest.raises(DataError, match=r"rows-00001.bin: cannot be opened \(No such file"):
        out_of_core.reopen(folder, FRESH)
    note = json.loads((folder / "bank.json").read_text())
    (folder / "bank.json").write_text(json.dumps(note | {"format": 9}))
    with pytest.raises(DataError, match="format is 9, expected 1"):
        out_of_core.reopen(folder, FRESH)


def test_a_closed_store_refuses_every_use_and_harms_no_file(tmp_path):
    closed = out_of_core.create(tmp_path, C, FRESH, rows_per_file=4)
    closed.write(rows(1, 9), users(rows(1, 9)))
    closed.close()
    closed.close()
    with out_of_core.reopen(tmp_path, FRESH) as other:  # who has the lock now
        for use in (
            lambda: closed.grow(30),
            lambda: closed.read([1]),
            lambda: closed.write(rows(1), users(rows(1))),
            lambda: closed.reset([1]),
            closed.torn,
            closed.flush,
            lambda: row_store.add_to_store(closed, directories.Directory(C), ["ann"]),
        ):
            with pytest.raises(DataError, match="the bank is closed"):
                use()
        assert_equal(other.read(rows(1, 9)), users(rows(1, 9)))
    with out_of_core.in_memory(C, FRESH) as store:
        pass
    with pytest.raises(DataError, match="the bank in memory: the bank is closed"):
        store.read([0])


def test_rows_without_a_note_are_never_overwritten(tmp_path):
    with out_of_core.create(tmp_path, C, FRESH, rows_per_file=4) as store:
        older = (tmp_path / "bank.json").read_text()
        store.grow(20)
        store.write(rows(3, 11, 17), users(rows(3, 11, 17)))
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("rows-*")}
    (tmp_path / "bank.json").unlink()
    with pytest.raises(DataError, match="holds files of rows and no bank.json: restore it or name another folder"):
        out_of_core.create(tmp_path, C, FRESH, rows_per_file=4)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("rows-*")} == kept
    # An older note, which knows of fewer rows: those behind come back as they were.
    (tmp_path / "bank.json").write_text(older)
    with out_of_core.reopen(tmp_path, FRESH) as store:
        assert store.capacity == C
        before = store.read(rows(3, 1))
        store.grow(24)
        assert_equal(store.read(rows(3, 11, 17)), users(rows(3, 11, 17)))
        assert_equal(store.read(rows(12, 23)), FRESH(rows(12, 23)))
    (tmp_path / "bank.json").write_text(older)
    os.truncate(tmp_path / "rows-00004.bin", 100)
    with out_of_core.reopen(tmp_path, FRESH) as store:
        with pytest.raises(DataError, match="rows-00004.bin: has 100 bytes, expected"):
            store.grow(24)
        assert_equal(store.read(rows(3, 1)), before)
        assert store.capacity == C


def test_a_bank_in_use_is_not_made_anew(tmp_path):
    with out_of_core.create(tmp_path, C, FRESH):
        (tmp_path / "bank.json").unlink()
        with pytest.raises(DataError, match="in use by another process"):
            out_of_core.create(tmp_path, C, FRESH)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"capacity": None}, "bank.json: does not describe a bank .capacity is None"),
        ({"capacity": -2}, "capacity is -2, expected a whole number, 0 or more"),
        ({"rows_per_file": 0}, "rows_per_file is 0, expected a whole number, 1 or more"),
        ({"leaves": [["0/b"]]}, "does not describe a bank"),
        ({"leaves": 3}, "does not describe a bank"),
        ({"leaves": [["0/b", [], "float33"]]}, "does not describe a bank"),
    ],
)
def test_a_faulty_note_is_one_sentence(tmp_path, change, says):
    out_of_core.create(tmp_path, C, FRESH).close()
    note = json.loads((tmp_path / "bank.json").read_text())
    (tmp_path / "bank.json").write_text(json.dumps(note | change))
    with pytest.raises(DataError, match=says):
        out_of_core.reopen(tmp_path, FRESH)
    del note["leaves"]
    (tmp_path / "bank.json").write_text(json.dumps(note))
    with pytest.raises(DataError, match="bank.json: has no leaves: restore a copy"):
        out_of_core.reopen(tmp_path, FRESH)


def test_numbers_out_of_range_make_no_bank(tmp_path):
    for make, says in (
        (
            lambda: out_of_core.create(tmp_path / "a", -2, FRESH),
            "the capacity is -2, expected a whole number, 0 or more",
        ),
        (lambda: out_of_core.create(tmp_path / "a", C, FRESH, rows_per_file=0), "rows_per_file is 0, expected"),
        (lambda: out_of_core.in_memory(-1, FRESH), "the capacity is -1"),
    ):
        with pytest.raises(DataError, match=says):
            make()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (3, r"rows have shape \[\], expected a list of row numbers"),
        ([[1, 2]], r"rows have shape \[1, 2\]"),
        ([1.5], "rows are float64, expected whole numbers"),
        ([True], "rows are true or false, expected"),
        (["a"], "rows are strings, expected"),
        ([[1], [2, 3]], "rows: cannot be made an array"),
        ([2**32 + 3], "rows from 4294967299"),
    ],
)
def test_rows_may_be_lists_of_whole_numbers(store, bad, says):
    store.write([5, 1], users(rows(5, 1)))
    assert_equal(store.read([1, 5]), jax.tree.map(lambda leaf: leaf[::-1], users(rows(5, 1))))
    for use in (store.read, store.reset, lambda bad: store.write(bad, users(rows(1)))):
        with pytest.raises(DataError, match=says):
            use(bad)


def test_a_full_disk_is_one_sentence_and_leaves_the_row_as_it_was(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with out_of_core.create(tmp_path, C, FRESH, rows_per_file=4) as store:
        with monkeypatch.context() as patched:
            patched.setattr(os, "posix_fallocate", full)
            with pytest.raises(DataError, match=r"rows-00001.bin: row 5 cannot be written \(No space left on device"):
                store.write(rows(5), users(rows(5)))
        assert_equal(store.read(rows(5)), FRESH(rows(5)))
        # Where the system cannot reserve room, a row may be cut; it is found out.
        with monkeypatch.context() as patched:
            patched.delattr(os, "posix_fallocate")
            real, sizes = os.pwrite, [40]
            patched.setattr(os, "pwrite", lambda f, d, at: real(f, d[: sizes.pop()], at) if sizes else full())
            with pytest.raises(DataError, match="row 6 cannot be written"):
                store.write(rows(6), users(rows(6)))
        np.testing.assert_array_equal(store.torn(), [6])
        with pytest.raises(DataError, match="row 6 is torn, its writer was killed: reset the row or restore a copy"):
            store.read(rows(1, 6))
        store.reset(rows(6))
        assert_equal(store.read(rows(6)), FRESH(rows(6)))


KILLED = """
import os, sys
import numpy as np
from hydrajax.training import out_of_core

store = out_of_core.create(sys.argv[1], 9, lambda rows: ({"w": np.zeros((len(rows), 50), np.float32)}, ()))
for number in range(9):
    store.write(np.array([number]), ({"w": np.full((1, 50), number + 1, np.float32)}, ()))
os._exit(9)  # neither flush nor close
"""


def test_a_killed_process_loses_nothing_that_it_wrote(tmp_path):
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)]).returncode == 9
    with out_of_core.reopen(tmp_path, lambda rows: ({"w": np.zeros((len(rows), 50), np.float32)}, ())) as store:
        np.testing.assert_array_equal(store.read(np.arange(9))[0]["w"][:, 7], np.arange(1, 10))
