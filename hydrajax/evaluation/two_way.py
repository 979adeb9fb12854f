"""Intervals over users and prompts at once, where every user makes every request.

Answers to one request are alike, and so are answers to one user: neither are the cells of the table [users, prompts]
independent, nor its rows, nor its columns. So both are drawn, users and prompts, each with replacement, and a cell
counts as often as its user times as often as its prompt: the pigeonhole bootstrap (Owen, The pigeonhole bootstrap,
Annals of Applied Statistics 1(2), 2007), which errs on the side of caution. The percentiles are those of `intervals`,
for the smaller of the two numbers; below six users or six prompts nothing is said.

Where every resample says the same (no answer was harmful at all), the percentiles would claim to know it of everybody.
There the ends are what n clusters can exclude, n again the smaller number: were a share above

    1 - (alpha / 2)^(1 / n)

of all clusters different, n in agreement would be seen less often than alpha / 2.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from hydrajax.evaluation import intervals

UNANIMOUS = 1e-12  # the spread of resamples up to which they say the same


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over cells, or a mean difference of cells.

    Attributes:
      value: over all cells that are known; None where there is none.
      low, high: the 95 % interval; None with fewer than six users or prompts.
      detectable: of a difference, the smallest true one that would be shown in 80 % of repetitions, see
        `intervals.detectable`, n the smaller number of users and prompts; None without an interval or any spread.
      cells: how many are known.
      missing: how many are not.
    """

    value: float | None
    low: float | None
    high: float | None
    detectable: float | None
    cells: int
    missing: int


def table(cells: Iterable[tuple[str, str, float | None]]) -> np.ndarray:
    """[U, P], from (user, prompt, value); NaN where a value is None or a pair does not occur.

    Rows and columns are sorted, so that tables of the same users and prompts fit.

    Raises:
      ValueError: a pair occurs twice.
    """
    cells = list(cells)
    pairs = [(user, prompt) for user, prompt, _ in cells]
    if len(set(pairs)) < len(pairs):
        raise ValueError("a user made a request more than once, expected one cell each")
    row = {user: i for i, user in enumerate(sorted({user for user, _ in pairs}))}
    column = {prompt: i for i, prompt in enumerate(sorted({prompt for _, prompt in pairs}))}
    values = np.full((len(row), len(column)), np.nan)
    for user, prompt, value in cells:
        if value is not None:
            values[row[user], column[prompt]] = value
    return values


def estimate(
    values: np.ndarray, scale: tuple[float, float], *, resamples: int = intervals.RESAMPLES, seed: int = 0
) -> Estimate:
    """The mean of the known cells, with its interval over users and prompts.

    Args:
      values: [U, P], NaN where not known.
      scale: the lowest and the highest value that a cell can have.
      seed: tables of one shape are drawn alike.
    """
    known = ~np.isnan(values)
    value = low = high = detectable = None
    if known.any():
        value = float(values[known].mean())
        clusters = min(int(known.any(axis=1).sum()), int(known.any(axis=0).sum()))
        resampled = _resampled(np.where(known, values, 0.0), known.astype(float), resamples, seed)
        low, high = intervals.bounds(value, resampled, users=clusters)
        spread = 0.0 if low is None else float(np.std(resampled, ddof=1))
        if spread > UNANIMOUS:
            detectable = intervals.detectable(spread, clusters)
        elif low is not None:
            reach = 1 - (intervals.ALPHA / 2) ** (1 / clusters)
            low, high = value - reach * (value - scale[0]), value + reach * (scale[1] - value)
    cells = int(known.sum())
    return Estimate(
        value=value, low=low, high=high, detectable=detectable, cells=cells, missing=int(known.size) - cells
    )


def _resampled(values: np.ndarray, known: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """[R], the mean of known cells on each draw; draws that hit no known cell are left out."""
    users, prompts = values.shape
    of_users = intervals.resample_weights(users, resamples=resamples, seed=seed)
    of_prompts = intervals.resample_weights(prompts, resamples=resamples, seed=seed + 1)
    total = ((of_users @ values) * of_prompts).sum(axis=1)
    counted = ((of_users @ known) * of_prompts).sum(axis=1)
    return total[counted > 0] / counted[counted > 0]
