import errno
import multiprocessing
import os
import signal
import socket
import stat
import time

import numpy as np
import pytest
import safetensors.numpy

from hydrajax.nn import feature_cache
from hydrajax.types import DataError

D = 5


def rows(names, dim=D):
    return {
        feature_cache.key(name): np.random.default_rng(abs(hash(name)) % 2**32).normal(size=dim).astype(np.float32)
        for name in names
    }


def files(folder):
    return sorted((folder / feature_cache.FOLDER).glob("*.safetensors"))


def test_what_was_put_is_had_in_this_process_and_in_the_next(tmp_path):
    one, two = rows("abc"), rows("defg")
    with feature_cache.opened(tmp_path, D) as cache:
        assert cache.get(list(one)) == {}
        cache.put(one)
        np.testing.assert_equal(cache.get([*two, *one]), one)
        cache.flush()
        cache.put(two)
        np.testing.assert_equal(cache.get([*two, *one]), one | two)
    with feature_cache.opened(tmp_path, D) as cache:
        np.testing.assert_equal(cache.get([*two, *one, feature_cache.key("x")]), one | two)
        # Mapped, not read: nothing but what is asked for comes into memory.
        assert all(isinstance(part.values, np.memmap) for part, _ in cache._places.values())


def test_features_of_another_width_are_left_alone(tmp_path):
    with feature_cache.opened(tmp_path, D) as cache:
        cache.put(rows("ab"))
    with feature_cache.opened(tmp_path, D + 1) as cache:
        assert cache.get(list(rows("ab"))) == {}
        cache.put(rows("ab", D + 1))
    with feature_cache.opened(tmp_path, D) as cache:
        np.testing.assert_equal(cache.get(list(rows("ab"))), rows("ab"))


def test_many_files_become_one(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "PARTS", 3)
    wanted = rows(map(str, range(20)))
    names = list(wanted)
    for i in range(5):
        with feature_cache.opened(tmp_path, D) as cache:
            part = names[4 * i : 4 * i + 4]
            cache.put({name: wanted[name] for name in part})
        if i == 1:  # two processes have computed the same
            (tmp_path / "other").mkdir()
            with feature_cache.opened(tmp_path / "other", D) as cache:
                cache.put({name: wanted[name] for name in part})
            (twice,) = files(tmp_path / "other")
            twice.rename(files(tmp_path)[0].with_name(twice.name))
    with feature_cache.opened(tmp_path, D) as cache:
        np.testing.assert_equal(cache.get(names), wanted)
    assert len(files(tmp_path)) <= 3


def _write_and_die(folder, parts):
    feature_cache.SECONDS = 0.0
    with feature_cache.opened(folder, D) as cache:
        for part in parts:
            cache.put(part)
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_has_written_all_but_its_last_seconds(tmp_path):
    parts = [rows(f"{i}a{i}b") for i in range(3)]
    child = multiprocessing.get_context("spawn").Process(target=_write_and_die, args=(tmp_path, parts))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    with feature_cache.opened(tmp_path, D) as cache:
        found = cache.get([name for part in parts for name in part])
    assert set(found) == {name for part in parts for name in part}


def flipped(whole, place):
    return whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :]


