"""What a run keeps books of: the time of its stages, and what it asked of the LLM."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator

from hydrajax.evaluation import results
from hydrajax.llm import sampler


class Clock:
    """Times stages and says when one is done."""

    def __init__(self, say: Callable[[str], None]):
        self.seconds: dict[str, float] = {}
        self._say = say
        self._start = time.monotonic()

    @property
    def total(self) -> float:
        """Seconds since the clock was made."""
        return time.monotonic() - self._start

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times what is done inside."""
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 2)
        self._say(f"{name}: {self.seconds[name]:.1f} s")


def llm(sampled: sampler.StoredSampler) -> results.Llm:
    """What was asked so far."""
    usage = dataclasses.asdict(sampled.usage)
    return results.Llm(**{field.name: usage[field.name] for field in dataclasses.fields(results.Llm)})
