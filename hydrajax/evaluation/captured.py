"""Captured share: how much of the way from the best single source to the oracle a chooser goes.

    share = (method - source) / (oracle - source)

Measured from the mean of the candidates it could be raised by adding bad candidates; from the best single source it
cannot. The source is chosen on validation users and named by the caller, never by its value on the users reported here.
"""

import numpy as np

from hydrajax.evaluation import intervals

# Fewer than this share of resamples with room between source and oracle: no interval.
ENOUGH_RESAMPLES = 0.95
NO_ROOM = 1e-9


def captured_share(
    measured: intervals.Measured, *, source: str, method: str = "hydra", oracle: str = "oracle"
) -> intervals.Interval | None:
    """The share of the distance from `source` to `oracle` that `method` goes, on the deciding metric.

    Args:
      measured: holds all three methods.
      source: the best single source by the validation users.
      oracle: the best choice from the pool.

    Returns:
      0 where as good as the source, 1 where as good as the oracle, negative where worse than the source; without an
      interval where too many resamples leave no room between source and oracle. None where there is no room at all.

    Raises:
      DataError: a method was not measured.
    """
    metric = measured.metrics[0]
    room, rooms = intervals.gain(measured, oracle, source, metric)
    gain, gains = intervals.gain(measured, method, source, metric)
    if room <= NO_ROOM:
        return None
    usable = rooms > NO_ROOM
    low = high = None
    if np.mean(usable) >= ENOUGH_RESAMPLES:
        low, high = intervals.bounds(gain / room, gains[usable] / rooms[usable], users=len(measured.users))
    return intervals.Interval(value=gain / room, low=low, high=high)
