"""Where users differ in a way that is known, the families that can tell find it."""

import dataclasses

import numpy as np
import pytest

from hydrajax.training import fit
from hydrajax.training.config import FitConfig
from hydrajax.training.examples import Examples


def planted(users, tastes, seed, n=24, shift=0.0):
    """Users each of whom has one of the tastes, and what all have in common on top of it."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), n)
    x = rng.normal(size=(users * n, tastes.shape[1]))
    score = (x * (tastes[rng.integers(0, len(tastes), users)] + shift)[user]).sum(axis=1)
    pool = np.arange(len(x)) // 4
    return Examples(user=user, x=x, extras=np.zeros((len(x), 0)), label=score > 0, score=score, pool=pool)


def ordered(scores, examples):
    """Share of a pool's pairs in the right order; pools are 4 consecutive examples."""
    s, q = scores.reshape(-1, 4), examples.score.reshape(-1, 4)
    i, j = np.triu_indices(4, 1)
    return np.mean((s[:, i] - s[:, j]) * (q[:, i] - q[:, j]) > 0)


# What all users have in common is nothing: the three tastes add up to zero.
TASTES = 3.0 * np.array([[1, 1, 0, 0, 0, 0], [-1, 0, 1, 0, 0, 0], [0, -1, -1, 0, 0, 0]])
CONFIG = FitConfig(
    loss="pairwise",
    pooled_epochs=90,
    pooled_learning_rate=0.01,
    learning_rate=0.003,
    prior_strength=1.0,
    dropout=0.0,
    fit_bank=False,
)


def part(examples, keep):
    return Examples(**{name: array[keep] for name, array in vars(examples).items()})


def on_new_users(family, tastes=TASTES, **changes):
    """(share of pairs in the right order by own heads, by the generic user) of new users' unseen examples."""
    used = dataclasses.replace(CONFIG, family=family, **changes)
    fitted = fit.pretrain(used, planted(32, tastes, 1), 32)
    new = planted(20, tastes, 2, n=48)
    seen = np.arange(len(new.user)) % 48 < 24
    users = fit.personalise(used, fitted, part(new, seen), 20)
    rest = part(new, ~seen)
    return [ordered(fit.predict(fitted, u, rest.user, rest.x, rest.extras), rest) for u in (users, None)]


@pytest.mark.slow
def test_users_who_differ_by_taste_are_served_better_than_by_one_head_for_all():
    shared, generic = on_new_users("shared")
    assert shared == generic < 0.6
    for family in ("simplex:bases=3", "facets:facets=3,active=2"):
        own, generic = on_new_users(family)
        assert own > generic + 0.1
        assert own > shared + 0.1


@pytest.mark.slow
def test_the_generic_user_of_offsets_is_trained_and_serves_whoever_is_new():
    """Users of a common taste, each with an own one beside it: zeros would call half of the pairs right."""
    own, generic = on_new_users("generic_plus_offset:inner=linear", TASTES / 3 + 1.0)
    assert generic > 0.7
    assert own >= generic - 0.01
