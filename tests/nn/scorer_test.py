import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hydrajax.nn import heads, scorer, tokens
from hydrajax.types import DataError


def data(n=50):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(n, 4)) * [1, 10, 0.1, 1] + [0, 5, 3, 0]).astype(np.float32)
    return x, np.stack([np.zeros(n), np.arange(n) == 0], axis=1).astype(np.float32)


def test_features_are_centred_and_divided_by_one_number_and_extras_appended():
    x, extras = data()
    got = scorer.inputs(scorer.fit_normaliser(x, extras), jnp.asarray(x), jnp.asarray(extras))
    assert got.shape == (50, 6)
    np.testing.assert_allclose(got[:, :4].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.mean(got[:, :4].std(axis=0) ** 2), 1, rtol=1e-5)


def test_what_a_caller_scaled_stays_scaled():
    x, extras = data()
    times = np.array([0.1, 1, 1, 1], np.float32)
    plain, scaled = (scorer.fit_normaliser(part, extras) for part in (x, x * times))
    a = scorer.inputs(plain, jnp.asarray(x), jnp.asarray(extras))
    b = scorer.inputs(scaled, jnp.asarray(x * times), jnp.asarray(extras))
    np.testing.assert_allclose(b[:, 0] / b[:, 1], 0.1 * a[:, 0] / a[:, 1], rtol=1e-3)
    c = scorer.inputs(scorer.fit_normaliser(x, 3 * extras), jnp.asarray(x), jnp.asarray(3 * extras))
    np.testing.assert_allclose(c[:, 4:], 3 * a[:, 4:], rtol=1e-5)


def test_a_constant_extra_keeps_its_value_and_one_that_varies_is_centred():
    x, extras = data()
    extras = np.column_stack([np.full(50, 2.0), extras]).astype(np.float32)
    got = scorer.inputs(scorer.fit_normaliser(x, extras), jnp.asarray(x), jnp.asarray(extras))
    np.testing.assert_array_equal(got[:, 4], 2.0)
    np.testing.assert_allclose(got[:, 6], extras[:, 2] - 1 / 50, rtol=1e-5)


def test_batches_of_any_rank_are_normalised_alike():
    x, extras = data(6)
    normaliser = scorer.fit_normaliser(x, extras)
    flat = scorer.inputs(normaliser, jnp.asarray(x), jnp.asarray(extras))
    folded = scorer.inputs(normaliser, jnp.asarray(x).reshape(2, 3, 4), jnp.asarray(extras).reshape(2, 3, 2))
    np.testing.assert_array_equal(folded.reshape(6, 6), flat)


def test_no_examples_leave_inputs_as_they_are():
    normaliser = scorer.fit_normaliser(np.zeros((0, 2), np.float32), np.zeros((0, 0), np.float32))
    x = jnp.array([[1.0, -2.0]])
    np.testing.assert_array_equal(scorer.inputs(normaliser, x, jnp.zeros((1, 0))), x)


def test_examples_do_not_share_their_dropout():
    family = heads.get("mlp", dropout=0.5)
    user = family.init_user(jax.random.key(0), heads.Dims(features=8))
    x = jnp.ones((3, 8))
    plain = scorer.logits(family, {}, user, x)
    assert plain[0] == plain[1] == plain[2]
    dropped = scorer.logits(family, {}, user, x, key=jax.random.key(1))
    assert len(set(dropped.tolist())) == 3


def test_tokens_without_a_base_are_refused():
    one = scorer.Scorer(family=heads.get("mlp"), dims=heads.Dims(features=4))
    batch = tokens.pack([tokens.Encoding((1,), (0,))], 16)
    with pytest.raises(DataError, match="no base module"):
        scorer.base_features(one, {}, batch)
