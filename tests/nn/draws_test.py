"""Draws by a mixer of integers: they must look as those of a generator do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from hydrajax.nn import draws

N, KEYS = 512, 400


def keep(rate, keys=KEYS, n=N):
    """bool [keys, n]."""
    made = jax.vmap(lambda key: draws.kept(key, n, jnp.float32(rate)))
    return np.asarray(made(jax.random.split(jax.random.key(0), keys)))


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.9])
def test_units_are_kept_as_often_as_they_should_be(rate):
    """Over all draws, for each unit over keys and for each key over units: binomial, to a chance of 1e-6."""
    found = keep(rate)
    for counts, trials in ((found.sum(), found.size), (found.sum(0), KEYS), (found.sum(1), N)):
        low, high = stats.binom.interval(1 - 1e-6 / np.size(counts), trials, 1 - rate)
        assert low <= np.min(counts) and np.max(counts) <= high


@pytest.mark.parametrize("axis", ["units", "keys"])
def test_draws_are_independent(axis):
    """Correlations of all pairs of units over keys, and of keys over units, have the spread of independent draws."""
    found = keep(0.5)[:, :KEYS] * 2.0 - 1.0
    pairs = np.corrcoef(found if axis == "keys" else found.T)[np.triu_indices(KEYS, 1)]
    z = pairs * np.sqrt(KEYS)
    assert abs(z.mean()) < 5 / np.sqrt(len(z))
    assert abs(z.var() - 1.0) < 0.05
    assert np.abs(z).max() < 6.5


def test_keys_that_follow_each_other_draw_differently():
    """Those of a fold-in by step number, as training makes them."""
    keys = jax.vmap(lambda n: jax.random.fold_in(jax.random.key(1), n))(jnp.arange(KEYS))
    found = np.asarray(jax.vmap(lambda key: draws.kept(key, N, 0.5))(keys)) * 2.0 - 1.0
    z = (found[1:] * found[:-1]).sum(1) / np.sqrt(N)
    assert abs(z.mean()) < 5 / np.sqrt(len(z)) and 0.75 < z.var() < 1.3


def test_a_flipped_bit_changes_half_of_the_output():
    words = jax.random.bits(jax.random.key(2), (4096,), jnp.uint32)
    for bit in range(32):
        changed = np.asarray(draws.mixed(words) ^ draws.mixed(words ^ jnp.uint32(1 << bit)))
        share = np.unpackbits(changed.view(np.uint8)).mean()
        assert abs(share - 0.5) < 0.02


def test_a_traced_rate_draws_as_a_number_does_and_nothing_is_dropped_without_a_key():
    key = jax.random.key(3)
    np.testing.assert_array_equal(
        draws.kept(key, N, 0.3), jax.jit(lambda rate: draws.kept(key, N, rate))(jnp.float32(0.3))
    )
    assert draws.kept(None, N, 0.3) is None and draws.kept(key, N, 0.0) is None


def test_what_is_kept_is_scaled_so_that_the_mean_stays():
    x = jnp.arange(1.0, N + 1)
    mean = np.mean([draws.drop(x, jnp.asarray(row), 0.25) for row in keep(0.25)], axis=0)
    np.testing.assert_allclose(mean / x, 1.0, atol=5 * np.sqrt(0.25 / 0.75 / KEYS))
