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
