"""`invocations.jsonl`: what each invocation of a run's command has asked and paid, a line each.

A line stands there from the start, with blanks at its end, and is written anew in its place: with every answer that was
paid for, and every few seconds. So it also says what an invocation has cost that was killed.
"""

import contextlib
import pathlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hydrajax import files
from hydrajax.evaluation.report import parts
from hydrajax.llm import sampler
from hydrajax.runs import accounts

FILE = "invocations.jsonl"  # in a run's folder
SECONDS = 5.0  # between two looks at the clock
ROOM = 256  # bytes by which a line may grow


@contextlib.contextmanager
def noted(
    out: pathlib.Path, command: str, clock: accounts.Clock, llms: Sequence[sampler.Sampler]
) -> Iterator[Callable[[], None]]:
    """Inside, the line of an invocation is kept up to date; it is `finished` where no exception ends the block.

    Args:
      out: the run's folder.
      command: of the invocation.
      clock: of the invocation.
      llms: what asked the LLM, and another one that judges where there is one.

    Yields:
      what brings the line up to date at once, for who is going to read it.
    """

    def contents(finished: bool) -> dict[str, Any]:
        line: dict[str, Any] = {"command": command, "finished": finished, "seconds": round(clock.total, 1)}
        for name, asked in zip(("llm", "judge_llm"), map(accounts.llm, llms), strict=False):
            line |= asked if name == "llm" else {name: asked}
        return line

    start = files.append_line(out / FILE, contents(False), room=ROOM)
    ended, lock = threading.Event(), threading.Lock()

    def now(finished: bool = False) -> None:
        with lock, contextlib.suppress(OSError):  # a run does not end where its costs cannot be noted
            files.rewrite_line(out / FILE, start, contents(finished))

    def look() -> None:
        while not ended.wait(SECONDS):
            now()

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    finished = False
    try:
        for asked in llms:
            asked.usage.tell(now)
        yield now
        finished = True
    finally:
        for asked in llms:
            asked.usage.tell(None)
        ended.set()
        looking.join()
        now(finished)


def read(out: pathlib.Path) -> list[dict[str, Any]]:
    """What there is of a run, oldest first."""
    return files.read_lines(out / FILE)


def total(lines: Sequence[Mapping[str, Any]]) -> str:
    """What several invocations have cost together, in words."""
    calls, seconds = (sum(line.get(name, 0) for line in lines) for name in ("calls", "seconds"))
    costs: list[Any] = [line.get("cost_usd") for line in lines]
    cost = "" if None in costs or not sum(costs) else f", {sum(costs):,.2f} USD"
    return f"{calls:,} call{'' if calls == 1 else 's'}, {parts.duration(seconds)}{cost}"
