"""LoRe's family on users that are drawn from its own model: what is personal is learned, by default settings."""

import numpy as np
import pytest

from experiments import lore

SMALL = lore.Recipe(features=96, tastes=5, seen=240, new=80, taught=40, asked=40)


def test_the_preferred_item_is_the_one_of_the_higher_reward_as_often_as_bradley_and_terry_say():
    """Of 200 users with one direction, who are all alike: P(right) = E sigmoid(|gap|), gap ~ N(0, 2 25)."""
    recipe = lore.Recipe(features=8, tastes=1, seen=200, new=1, taught=40, asked=10)
    pairs, _ = lore.draw(recipe, 0)
    difference = (pairs[:, :, 0] - pairs[:, :, 1]).reshape(-1, recipe.features)
    direction = difference.mean(axis=0) / np.linalg.norm(difference.mean(axis=0))
    gap = np.abs(np.random.default_rng(1).normal(size=100_000) * np.sqrt(2) * 5)
    assert np.mean(difference @ direction > 0) == pytest.approx(np.mean(1 / (1 + np.exp(-gap))), abs=0.02)


@pytest.mark.slow
def test_seen_and_new_users_get_heads_that_are_better_than_one_for_all():
    found = lore.measured(SMALL, 0, "simplex:bases=5", shots=(5, 30))
    assert found["seen"] > found["seen, one for all"] + 0.03
    assert found["new, 5 pairs"] > found["new, one for all"] + 0.005
    assert found["new, 30 pairs"] > found["new, one for all"] + 0.03
