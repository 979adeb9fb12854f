"""In what order requests are sent.

In turn (one slot, one prompt cache): by their beginnings. Otherwise the groups take turns, so that nobody's thousand
requests stand before somebody else's one; of a long prompt that a server will cache the first sample goes alone, and
the others follow when it is answered.
"""

import collections
import heapq
import time
from collections.abc import Callable, Mapping

from hydrajax.llm import request
from hydrajax.llm.request import Request
from hydrajax.llm.store import Key


class Queue:
    """Requests that wait to be sent.

    Args:
      wanted: by key; equal requests are in it once.
      in_turn: whether the order is that of their beginnings.
      warms: whether a request's prompt is long enough for the server's prompt cache.
      clock: seconds.
    """

    def __init__(
        self,
        wanted: Mapping[Key, Request],
        *,
        in_turn: bool,
        warms: Callable[[Request], bool] = lambda wanted: False,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._wanted = wanted
        self._clock = clock
        self._groups: dict[str, collections.deque[Key]] = {}
        self._later: list[tuple[float, Key]] = []
        self._behind: dict[str, list[Key]] = {}
        ordered = sorted(wanted, key=lambda key: request.order(wanted[key])) if in_turn else list(wanted)
        leading: set[str] = set()
        for key in ordered:
            content, _ = key
            if not in_turn and content in leading:
                self._behind.setdefault(content, []).append(key)
                continue
            if not in_turn and warms(wanted[key]):
                leading.add(content)
            self.push(key, "" if in_turn else wanted[key].group)

    def push(self, key: Key, group: str | None = None) -> None:
        """Puts a request at the end of its group's line."""
        self._groups.setdefault(self._wanted[key].group if group is None else group, collections.deque()).append(key)

    def later(self, key: Key, seconds: float) -> None:
        """Puts a request back, to be sent after so many seconds."""
        heapq.heappush(self._later, (self._clock() + seconds, key))

    def done(self, key: Key) -> None:
        """A request was answered, or never will be: those that waited for it are free."""
        for follower in self._behind.pop(key[0], ()):
            self.push(follower)

    def pop(self) -> Key | None:
        """The next request, None where none may be sent yet."""
        if self._later and self._later[0][0] <= self._clock():
            return heapq.heappop(self._later)[1]
        while self._groups:
            # The group that stands first goes to the end of the row of groups.
            group = next(iter(self._groups))
            line = self._groups.pop(group)
            key = line.popleft()
            if line:
                self._groups[group] = line
            return key
        return None

    def wait(self) -> float | None:
        """Seconds until a request that was put back may be sent; None where there is none."""
        return max(0.0, self._later[0][0] - self._clock()) if self._later else None

    def __len__(self) -> int:
        waiting = sum(map(len, self._groups.values())) + sum(map(len, self._behind.values()))
        return waiting + len(self._later)
