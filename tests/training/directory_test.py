import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hydrajax.training import directory as directories
from hydrajax.training import optimizers, out_of_core, step
from hydrajax.training import state as states
from hydrajax.training.out_of_core import row_store
from hydrajax.types import DataError
from tests.training.conftest import assert_equal, make_batch
from tests.training.small_bank import FRESH, IDS, ONE, POOLED, TX, UPDATE, C, fresh_state, row, trained_state


@pytest.fixture
def trained():
    return trained_state()


def fresh(rows):
    """Parameters of two numbers a user, and a count as optimizer state."""
    return {"w": np.full((len(rows), 2), 0.5, np.float32)}, np.zeros(len(rows), np.int32)


def learned(rows, value):
    return {"w": np.full((len(rows), 2), value, np.float32)}, np.full(len(rows), 3, np.int32)


@pytest.fixture(params=["memory", "files"])
def store(request, tmp_path):
    made = (
        out_of_core.in_memory(C, fresh)
        if request.param == "memory"
        else out_of_core.create(tmp_path / "bank", C, fresh)
    )
    with made:
        yield made


def test_a_directory_finds_users_and_gives_rows_out_again():
    directory = directories.Directory(C, IDS)
    np.testing.assert_array_equal(directory.rows(["cyd", "ann"]), [2, 0])
    np.testing.assert_array_equal(directory.remove(["bob", "ann"]), [1, 0])
    assert "bob" not in directory and len(directory) == 2
    np.testing.assert_array_equal(directory.add(["eve", "fay", "gus"]), [0, 1, 4])
    assert directory.ids == ("eve", "fay", "cyd", "dee", "gus")
    directory.grow(C + 2)
    np.testing.assert_array_equal(directory.add(["hal", "ida", "jon"]), [5, 6, 7])
    again = directories.Directory.from_note(directory.to_note())
    assert (again.ids, again.capacity) == (directory.ids, C + 2)
    np.testing.assert_array_equal(again.rows(["ida"]), [6])
    with pytest.raises(DataError, match="cannot grow to 3"):
        directory.grow(3)
    with pytest.raises(DataError, match="names a user twice"):
        directories.Directory.from_note(["ann", "ann"])


def test_users_are_dealt_to_shards_in_turn():
    directory = directories.Directory(8, ["a", "b", "c"], shards=2)
    np.testing.assert_array_equal(directory.rows(["a", "b", "c"]), [0, 4, 1])
    directory.remove(["b"])
    directory.grow(12)
    again = directories.Directory.from_note(directory.to_note(), shards=4)
    np.testing.assert_array_equal(directory.add(["d", "e", "f"]), [6, 7, 2])
    np.testing.assert_array_equal(again.add(["d", "e", "f"]), [3, 6, 9])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.rows(["ann", "zoe"]), "no head for user 'zoe': the bank knows 4 users, add them first"),
        (lambda d: d.rows(list("abcde")), "'a', 'b', 'c' and 2 more"),
        (lambda d: d.rows(["ann", "bob", "ann"]), "user 'ann' comes twice"),
        (lambda d: d.add(["eve", "bob"]), "user 'bob' has a head already"),
        (lambda d: d.add(["eve", "eve"]), "user 'eve' comes twice"),
        (lambda d: d.add(["eve", "fay", "gus"]), "3 users to add and 2 free rows of 6: grow first"),
        (lambda d: d.remove(["ann", "zoe"]), "no head for user 'zoe'"),
    ],
)
def test_faulty_ids_are_one_sentence_and_change_nothing(call, message):
    directory = directories.Directory(C, IDS)
    with pytest.raises(DataError, match=message):
        call(directory)
    assert directory.to_note() == [*IDS, None, None]


def test_a_directory_is_found_again_in_its_file(tmp_path):
    directory, path = directories.Directory(C, IDS, shards=2), tmp_path / "users.json"
    directory.remove(["bob"])
    directory.save(path)
    again = directories.Directory.load(path, shards=2)
    assert again.to_note() == directory.to_note()
    np.testing.assert_array_equal(again.add(["eve"]), directory.add(["eve"]))
    path.write_text("{}")
    with pytest.raises(DataError, match="holds no directory, its format is None"):
        directories.Directory.load(path)
    with pytest.raises(DataError, match="nowhere.json: cannot be read"):
        directories.Directory.load(tmp_path / "nowhere.json")
    with pytest.raises(DataError, match="the directory cannot be written"):
        directory.save(tmp_path / "nowhere" / "users.json")


def test_new_users_start_at_the_pooled_head_without_a_new_compilation(trained):
    traces = 0

    def counted(state, batch):
        nonlocal traces
        traces += 1
        return step.make_train_step(ONE, TX, TX)(state, batch)

    update = jax.jit(counted)
    directory, state = directories.Directory(C, IDS), trained
    update(state, make_batch([0, 1]))
    state = directories.add_users(state, directory, ["eve"], FRESH, chunk=4)
    (new,) = directory.rows(["eve"])
    assert_equal(row(state, new), jax.tree.map(np.asarray, (POOLED, TX.init(POOLED))))
    update(state, make_batch([new, 1]))
    assert traces == 1 and state.capacity == C

    state = directories.add_users(state, directory, ["fay", "gus", "hal"], FRESH, chunk=4)
    assert state.capacity == directory.capacity == C + 4  # by whole chunks
    for number in range(4):
        assert_equal(row(state, number), row(trained, number))
    with pytest.raises(DataError, match="'ann' has a head already"):
        directories.add_users(state, directory, [*"abcdefg", "ann"], FRESH, chunk=4)
    assert directory.capacity == C + 4
    with pytest.raises(DataError, match="the bank has 6 rows and its directory 10"):
        directories.add_users(trained, directory, ["x"], FRESH)


