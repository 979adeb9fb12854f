import multiprocessing
import os
import signal

import numpy as np
import pytest

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
        assert all(isinstance(part, np.memmap) for part in cache._parts)


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


@pytest.mark.parametrize("content", [b"", b"not a safetensors file at all", b"\x02\0\0\0\0\0\0\0{}", None])
def test_a_broken_file_is_one_sentence(tmp_path, content):
    with feature_cache.opened(tmp_path, D) as cache:
        cache.put(rows("abc"))
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    faulty = pytest.raises(DataError, match="not usable as a cache of features .*: delete it")
    with faulty, feature_cache.opened(tmp_path, D):
        pass
    assert path.exists()
