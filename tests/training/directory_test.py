import numpy as np
import pytest

from hydrajax.training import directory as directories
from hydrajax.training import shards
from hydrajax.types import DataError
from tests.training.conftest import assert_equal

C = 6
IDS = ("ann", "bob", "cyd", "dee")


def fresh(rows):
    """Parameters of two numbers a user, and a count as optimizer state."""
    return {"w": np.full((len(rows), 2), 0.5, np.float32)}, np.zeros(len(rows), np.int32)


def learned(rows, value):
    return {"w": np.full((len(rows), 2), value, np.float32)}, np.full(len(rows), 3, np.int32)


@pytest.fixture(params=["memory", "files"])
def store(request, tmp_path):
    made = shards.in_memory(C, fresh) if request.param == "memory" else shards.create(tmp_path / "bank", C, fresh)
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


def test_users_join_and_leave_a_store(store):
    directory = directories.Directory(C, IDS)
    store.write(directory.rows(IDS), learned(IDS, 1.0))
    directories.remove_from_store(store, directory, ["bob"])
    assert_equal(store.read(np.array([1])), fresh([1]))
    assert_equal(store.read(np.array([0, 2, 3])), learned([0, 2, 3], 1.0))
    directories.add_to_store(store, directory, ["eve", "fay", "gus", "hal"], chunk=4)
    assert store.capacity == directory.capacity == C + 4
    np.testing.assert_array_equal(directory.rows(["eve", "fay", "gus", "hal"]), [1, 4, 5, 6])
    assert_equal(store.read(np.arange(1, C + 4)[[0, 3, 4, 5]]), fresh(range(4)))
    for call, message in (
        (lambda: directories.add_to_store(store, directory, ["ida", "ann"]), "'ann' has a head already"),
        (lambda: directories.remove_from_store(store, directory, ["ann", "zoe"]), "no head for user 'zoe'"),
    ):
        with pytest.raises(DataError, match=message):
            call()
    assert_equal(store.read(np.array([0])), learned([0], 1.0))
    with pytest.raises(DataError, match="the bank has 10 rows and its directory 6"):
        directories.add_to_store(store, directories.Directory(C), ["x"])


def test_a_new_user_gets_nothing_of_one_whom_the_directory_has_forgotten(store):
    """A process that was killed wrote rows and did not save its directory again."""
    store.write(np.array([4]), learned([4], 9.0))
    directory = directories.Directory(C, IDS)
    directories.add_to_store(store, directory, ["eve"])
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
    for change in (directories.add_to_store, directories.remove_from_store):
        with pytest.raises(DataError, match="the disk is full"):
            change(store, directory, ["eve"] if change is directories.add_to_store else ["ann"])
        assert directory.to_note() == [*IDS, None, None]
    with pytest.raises(DataError, match="the disk is full"):
        directories.add_to_store(store, directory, list("abcd"), chunk=4)
    assert directory.ids == IDS and directory.capacity == store.capacity == C + 4
