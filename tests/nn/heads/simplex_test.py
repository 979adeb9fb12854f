import jax
import jax.numpy as jnp
import numpy as np

from hydrajax.nn import heads

FAMILY = heads.get("simplex", bases=3)
DIMS = heads.Dims(features=4, extras=1)
X = jnp.asarray(np.random.default_rng(0).normal(size=5), jnp.float32)


def test_the_score_is_its_formula():
    shared = {**FAMILY.init_shared(jax.random.key(0), DIMS), "c": jnp.array([0.5, -1.0, 2.0])}
    w = np.array([1.0, -0.5, 0.2], np.float32)
    weights = np.exp(w) / np.exp(w).sum()
    out = weights @ (np.asarray(shared["v"]).T @ np.asarray(X) + np.asarray(shared["c"])) + 0.7
    np.testing.assert_allclose(FAMILY.score(shared, {"w": jnp.asarray(w), "b": jnp.float32(0.7)}, X), out, rtol=1e-5)


def test_a_user_stores_k_numbers_and_an_intercept_and_starts_with_the_mean_of_all_tastes():
    shared, user = FAMILY.init_shared(jax.random.key(0), DIMS), FAMILY.init_user(jax.random.key(1), DIMS)
    assert jax.tree.map(jnp.shape, user) == {"w": (3,), "b": ()}
    np.testing.assert_allclose(FAMILY.score(shared, user, X), (X @ shared["v"]).mean(), rtol=1e-5)
    assert len({float(v) for v in shared["v"][0]}) == 3


def test_one_basis_is_one_head_for_everybody():
    family = heads.get("simplex", bases=1)
    shared = family.init_shared(jax.random.key(0), DIMS)
    scores = {float(family.score(shared, {"w": jnp.array([w]), "b": jnp.float32(0.0)}, X)) for w in (-3.0, 0.0, 5.0)}
    assert scores == {float(X @ shared["v"][:, 0])}


def test_intercepts_cancel_in_pairs():
    shared = FAMILY.init_shared(jax.random.key(0), DIMS)
    gaps = []
    for c, b in ((shared["c"], 0.0), (jnp.array([4.0, -7.0, 1.0]), 3.0)):
        both, user = {**shared, "c": c}, {"w": jnp.array([0.3, -1.0, 2.0]), "b": jnp.float32(b)}
        gaps.append(FAMILY.score(both, user, X) - FAMILY.score(both, user, -X))
    np.testing.assert_allclose(*gaps, rtol=1e-5)


def test_what_tastes_share_is_held_a_tenth_as_tight_as_what_they_differ_by():
    rng = np.random.default_rng(1)
    v, c = rng.normal(size=(5, 3)), rng.normal(size=3)
    scaled = v * np.array([2.0, 2.0, 2.0, 2.0, 1.0])[:, None]  # features in units of 1/sqrt(4), the extra of 1
    mean = scaled.mean(axis=1)
    cost = ((scaled - mean[:, None]) ** 2).sum() + ((c - c.mean()) ** 2).sum() + 0.1 * (mean**2).sum()
    shared = {"v": jnp.asarray(v, jnp.float32), "c": jnp.asarray(c, jnp.float32)}
    np.testing.assert_allclose(FAMILY.prior(shared, DIMS), cost / 2, rtol=1e-5)


def test_the_learning_rate_is_the_step_of_a_weight_not_of_the_mixture():
    units = heads.units(FAMILY, DIMS)
    assert float(units.scale["w"][0]) / units.step == DIMS.features**0.5
    assert heads.units(FAMILY, DIMS, scaled=False).step == 1.0
