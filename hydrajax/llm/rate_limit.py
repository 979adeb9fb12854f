"""How fast requests are sent: as many at once, and as close together, as the server takes without complaint.

The number under way begins small and grows by one with every answer; an overloaded server (529) halves it. Where the
server names its limit of requests a minute, they are spaced to it, so that there is nothing to complain of. Where it
only refuses (429), they are spaced to a little below the rate that it last answered at, and slowly closer again. A
server that asks to wait is left alone by everybody until then.
"""

import asyncio
import collections
import logging
import random
import time
from collections.abc import Callable

from hydrajax.llm.request import Limits

_log = logging.getLogger(__name__)
FIRST_WINDOW = 8
LONGEST_WAIT = 60.0
LONG_PAUSE = 30.0  # is told
BELOW_LIMIT = 0.992  # of a limit that the server names: clocks differ, and timers are late
BELOW_RATE = 0.93  # of the rate at which a server answered that names none
CLOSER = 0.05  # each second brings requests that much closer together again
SOME_COMPLAINTS = 0.3  # of the answers: fewer than these are not taken for a limit
BURST_SECONDS = 0.03  # what late timers may be made up for
MEASURED_SECONDS = 1.0


def backoff(attempt: int, rng: random.Random) -> float:
    """Seconds before attempt number `attempt` (1, 2, ...) is repeated: doubling from half a second, with jitter.

    Without jitter, requests that failed together would come back together.
    """
    return min(LONGEST_WAIT, 0.5 * 2.0 ** (attempt - 1)) * rng.uniform(0.5, 1.0)


class RateLimiter:
    """Lets requests through one by one.

    Args:
      most: that are ever under way at once.
      clock: seconds.

    Attributes:
      window: how many may be under way now.
      under_way: how many are.
    """

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic):
        self.most = most
        self.window = float(min(most, FIRST_WINDOW))
        self.under_way = 0
        self._clock = clock
        self._interval = 0.0
        self._named = False
        self._answers: collections.deque[float] = collections.deque(maxlen=10_000)
        self._complaints: collections.deque[float] = collections.deque(maxlen=10_000)
        self._next = self._not_before = self._last_cut = clock() - 60.0
        self._changed = asyncio.Event()

    async def enter(self, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Waits until one more may be sent; False where `stopped` says so first. After True comes a `leave`."""
        while not stopped():
            wait = max(self._next, self._not_before) - self._clock()
            if self.under_way >= int(self.window):
                self._changed.clear()
                await self._changed.wait()
            elif wait > 0:
                await asyncio.sleep(min(wait, 0.2))
            else:
                self.under_way += 1
                # A timer that fires late must not lower the rate; a pause must not be made up for in a burst.
                self._next = max(self._next, self._clock() - BURST_SECONDS) + self._interval
                return True
        return False

    def leave(self) -> None:
        """One is no longer under way."""
        self.under_way -= 1
        self._changed.set()

    def wake(self) -> None:
        """Lets everybody who waits look whether to go on."""
        self._changed.set()

    def answered(self, limits: Limits) -> None:
        """The server answered: a little more is tried, within what it says of its limits."""
        self.window = min(self.most, self.window + 1.0)
        self._answers.append(self._clock())
        if limits.per_minute:
            self._interval, self._named = 60.0 / limits.per_minute / BELOW_LIMIT, True
        elif not self._named:
            # The share is of a second: each answer closes the gap by as much of it as one interval is long.
            self._interval *= max(0.5, 1.0 - CLOSER * self._interval)
        if limits.wait > 0:
            self.pause(limits.wait)
        self._changed.set()

    def complained(self, retry_after: float | None, *, limited: bool) -> None:
        """The server has too much to do, or (`limited`) was asked too often; complaints of one second count as one."""
        now = self._clock()
        if limited:
            self._complaints.append(now)
        if now - self._last_cut > 1.0:
            if not limited:
                self._last_cut = now
                self.window = max(1.0, self.window / 2)
            elif not self._named:
                since = max(0.1, min(MEASURED_SECONDS, now - self._answers[0] if self._answers else 0.1))
                answers = max(1, sum(1 for moment in self._answers if moment > now - since))
                complaints = sum(1 for moment in self._complaints if moment > now - since)
                # A few among many are luck, not a limit: slowing down for each would never end.
                if complaints > max(2, SOME_COMPLAINTS * answers):
                    self._last_cut = now
                    self._interval = since / answers / BELOW_RATE
        if retry_after is not None:
            self.pause(retry_after)

    def pause(self, seconds: float) -> None:
        """Nobody sends anything for so long."""
        if seconds >= LONG_PAUSE and self._not_before < self._clock():
            _log.warning("the server asks to wait %.0f s", seconds)
        self._not_before = max(self._not_before, self._clock() + min(seconds, 3600.0))