def test_a_damaged_file_is_removed_with_one_sentence_and_the_others_stay(tmp_path, caplog):
    one, two = rows("abc"), rows("de")
    for part in (one, two):
        with feature_cache.opened(tmp_path, D) as cache:
            cache.put(part)
    paths = files(tmp_path)
    path = next(path for path in paths if path.stat().st_size == max(other.stat().st_size for other in paths))
    whole = path.read_bytes()
    # The bytes of the values, of the keys, of the checksums and of the rest of the header, cut off and changed.
    damaged = [flipped(whole, place) for place in range(0, len(whole), 5)]
    damaged += [whole[:length] for length in (0, 4, 100, len(whole) // 2, len(whole) - 1)]
    damaged += [b"not a safetensors file at all", b"\x02\0\0\0\0\0\0\0{}", b"\x02\0\0\0\0\0\0\0[]"]
    for content in damaged:
        path.write_bytes(content)
        caplog.clear()
        with feature_cache.opened(tmp_path, D) as cache:
            found = cache.get([*one, *two])
            if len(found) == 5:  # a byte that means nothing
                np.testing.assert_equal(found, one | two)
                continue
            np.testing.assert_equal(found, two)
            (said,) = caplog.messages
            assert str(path) in said and "was damaged" in said and "computed anew" in said and "\n" not in said
            assert not path.exists()
            cache.put(one)
            np.testing.assert_equal(cache.get([*one, *two]), one | two)
            cache.flush()
            np.testing.assert_equal(cache.get([*one, *two]), one | two)
        (new,) = set(files(tmp_path)) - set(paths)
        new.unlink()
    assert len(caplog.messages) == 1


def test_every_damage_to_keys_and_values_is_noticed(tmp_path):
    with feature_cache.opened(tmp_path, D) as cache:
        cache.put(rows("abc"))
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    for place in range(len(whole) - 3 * (32 + 4 * D), len(whole)):
        path.write_bytes(flipped(whole, place))
        with feature_cache.opened(tmp_path, D) as cache:
            assert cache.get(list(rows("abc"))) == {}
        assert not path.exists()


def test_values_are_read_through_once(tmp_path, monkeypatch):
    with feature_cache.opened(tmp_path, D) as cache:
        cache.put(rows("abc"))
    read = []
    checksum = feature_cache._checksum
    monkeypatch.setattr(feature_cache, "_checksum", lambda array: read.append(array.dtype) or checksum(array))
    for _ in range(3):
        with feature_cache.opened(tmp_path, D) as cache:
            for _ in range(2):
                np.testing.assert_equal(cache.get(list(rows("abc"))), rows("abc"))
    assert read.count(np.float32) == 1


def test_what_is_damaged_does_not_go_into_the_file_that_many_become(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "PARTS", 1)
    wanted = rows("ab")
    for name, row in wanted.items():
        with feature_cache.opened(tmp_path, D) as cache:
            cache.put({name: row})
    damaged = files(tmp_path)[0]
    damaged.write_bytes(flipped(damaged.read_bytes(), -1 % damaged.stat().st_size))
    with feature_cache.opened(tmp_path, D) as cache:
        ((name, row),) = cache.get(list(wanted)).items()
        np.testing.assert_equal(row, wanted[name])
    (path,) = files(tmp_path)
    path.write_bytes(flipped(path.read_bytes(), -1 % path.stat().st_size))
    monkeypatch.setattr(feature_cache, "PARTS", 0)
    with feature_cache.opened(tmp_path, D) as cache:
        assert cache.get(list(wanted)) == {}


def test_a_file_without_checksums_is_read(tmp_path):
    with feature_cache.opened(tmp_path, D) as cache:
        cache.put(rows("abc"))
    (path,) = files(tmp_path)
    safetensors.numpy.save_file(safetensors.numpy.load_file(path), path)
    with feature_cache.opened(tmp_path, D) as cache:
        np.testing.assert_equal(cache.get(list(rows("abc"))), rows("abc"))


@pytest.mark.parametrize("error", [OSError("full"), FileNotFoundError(2, "no such file"), ValueError("x")])
def test_an_error_of_the_callers_own_code_stays_as_it_is(tmp_path, error):
    with pytest.raises(type(error)) as caught, feature_cache.opened(tmp_path, D) as cache:
        cache.put(rows("abc"))
        raise error
    assert caught.value is error
    with feature_cache.opened(tmp_path, D) as cache:
        np.testing.assert_equal(cache.get(list(rows("abc"))), rows("abc"))


def test_a_fault_of_the_cache_itself_is_one_sentence(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(
            DataError, match=r"not usable as a cache of features, name another folder \(No space left on device\)"
        ),
        feature_cache.opened(tmp_path, D) as cache,
    ):
        cache.put(rows("abc"))


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_whom_a_part_may_be_read_by_is_the_users_own_choice(tmp_path, mask):
    before = os.umask(mask)
    try:
        with feature_cache.opened(tmp_path, D) as cache:
            cache.put(rows("abc"))
    finally:
        os.umask(before)
    (path,) = files(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_a_folder_with_the_name_of_a_part_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "PARTS", 1)
    odd = tmp_path / feature_cache.FOLDER / f"{D}-x.safetensors"
    odd.mkdir(parents=True)
    for names in ("ab", "cd", "ef"):
        with feature_cache.opened(tmp_path, D) as cache:
            cache.put(rows(names))
    with feature_cache.opened(tmp_path, D) as cache:
        np.testing.assert_equal(cache.get(list(rows("abcdef"))), rows("abcdef"))
    assert odd.is_dir()


def _die_while_writing(folder):
    os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
    with feature_cache.opened(folder, D) as cache:
        cache.put(rows("abc"))


def test_what_a_killed_process_left_is_removed_when_it_is_old(tmp_path):
    child = multiprocessing.get_context("spawn").Process(target=_die_while_writing, args=(tmp_path,))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    folder = tmp_path / feature_cache.FOLDER
    (left,) = folder.glob(".*")
    earlier = folder / ".tmpAb3x9Z"  # of safetensors itself
    own = left.with_name(left.name.replace(f".{child.pid}", f".{os.getpid()}"))
    elsewhere = left.with_name(left.name.replace(socket.gethostname(), "elsewhere"))
    for path in (own, elsewhere, earlier):
        path.write_bytes(b"half of it")
    for age, stay in ((0.0, {left, own, elsewhere, earlier}), (2 * feature_cache.OLD, {own})):
        for path in (left, own, elsewhere, earlier):
            os.utime(path, (time.time() - age, time.time() - age))
        with feature_cache.opened(tmp_path, D):
            pass
        assert set(folder.glob(".*")) == stay


def test_in_memory_computes_every_text_once_and_returns_what_it_would():
    asked = []

    def embed(texts):
        return np.array([[len(text), ord(text[0])] for text in texts], np.float32).reshape(len(texts), 2)

    remembered = feature_cache.in_memory(lambda texts: asked.append(list(texts)) or embed(texts))
    for texts in (["b", "aa", "b"], ["aa"], ["ccc", "b"]):
        np.testing.assert_array_equal(remembered(texts), embed(texts))
    assert asked == [["b", "aa"], ["ccc"]]
    assert remembered([]).shape == (0, 2)


def test_a_folder_that_is_only_read_stays_as_it_is(tmp_path):
    folder = tmp_path / "cache"
    one, two = rows("ab"), rows("cd")
    with feature_cache.opened(feature_cache.ReadOnly(folder), D) as cache:
        cache.put(one)
        np.testing.assert_equal(cache.get([*one, *two]), one)
    assert not folder.exists()
    with feature_cache.opened(folder, D) as cache:
        cache.put(one)
    (folder / feature_cache.FOLDER / f"{D}-damaged.safetensors").write_bytes(b"nothing of the kind")
    (path,) = (path for path in files(folder) if "damaged" not in path.name)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with feature_cache.opened(feature_cache.ReadOnly(folder), D) as cache:
        cache.put(two)
        np.testing.assert_equal(cache.get([*one, *two]), one | two)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
