"""Posteriors as formulas, draws of one user alone, and less regret than spreading evenly."""

import numpy as np
import pytest

from hydrajax.data import tasks
from hydrajax.methods.union import bandit

LABELS, RATINGS = tasks.LAMP["LaMP_2M"], tasks.LAMP["LaMP_3"]


def test_a_beta_posterior_adds_rewards_and_failures():
    prior = bandit.Beta(alpha=np.array([1.0, 2.0]), beta=np.array([3.0, 2.0]))
    found = bandit.posterior(prior, [[1.0, 0.0, 1.0], []])
    np.testing.assert_allclose(found.alpha, [1 + 2, 2])
    np.testing.assert_allclose(found.beta, [3 + 1, 2])
    np.testing.assert_allclose(found.mean, [3 / 7, 1 / 2])


def test_a_gaussian_posterior_weighs_by_precision():
    prior = bandit.Gaussian(mean=np.array([0.5, 0.5]), precision=np.array([4.0, 4.0]), spread=0.5)
    found = bandit.posterior(prior, [[1.0, 0.8], []])
    np.testing.assert_allclose(found.precision, [4 + 2 / 0.5**2, 4])
    np.testing.assert_allclose(found.mean, [(4 * 0.5 + 1.8 / 0.5**2) / (4 + 2 / 0.5**2), 0.5])


@pytest.mark.parametrize("task", [LABELS, RATINGS], ids=["beta", "gaussian"])
def test_the_prior_is_the_mean_over_training_users(task):
    rewards = {"a": [[1.0, 1.0, 1.0], [0.0, 0.0, 1.0]], "b": [[1.0], [0.0]]}
    overall = 5 / 8
    expected = [(4 + overall) / 5, (1 + overall) / 5]
    np.testing.assert_allclose(bandit.prior(task, 2, rewards).mean, expected)


def test_without_rewards_all_strategies_are_alike():
    for task in (LABELS, RATINGS):
        assert len(set(bandit.prior(task, 3, {}).mean)) == 1


def test_every_candidate_is_spread_and_a_draw_depends_on_its_name_alone():
    belief = bandit.prior(LABELS, 3, {"a": [[1.0], [0.0], [1.0]]})
    found = {name: bandit.spread(belief, 8, seed=1, name=name) for name in (f"q{i}" for i in range(20))}
    again = {name: bandit.spread(belief, 8, seed=1, name=name) for name in ("q3", "q1")}
    assert all(counts.sum() == 8 for counts in found.values())
    for name, counts in again.items():
        np.testing.assert_array_equal(counts, found[name])
    assert len({tuple(counts) for counts in found.values()}) > 1


def test_other_users_change_a_draw_only_through_the_prior():
    prior = bandit.prior(LABELS, 2, {"train": [[1.0], [0.0]]})
    own = bandit.posterior(prior, [[0.0, 0.0], [1.0, 1.0]])
    alone = bandit.spread(own, 6, seed=0, name="q")
    bandit.spread(bandit.posterior(prior, [[1.0], [1.0]]), 6, seed=0, name="other")
    np.testing.assert_array_equal(bandit.spread(own, 6, seed=0, name="q"), alone)


def test_the_bandit_regrets_less_than_spreading_evenly():
    chances = np.array([0.2, 0.5, 0.8])
    rng = np.random.default_rng(0)
    kinds = [np.roll(chances, shift) for shift in (0, 1, 2)]  # each user has another best strategy

    def rewards(own):
        return [list(rng.binomial(1, chance, size=6).astype(float)) for chance in own]

    prior = bandit.prior(LABELS, 3, {str(i): rewards(kinds[i % 3]) for i in range(30)})
    regret = []
    for i in range(60):
        own = kinds[i % 3]
        counts = bandit.spread(bandit.posterior(prior, rewards(own)), 8, seed=0, name=f"q{i}")
        regret.append(chances.max() - counts @ own / 8)
    assert np.mean(regret) < 0.6 * (chances.max() - chances.mean())


def test_an_even_spread_gives_the_rest_to_the_first():
    np.testing.assert_array_equal(bandit.evenly(8, 3), [3, 3, 2])
    np.testing.assert_array_equal(bandit.evenly(1, 2), [1, 0])
