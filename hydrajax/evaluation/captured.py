"""Captured share: how much of the way from the best single source to the oracle a chooser goes.

    share = (method - source) / (oracle - source)

Measured from the mean of the candidates it could be raised by adding bad candidates; from the best single source it
cannot. The source is chosen on validation users and named by the caller, never by its value on the users reported here.
"""

import dataclasses

import numpy as np

from hydrajax import metrics
from hydrajax.evaluation import intervals

# Fewer than this share of resamples with room between source and oracle: no interval.
ENOUGH_RESAMPLES = 0.95
NO_ROOM = 1e-9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Captured:
    """The share, with its 95 % interval over users, and what it was measured with.

    Attributes:
      value: 0 as good as the source, 1 as good as the oracle; negative where worse than the source.
      low, high: None where too many resamples leave no room between source and oracle, and with fewer than six users.
      source: the best single source.
      metric: what was compared.
    """

    value: float
    low: float | None
    high: float | None
    source: str
    metric: str


def captured_share(
    measured: intervals.Measured,
    *,
    source: str,
    method: str = "hydra",
    oracle: str = "oracle",
    metric: str | None = None,
) -> Captured | None:
    """The share of the distance from `source` to `oracle` that `method` goes; None where there is no distance.

    Args:
      measured: holds all three methods.
      source: the best single source by the validation users.
      method: whose share.
      oracle: the best choice from the pool.
      metric: by default the one that decides.

    Raises:
      DataError: a method or the metric was not measured.
    """
    metric = metric or measured.metrics[0]
    room = intervals.difference(measured, oracle, source, metric).value
    if room <= NO_ROOM:
        return None
    value = intervals.difference(measured, method, source, metric).value / room
    sign = 1.0 if metrics.STATISTICS[metric].higher_is_better else -1.0
    rooms = sign * (measured.resampled[oracle, metric] - measured.resampled[source, metric])
    gains = sign * (measured.resampled[method, metric] - measured.resampled[source, metric])
    usable = rooms > NO_ROOM
    low = high = None
    if np.mean(usable) >= ENOUGH_RESAMPLES:
        low, high = intervals.bounds(value, gains[usable] / rooms[usable], users=len(measured.users))
    return Captured(value=value, low=low, high=high, source=source, metric=metric)
