"""Preferences of planted users whose rewards are mixtures of five directions, LoRe's own model, and families on them.

    python -m experiments.lore [--families simplex:bases=5 linear ...] [--seeds 0 1 2]

d = 256 features of an item, N(0, I); five directions of length 5; a user's reward is their mixture, weights from
Dirichlet(1); which of two items is preferred is drawn by Bradley and Terry. 500 users are seen with 50 pairs each, 200
new ones come with 5, 20 and 50; accuracies are of 50 further pairs of each user.
"""

import dataclasses
import itertools
import time

import numpy as np
import tyro
from jaxtyping import Float

from hydrajax import training

Pairs = Float[np.ndarray, "users pairs 2 d"]  # the preferred item first


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Sizes of the data.

    Attributes:
      features: d.
      tastes: directions, and K of the family.
      seen: users who teach what is shared.
      new: users who come later.
      taught: pairs of each seen user, and most of a new one.
      asked: pairs of each user by which accuracy is measured.
    """

    features: int = 256
    tastes: int = 5
    seen: int = 500
    new: int = 200
    taught: int = 50
    asked: int = 50


def draw(recipe: Recipe, seed: int) -> tuple[Pairs, Pairs]:
    """Pairs of the seen users and of the new ones, those that are asked last."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(recipe.features, recipe.tastes))
    directions *= 5 / np.linalg.norm(directions, axis=0)

    def of_users(users: int) -> Pairs:
        reward = rng.dirichlet(np.ones(recipe.tastes), users) @ directions.T
        one, other = rng.normal(size=(2, users, recipe.taught + recipe.asked, recipe.features)).astype(np.float32)
        gain = np.einsum("upd,ud->up", one - other, reward)
        first = (rng.random(gain.shape) < 1 / (1 + np.exp(-gain)))[..., None]
        return np.stack([np.where(first, one, other), np.where(first, other, one)], axis=2)

    return of_users(recipe.seen), of_users(recipe.new)


def examples_of(pairs: Pairs) -> training.Examples:
    """Two examples a pair, which are a pool."""
    users, count, _, features = pairs.shape
    label = np.tile([1.0, 0.0], users * count)
    return training.Examples(
        user=np.repeat(np.arange(users), 2 * count),
        x=pairs.reshape(-1, features),
        extras=np.zeros((len(label), 0), np.float32),
        label=label,
        score=label,
        pool=np.repeat(np.arange(users * count), 2),
    )


def accuracy(fitted: training.Fitted, heads: object, pairs: Pairs) -> float:
    """Share of pairs of which the preferred item scores higher; `heads` None: by the pooled head."""
    asked = examples_of(pairs)
    scores = training.predict(fitted, heads, asked.user, asked.x, asked.extras)
    return float((scores[0::2] > scores[1::2]).mean())


def measured(recipe: Recipe, seed: int, family: str, shots: tuple[int, ...] = (5, 20, 50)) -> dict[str, float]:
    """Accuracies by default settings, and the seconds of everything that is fitted, compilation included."""
    seen, new = draw(recipe, seed)
    config = training.FitConfig(family=family, loss="pairwise", seed=seed)
    began = time.perf_counter()
    fitted = training.pretrain(config, examples_of(seen[:, : recipe.taught]), len(seen))
    heads = {n: training.personalise(config, fitted, examples_of(new[:, :n]), len(new)) for n in shots}
    seconds = time.perf_counter() - began
    asked, later = seen[:, recipe.taught :], new[:, recipe.taught :]
    found = {"seen": accuracy(fitted, fitted.bank, asked), "seen, one for all": accuracy(fitted, None, asked)}
    found |= {f"new, {n} pairs": accuracy(fitted, heads[n], later) for n in shots}
    return found | {"new, one for all": accuracy(fitted, None, later), "seconds": seconds}


def main(families: tuple[str, ...] = ("simplex:bases=5",), seeds: tuple[int, ...] = (0, 1, 2)) -> None:
    """Prints the figures of each family and seed.

    Args:
      families: names, with settings; LoRe's is told the number of directions.
      seeds: of the data and the fits.
    """
    for family, seed in itertools.product(families, seeds):
        found = measured(Recipe(), seed, family)
        print(family, seed, ", ".join(f"{name} {value:.4g}" for name, value in found.items()), flush=True)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
