"""Intervals over users: a bootstrap in which a user's questions stay together.

Questions of one user are alike, so the user is what is drawn: 2000 times as many users as there are, with replacement,
each with all of its questions, and every metric (macro-F1, RMSE and corpus BLEU too) is computed anew on the draw. All
methods are measured on the same draws, which makes their differences paired. Source: Efron and Tibshirani, An
Introduction to the Bootstrap, 1993, chapters 8 and 13.

Percentile intervals of few users are too narrow: the spread of a resample is sqrt((n - 1) / n) of the sample's, and the
normal's quantiles stand where Student's should. Both are mended by taking wider percentiles (the expanded percentile
interval; Hesterberg, What teachers should know about the bootstrap, The American Statistician 69, 2015, section 4.3):

    alpha' / 2 = Phi(-sqrt(n / (n - 1)) t_(alpha / 2, n - 1))

which is 1.8 % a side instead of 2.5 % at 25 users. Below six users nothing is said: were all of them unanimous, a sign
test would still find that by chance more often than once in twenty (2 / 2^5).
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping

import numpy as np

from hydrajax import metrics
from hydrajax.data import tasks
from hydrajax.evaluation import predictions
from hydrajax.metrics import statistics
from hydrajax.types import DataError

RESAMPLES = 2000
ALPHA = 0.05
FEWEST_USERS = 6  # the smallest n with 2 / 2^n below ALPHA
POWER = 0.8
TIE = 1e-9  # differences up to which are those of rounding: the methods are level


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
    """A metric's value on all questions, and its 95 % interval; the ends are None with fewer than six users."""

    value: float
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference(Interval):
    """A paired difference on all questions, turned so that positive means that the first method is better.

    Attributes:
      detectable: the smallest true difference that this many users would show (two-sided 5 %) in 80 % of repetitions,
        see `detectable`; None with fewer than six users.
    """

    detectable: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """Every method on every metric of a task, on all questions and on the resamples.

    Attributes:
      metrics: the task's, the first decides.
      methods: in the order of the rows.
      users: ids, sorted.
      queries: how many questions were judged.
      weights: [R, U], how often each user is in each resample.
      values: (method, metric) -> value on all questions.
      resampled: (method, metric) -> [R], value on each resample.
      by_user: (method, metric) -> [U], value on each user's own questions, for metrics where that means anything.
    """

    metrics: tuple[str, ...]
    methods: tuple[str, ...]
    users: tuple[str, ...]
    queries: int
    weights: np.ndarray
    values: Mapping[tuple[str, str], float]
    resampled: Mapping[tuple[str, str], np.ndarray]
    by_user: Mapping[tuple[str, str], np.ndarray]


def measure(
    task: tasks.Task, rows: Iterable[predictions.Row], *, resamples: int = RESAMPLES, seed: int = 0
) -> Measured:
    """Measures every method of the prediction rows on every metric of the task.

    Args:
      task: decides the metrics.
      rows: prediction rows, in any order.

    Raises:
      DataError: the rows cannot be judged (see `predictions.judged`).
    """
    kept = predictions.judged(task, rows)
    users, member = np.unique([row["user"] for row in kept], return_inverse=True)
    membership = (member == np.arange(len(users))[:, None]).astype(float)
    weights = resample_weights(len(users), resamples=resamples, seed=seed)
    values, resampled, by_user = {}, {}, {}
    methods = tuple(kept[0]["answers"])
    for metric in task.metrics:
        statistic = metrics.STATISTICS[metric]
        for method in methods:
            per_user = membership @ _counts(task, statistic, kept, method)  # [draws, U, S]
            key = method, metric
            values[key] = float(np.mean(statistic.value(per_user.sum(axis=1))))
            # One draw after the other: all at once would hold draws x resamples x columns.
            resampled[key] = np.mean([statistic.value(weights @ sums) for sums in per_user], axis=0)
            if statistic.per_user:
                by_user[key] = np.mean(statistic.value(per_user), axis=0)
    return Measured(
        metrics=task.metrics,
        methods=methods,
        users=tuple(str(user) for user in users),
        queries=len(kept),
        weights=weights,
        values=values,
        resampled=resampled,
        by_user=by_user,
    )


