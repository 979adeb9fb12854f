"""A bandit for each user: over which prompt strategies the b candidates of a query are spread.

Strategy a's answers to the user's own pseudo-queries have rewards r_1 .. r_n (qualities). Its posterior is

    Beta      right or wrong:   Beta(alpha + sum r, beta + n - sum r)
    Gaussian  graded:           N(m, 1 / p),  p = p0 + n / s^2,  m = (p0 m0 + sum r / s^2) / p

with a prior from the training users. Thompson sampling: each candidate goes to the strategy with the highest of one
draw from every posterior (Thompson, Biometrika 1933). Arrays are [A], one entry a strategy.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from hydrajax.data import draws, tasks

WORTH = 4.0  # pseudo-queries of the user's own that the prior is worth
LEAST_SPREAD = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beta:
    """Beta distributions of the chance to be right.

    Attributes:
      alpha, beta: [A].
    """

    alpha: Float[np.ndarray, " A"]
    beta: Float[np.ndarray, " A"]

    @property
    def mean(self) -> Float[np.ndarray, " A"]:
        return self.alpha / (self.alpha + self.beta)

    def draw(self, rng: np.random.Generator) -> Float[np.ndarray, " A"]:
        return rng.beta(self.alpha, self.beta)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gaussian:
    """Gaussian distributions of the mean reward.

    Attributes:
      mean, precision: [A].
      spread: s, standard deviation of one reward around its strategy's mean.
    """

    mean: Float[np.ndarray, " A"]
    precision: Float[np.ndarray, " A"]
    spread: float

    def draw(self, rng: np.random.Generator) -> Float[np.ndarray, " A"]:
        return rng.normal(self.mean, self.precision**-0.5)


Belief = Beta | Gaussian
Rewards = Mapping[str, Sequence[Sequence[float]]]  # user id -> strategy -> rewards


def prior(task: tasks.Task, strategies: int, rewards: Rewards) -> Belief:
    """What is believed of a user before the user's own rewards: every strategy's mean over other, training users, worth
    `WORTH` pseudo-queries.

    Args:
      task: right or wrong (classification) or graded.
      strategies: A.
      rewards: of training users but the one it is about; without any, all strategies are alike.
    """
    by_strategy = [[r for of_user in rewards.values() for r in of_user[a]] for a in range(strategies)]
    everything = [r for of_strategy in by_strategy for r in of_strategy]
    overall = float(np.mean(everything)) if everything else 0.5
    # One reward of the overall mean is added to each, so that no strategy is believed never to be right.
    means = np.array([(sum(of_strategy) + overall) / (len(of_strategy) + 1) for of_strategy in by_strategy])
    if task.kind == "classification":
        means = np.clip(means, LEAST_SPREAD, 1 - LEAST_SPREAD)
        return Beta(alpha=WORTH * means, beta=WORTH * (1 - means))
    deviations = [r - mean for of_strategy, mean in zip(by_strategy, means, strict=True) for r in of_strategy]
    spread = max(float(np.std(deviations)) if deviations else 0.5, LEAST_SPREAD)
    return Gaussian(mean=means, precision=np.full(strategies, WORTH / spread**2), spread=spread)


def posterior(belief: Belief, rewards: Sequence[Sequence[float]]) -> Belief:
    """The belief after the user's own rewards, one list a strategy."""
    total = np.array([float(sum(of_strategy)) for of_strategy in rewards])
    count = np.array([float(len(of_strategy)) for of_strategy in rewards])
    if isinstance(belief, Beta):
        return Beta(alpha=belief.alpha + total, beta=belief.beta + count - total)
    precision = belief.precision + count / belief.spread**2
    mean = (belief.precision * belief.mean + total / belief.spread**2) / precision
    return dataclasses.replace(belief, mean=mean, precision=precision)


def spread(belief: Belief, candidates: int, *, seed: int, name: str) -> Int[np.ndarray, " A"]:
    """How many of the candidates each strategy makes, one Thompson draw a candidate.

    The draws depend on the seed and the name alone (a query's id), not on other users.
    """
    rng = np.random.default_rng(draws.number(seed, "bandit", name))
    chosen = [int(np.argmax(belief.draw(rng))) for _ in range(candidates)]
    return np.bincount(np.array(chosen, int), minlength=len(belief.mean))


def evenly(candidates: int, strategies: int) -> Int[np.ndarray, " A"]:
    """The same number for each strategy, one more for the first ones where it does not come out even."""
    return np.array([candidates // strategies + (a < candidates % strategies) for a in range(strategies)], int)