def test_nothing_remains_of_a_removed_user(trained):
    directory = directories.Directory(C, IDS)
    state = directories.remove_users(trained, directory, ["bob", "dee"], FRESH)
    assert_equal(row(state, 1), row(fresh_state(), 1))
    assert_equal(row(state, 3), row(fresh_state(), 3))
    assert_equal([row(state, n) for n in (0, 2, 4, 5)], [row(trained, n) for n in (0, 2, 4, 5)])
    state = directories.add_users(state, directory, ["eve"], FRESH)
    batch = make_batch([1], seed=9)
    assert_equal(row(UPDATE(state, batch)[0], 1), row(UPDATE(fresh_state(), batch)[0], 1))


@pytest.mark.parametrize(
    ("fresh", "says"),
    [
        (states.initial(ONE, optimizers.adamw(0.05, 0.1, moments=jnp.bfloat16), head=POOLED), "1/1/mu/b1 is uint16"),
        (lambda rows: FRESH(rows[:1]), r"what rows start with: 0/b1 is float32\[1, 5\], expected float32"),
        (lambda rows: ({"w": np.zeros(len(rows))}, ()), "what rows start with: lack 0/b1"),
    ],
)
def test_a_bank_that_rows_do_not_fit_stays_as_it_is_with_its_directory(trained, fresh, says):
    directory = directories.Directory(C, IDS)
    for call in (
        lambda: states.reset(trained, [0, 4], fresh),
        lambda: states.grow(trained, C + 3, fresh),
        lambda: directories.add_users(trained, directory, ["eve", "fay"], fresh, chunk=4),
        lambda: directories.add_users(trained, directory, list("efghi"), fresh, chunk=4),
        lambda: directories.remove_users(trained, directory, ["bob", "ann"], fresh),
    ):
        with pytest.raises(DataError, match=says):
            call()
        assert directory.to_note() == [*IDS, None, None]
    np.testing.assert_array_equal(directory.add(["eve"]), [4])


def test_users_join_and_leave_a_store(store):
    directory = directories.Directory(C, IDS)
    store.write(directory.rows(IDS), learned(IDS, 1.0))
    row_store.remove_from_store(store, directory, ["bob"])
    assert_equal(store.read(np.array([1])), fresh([1]))
    assert_equal(store.read(np.array([0, 2, 3])), learned([0, 2, 3], 1.0))
    row_store.add_to_store(store, directory, ["eve", "fay", "gus", "hal"], chunk=4)
    assert store.capacity == directory.capacity == C + 4
    np.testing.assert_array_equal(directory.rows(["eve", "fay", "gus", "hal"]), [1, 4, 5, 6])
    assert_equal(store.read(np.arange(1, C + 4)[[0, 3, 4, 5]]), fresh(range(4)))
    for call, message in (
        (lambda: row_store.add_to_store(store, directory, ["ida", "ann"]), "'ann' has a head already"),
        (lambda: row_store.remove_from_store(store, directory, ["ann", "zoe"]), "no head for user 'zoe'"),
    ):
        with pytest.raises(DataError, match=message):
            call()
    assert_equal(store.read(np.array([0])), learned([0], 1.0))
    with pytest.raises(DataError, match="the bank has 10 rows and its directory 6"):
        row_store.add_to_store(store, directories.Directory(C), ["x"])


def test_a_new_user_gets_nothing_of_one_whom_the_directory_has_forgotten(store):
    """A process that was killed wrote rows and did not save its directory again."""
    store.write(np.array([4]), learned([4], 9.0))
    directory = directories.Directory(C, IDS)
    row_store.add_to_store(store, directory, ["eve"])
    assert_equal(store.read(directory.rows(["eve"])), fresh([4]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.rows("ab"), "ids are the one string 'ab', expected a list of strings"),
        (lambda d: d.add([7]), "the id of a user is 7, expected a string"),
        (lambda d: d.add(["eve", None]), "the id of a user is None"),
        (lambda d: d.remove("ann"), "ids are the one string 'ann'"),
        (lambda d: d.room(["eve"], 0), "chunk is 0, expected a whole number, 1 or more"),
        (lambda d: directories.Directory(-1), "the capacity is -1"),
        (lambda d: directories.Directory(4, shards=0), "shards is 0"),
        (lambda d: directories.Directory.from_note([{"user": "ann"}, 3]), "the id of a user is {'user': 'ann'}"),
    ],
)
def test_ids_are_strings_and_numbers_in_range(call, message):
    directory = directories.Directory(C, IDS)
    with pytest.raises(DataError, match=message):
        call(directory)
    assert directory.to_note() == [*IDS, None, None]


def test_a_file_whose_rows_are_no_users_is_one_sentence(tmp_path):
    path = tmp_path / "users.json"
    path.write_text('{"format": "hydrajax directory 1", "rows": [{"a": 1}]}')
    with pytest.raises(DataError, match="users.json: the id of a user is {'a': 1}, expected a string"):
        directories.Directory.load(path)


def test_nobody_has_joined_a_store_that_cannot_be_written(store, monkeypatch):
    directory = directories.Directory(C, IDS)

    def refuse(rows):
        raise DataError("the disk is full")

    monkeypatch.setattr(store, "reset", refuse)
    for change in (row_store.add_to_store, row_store.remove_from_store):
        with pytest.raises(DataError, match="the disk is full"):
            change(store, directory, ["eve"] if change is row_store.add_to_store else ["ann"])
        assert directory.to_note() == [*IDS, None, None]
    with pytest.raises(DataError, match="the disk is full"):
        row_store.add_to_store(store, directory, list("abcd"), chunk=4)
    assert directory.ids == IDS and directory.capacity == store.capacity == C + 4
