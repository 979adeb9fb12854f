import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hydrajax.training import rows
from tests.training.conftest import assert_equal, edited


def test_scatter_drops_rows_beyond_the_capacity_and_takes_back_what_gather_read():
    wide = rows.LARGE_BYTES // 4
    bank = {"a": jnp.arange(6.0 * wide).reshape(6, wide), "n": jnp.arange(6)}
    at = jnp.array([5, 6, 0, 99])
    new = {"a": jnp.full((4, wide), -1.0), "n": jnp.arange(4) + 100}
    got = jax.jit(rows.scatter)(bank, at, new)
    np.testing.assert_array_equal(got["n"], [102, 1, 2, 3, 4, 100])
    np.testing.assert_array_equal(got["a"], edited(bank["a"], [0, 5], -1.0))
    read = jax.jit(rows.gather)(bank, at)
    np.testing.assert_array_equal(read["n"], [5, 0, 0, 0])
    assert_equal(jax.jit(rows.scatter)(bank, at, read), bank)


@pytest.mark.parametrize(("row", "users"), [(100, 2**15), (2**20, 4), (2**21, 2), (2**30, 2)])
def test_groups_hold_what_fits_into_the_cache(row, users):
    stored = {"w": jax.ShapeDtypeStruct((10, row // 4), jnp.float32)}
    assert rows.group_size(stored) == users


@pytest.mark.parametrize(("users", "size"), [(7, 3), (6, 2), (5, 8), (1, 4), (3, 1)])
def test_groups_go_through_everybody_in_order_and_fill_up_with_nobody(users, size):
    def function(total, part):
        row, value, mask = part
        assert 2 <= len(row) <= max(2, size)
        real = row >= 0
        return total + jnp.sum(jnp.where(mask, value, 0.0)), (row * 10, mask == real)

    parts = np.arange(users, dtype=np.int32), np.arange(users) + np.float32(0.5), np.ones(users, bool)
    total, (tens, real_where_masked) = rows.in_groups(function, jnp.zeros(()), parts, size)
    np.testing.assert_array_equal(tens, np.arange(users) * 10)
    assert real_where_masked.all() and total == parts[1].sum()


def test_slots_without_a_user_read_as_zeros_or_as_what_stands_in():
    bank = {"a": jnp.arange(1.0, 7.0).reshape(3, 2), "n": jnp.arange(1, 4)}
    instead = {"a": jnp.array([-1.0, -2.0]), "n": jnp.array(9)}
    at = np.array([2, 3, -1], np.int32)
    np.testing.assert_array_equal(rows.gather(bank, at)["a"], [[5, 6], [0, 0], [0, 0]])
    read = rows.gather(bank, at, instead=instead)
    np.testing.assert_array_equal(read["a"], [[5, 6], [-1, -2], [-1, -2]])
    np.testing.assert_array_equal(read["n"], [3, 9, 9])


def test_a_cpu_takes_users_in_turn_and_large_heads_too(monkeypatch):
    assert rows.users_in_parallel() is None
    assert [rows.settings_over(size) for size in (2**15, 2**15 + 1)] == ["vmap", "map"]
    assert 1 <= rows.calls_in_parallel() <= 8
    assert [rows.users_in_call(10**6, size, 64) for size in (1, 2**18, 2**30)] == [64, 20, 1]
    assert rows.users_in_call(40, 1, 64) == rows.SMALL_CALL
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert rows.users_in_parallel(16) == 16 and rows.settings_over(2**30) == "vmap"
    assert rows.calls_in_parallel() == 1 and rows.users_in_call(40, 2**18, 64) == 64
    assert rows.group_size({"w": jax.ShapeDtypeStruct((10, 2**28), jnp.float32)}) == 2**20


def test_a_cpu_takes_few_long_texts_through_a_base_at_once_and_many_short_ones():
    assert rows.texts_at_once(rows.BASE_TOKENS // 4) == 4
    assert rows.texts_at_once(10 * rows.BASE_TOKENS) == 1
