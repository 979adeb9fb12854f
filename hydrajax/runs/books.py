"""What a run keeps books of: the time of its stages, what it asked of the LLM, and what it would ask."""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator

from hydrajax import files
from hydrajax.evaluation import results
from hydrajax.llm import models, planner, sampler


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


def note(
    out: pathlib.Path,
    command: str,
    clock: Clock,
    sampled: sampler.StoredSampler,
    *,
    finished: bool,
    judge: sampler.StoredSampler | None = None,
) -> None:
    """A line on what an invocation has cost so far, in the run's folder, also of one that is interrupted.

    Args:
      out: the run's folder.
      command: of the invocation.
      clock: of the invocation.
      sampled: what asked the LLM.
      finished: whether it came to its end.
      judge: what asked another LLM to judge, None where there is none.
    """
    line = {"command": command, "finished": finished, "seconds": round(clock.total, 1)}
    line |= dataclasses.asdict(llm(sampled))
    if judge is not None:
        line["judge_llm"] = dataclasses.asdict(llm(judge))
    files.append_line(out / "invocations.jsonl", line)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would ask for.

    Attributes:
      model: the LLM's name.
      stages: by stage.
      tokens: of prompts and answers together, if the least and if the most records are shown.
      cost_usd: None where no price is known.
      seconds: estimate of the time in calls.
    """

    model: str
    stages: dict[str, planner.StagePlan]
    tokens: tuple[int, int]
    cost_usd: float | None
    seconds: float


def plan(counting: planner.Planner, *, parallel: int, batch: bool, tokens: tuple[int, int] | None = None) -> Plan:
    """What a planner has counted.

    Args:
      counting: after everything was asked of it.
      parallel: requests under way at once.
      batch: whether they go in Message Batches, at half the price.
      tokens: see `Plan`; by default those counted.
    """
    return Plan(
        model=counting.model,
        stages=counting.stages,
        tokens=tokens or (counting.tokens, counting.tokens),
        cost_usd=counting.cost(batch=batch),
        seconds=sum(
            models.seconds(counting.model, s.calls, s.fresh_input_tokens, s.output_tokens, parallel=parallel)
            for s in counting.stages.values()
        ),
    )
