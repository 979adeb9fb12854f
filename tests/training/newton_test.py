import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hydrajax.nn import heads
from hydrajax.training import fit_heads, losses, newton
from hydrajax.types import DataError

N, D = 24, 5


def problem():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, D)).astype(np.float32)
    score = (x @ rng.normal(size=D)).astype(np.float32)
    return jnp.asarray(x), losses.Targets(
        label=jnp.asarray(score > 0, jnp.float32),
        score=jnp.asarray(score),
        pool=jnp.asarray(np.arange(N) // 4, jnp.int32),
        mask=jnp.ones(N, bool),
    )


@functools.cache
def program(loss, size):
    x, targets = problem()
    family = heads.get("linear")

    def run(anchor, strength, scale):
        def block(index):
            rows = index * size + jnp.arange(size)[None]
            design = jax.vmap(jax.vmap(lambda row: family.design({}, row)))(scale * x[rows])
            return design, jax.tree.map(lambda leaf: leaf[rows], targets)

        prior = prior_of(anchor, strength)
        return newton.minimise(losses.get(loss), block, jnp.int32(N // size), anchor, prior)[:2]

    return jax.jit(run)


def prior_of(like, strength):
    """The same for every parameter."""
    units = heads.Units(scale=jax.tree.map(jnp.ones_like, like), offset=jax.tree.map(jnp.zeros_like, like))
    return newton.Prior.of(units, like, strength, strength, ())


def solve(loss, anchor, strength, size=N, scale=1.0):
    return program(loss, size)(anchor, jnp.float32(strength), jnp.float32(scale))


def anchor(value=0.0):
    return {"w": jnp.full(D, value), "b": jnp.float32(value)}


@pytest.mark.parametrize("loss", losses.LOSSES)
@pytest.mark.parametrize("strength", [0.1, 10.0])
def test_the_gradient_vanishes_at_the_minimum(loss, strength):
    x, targets = problem()
    user, values = solve(loss, anchor(0.5), strength)

    def objective(user):
        away = jax.tree.map(jnp.subtract, user, anchor(0.5))
        prior = 0.5 * strength * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(away))
        return losses.get(loss)(x @ user["w"] + user["b"], targets)[0] + prior

    @jax.jit
    def found(user):
        return *jax.value_and_grad(objective)(user), losses.get(loss)(x @ user["w"] + user["b"], targets)

    (at_anchor, _, first), (at_user, grads, last) = found(anchor(0.5)), found(user)
    assert max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(grads)) < 5e-3
    assert at_user < at_anchor
    np.testing.assert_allclose(values, [first, last], rtol=1e-5)


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_blocks_do_not_change_the_minimum(loss):
    whole, _ = solve(loss, anchor(), 1.0)
    parts, _ = solve(loss, anchor(), 1.0, size=8)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4), whole, parts)


def test_a_strong_prior_holds_and_a_weak_one_lets_go():
    held, _ = solve("cross_entropy", anchor(0.5), 1e6)
    np.testing.assert_allclose(held["w"], 0.5, atol=1e-3)
    free, values = solve("cross_entropy", anchor(0.5), 1e-3)
    assert float(jnp.abs(free["w"]).max()) > 3
    assert values[1, 0] / values[1, 1] < 0.05  # separable


def test_steps_that_are_too_long_are_halved():
    user, values = solve("cross_entropy", anchor(8.0), 1e-2, scale=30.0)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(user))
    assert values[1, 0] < 1e-2 * values[0, 0]


def test_a_prior_without_strength_is_refused():
    for strength in (0.0, -1.0, float("nan")):
        with pytest.raises(DataError, match="expected more than 0: Linear heads"):
            newton.check(heads.get("linear"), strength)


@pytest.mark.parametrize("columns", [slice(0, 1), slice(None)], ids=["one", "all"])
@pytest.mark.parametrize("d", [5, 80], ids=["many", "few"])
def test_large_features_are_fitted_as_small_ones_are(d, columns):
    """A feature times c, under a prior so weak that it does not matter, has the same scores."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, d)).astype(np.float32)
    label = rng.random(60) < 1 / (1 + np.exp(-x[:, 0] - 0.5))
    times = np.ones(d, np.float32)
    times[columns] = 1.7e9
    user, large = np.zeros(60, int), x * times
    heads_ = fit_heads("linear", large, user, label, num_users=1, prior_strength=1.0)
    logit = large.astype(np.float64) @ heads_["w"][0] + heads_["b"][0]
    joined = np.concatenate([large, np.ones((60, 1))], axis=1).astype(np.float64)
    gradient = joined.T @ (1 / (1 + np.exp(-logit)) - label) + np.append(heads_["w"], heads_["b"])
    assert np.sum(gradient**2 / (1.0 + 0.25 * np.sum(joined**2, axis=0))) < 1e-3
    assert np.abs(heads_["w"]).max() > 0


def test_under_a_weak_prior_its_pull_balances_the_loss():
    """Nearly nothing is left of the loss, so it is the share that counts by which it still falls."""
    x, targets = problem()
    user, values = solve("cross_entropy", anchor(), 1e-6)
    u = np.append(user["w"], user["b"]).astype(np.float64)
    joined = np.concatenate([x, np.ones((N, 1))], axis=1).astype(np.float64)
    gradient = joined.T @ (1 / (1 + np.exp(-joined @ u)) - np.asarray(targets.label))
    np.testing.assert_allclose(gradient, -1e-6 * u, atol=0.05e-6 * np.linalg.norm(u))
    assert values[1, 0] < 2e-3


def test_a_head_that_is_not_the_minimum_is_refused():
    curve = np.zeros((3, 2, 2)) + 1.0
    newton.check_converged(np.arange(3), curve, np.full(3, 1e-4))
    for left in (0.1, np.nan, np.inf):
        with pytest.raises(DataError, match="the head of user 7 did not converge.*give a normaliser"):
            newton.check_converged(np.array([5, 7, 9]), curve, np.array([0.0, left, left]))


def test_features_beyond_float32_are_refused():
    x = np.full((4, 2), 1e25, np.float32) * np.array([1, -1, 1, -1], np.float32)[:, None]
    with pytest.raises(DataError, match="the head of user 0 (did not converge|is not finite).*a normaliser"):
        fit_heads("linear", x, np.zeros(4, int), np.array([1, 0, 1, 0]), num_users=1)


@pytest.mark.parametrize("pools", [6, 60], ids=["few", "many"])
def test_pairs_are_a_logistic_regression_on_differences(pools):
    """Of the preferred one of each pool to the others; the intercept, which cancels, stays where it starts."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(pools, 5, 40)).astype(np.float32) + 3.0
    best = rng.integers(0, 5, pools)
    others = np.arange(5) != best[:, None]
    label = ~others.ravel()
    start = {"w": rng.normal(size=40).astype(np.float32) * 0.1, "b": np.float32(0.7)}
    user, pool = np.zeros(5 * pools, int), np.repeat(np.arange(pools), 5)
    rows = x.reshape(-1, 40)
    made = fit_heads("linear", rows, user, label, pool=pool, num_users=1, loss="pairwise", start=start)
    differences = (x[np.arange(pools), best][:, None] - x)[others].astype(np.float64)
    w = made["w"][0].astype(np.float64)
    gradient = -differences.T @ (1 / (1 + np.exp(differences @ w))) + 10.0 * (w - start["w"])
    assert np.abs(gradient).max() < 1e-3
    assert made["b"][0] == start["b"]