def resample_weights(users: int, *, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each user is in each resample, [R, U]; each row sums to U."""
    return np.random.default_rng(seed).multinomial(users, np.full(users, 1.0 / users), size=resamples).astype(float)


def interval(measured: Measured, method: str, metric: str) -> Interval:
    """The metric over all questions (micro average) with its interval.

    Raises:
      DataError: the method or metric was not measured.
    """
    key = _key(measured, method, metric)
    return _interval(measured.values[key], measured.resampled[key], len(measured.users))


def per_user_interval(measured: Measured, method: str, metric: str) -> Interval | None:
    """The mean over users of the metric on each user's own questions, every user counting the same.

    None for metrics that a user's few questions cannot carry (macro-F1, RMSE, BLEU).

    Raises:
      DataError: the method or metric was not measured.
    """
    key = _key(measured, method, metric)
    return mean_over_users(measured.by_user[key], measured.weights) if key in measured.by_user else None


def mean_over_users(by_user: np.ndarray, weights: np.ndarray) -> Interval:
    """The mean of one value a user, with its interval.

    Args:
      by_user: [U].
      weights: [R, U], see `resample_weights`.
    """
    users = len(by_user)
    return _interval(float(np.mean(by_user)), weights @ by_user / users, users)


def gain(measured: Measured, a: str, b: str, metric: str) -> tuple[float, np.ndarray]:
    """How much better method `a` is than method `b`: on all questions, and on each of the same resamples, [R].

    Raises:
      DataError: a method or the metric was not measured.
    """
    first, second = _key(measured, a, metric), _key(measured, b, metric)
    value = sign(metric) * (measured.values[first] - measured.values[second])
    resampled = sign(metric) * (measured.resampled[first] - measured.resampled[second])
    return float(without_rounding(value)), without_rounding(resampled)


def difference(measured: Measured, a: str, b: str, metric: str) -> Difference:
    """`gain` with its interval, and what would have been seen.

    Raises:
      DataError: a method or the metric was not measured.
    """
    value, resampled = gain(measured, a, b, metric)
    low, high = bounds(value, resampled, users=len(measured.users))
    least = None if low is None else detectable(float(np.std(resampled, ddof=1)), len(measured.users))
    return Difference(value=value, low=low, high=high, detectable=least)


def without_rounding(differences: np.ndarray | float) -> np.ndarray:
    """The differences, those below `TIE` as zero (and never as minus zero, which would be printed as -0)."""
    return np.where(np.abs(differences) < TIE, 0.0, differences)


def detectable(spread: float, n: int) -> float:
    """The smallest true difference that n users would show, two-sided at `ALPHA`, in `POWER` of repetitions.

        (t_(1 - alpha / 2, n - 1) + t_(power, n - 1)) SE,  SE = sqrt(n / (n - 1)) spread

    Source: Cohen, Statistical Power Analysis, 1988, section 2.3, with Student's quantiles.

    Args:
      spread: standard deviation of the difference on resamples, which is too small by that root.
      n: users, two or more.
    """
    return _detectable_errors(n) * spread


def sign(metric: str) -> float:
    """1 where a higher value is better, -1 of errors."""
    return 1.0 if metrics.STATISTICS[metric].higher_is_better else -1.0


def bounds(value: float, resampled: np.ndarray, users: int) -> tuple[float | None, float | None]:
    """The expanded percentile interval of the resamples, widened to contain the value; None below six users.

    Where a metric is biased on resamples (macro-F1: a draw of users lacks rare labels) the percentiles can leave out
    the value itself; the interval then reaches to it, which errs on the side of caution.
    """
    if users < FEWEST_USERS:
        return None, None
    tail = tail_share(users)
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(min(low, value)), float(max(high, value))


@functools.cache
def tail_share(users: int) -> float:
    """alpha' / 2: the share of resamples beyond either end of the interval, in (0, 0.025).

    Raises:
      ValueError: fewer than two users.
    """
    if users < 2:
        raise ValueError(f"an interval over {users} users was asked for, expected two or more")
    from scipy import stats  # takes half a second, which what only prints does not have

    student = stats.t.ppf(ALPHA / 2, users - 1)
    return float(stats.norm.cdf(np.sqrt(users / (users - 1)) * student))


@functools.cache
def _detectable_errors(n: int) -> float:
    from scipy import special

    return float((n / (n - 1)) ** 0.5 * (special.stdtrit(n - 1, 1 - ALPHA / 2) + special.stdtrit(n - 1, POWER)))


def _interval(value: float, resampled: np.ndarray, users: int) -> Interval:
    low, high = bounds(value, resampled, users)
    return Interval(value=value, low=low, high=high)


def _counts(task: tasks.Task, statistic: statistics.Statistic, rows: list[predictions.Row], method: str) -> np.ndarray:
    """[draws, N, S], what the metric needs of each answer."""
    answers = [row["answers"][method] for row in rows]
    if task.kind == "reward":
        return np.stack([statistics.reward_counts(draw) for draw in zip(*(a["rewards"] for a in answers), strict=True)])
    golds = [predictions.gold(task, row) for row in rows]
    draws = zip(*(answer["predictions"] for answer in answers), strict=True)
    return np.stack([statistic.counts(task, draw, golds) for draw in draws])


def _key(measured: Measured, method: str, metric: str) -> tuple[str, str]:
    if (method, metric) not in measured.values:
        raise DataError(
            f"method {method!r} was not measured on metric {metric!r}, expected one of the methods "
            f"{', '.join(measured.methods)} and one of the metrics {', '.join(measured.metrics)}"
        )
    return method, metric
