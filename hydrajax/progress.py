"""Progress with rate and time left: a bar on a terminal, a line now and then in a log."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import rich.console
import rich.progress

LINE_SECONDS = 60.0


@runtime_checkable
class Advance(Protocol):
    """Reports progress: so much of the total is done; `note` says more in a few words."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


def silent(done: int, total: int, note: str = "") -> None:
    """A progress callback that does nothing."""


def lines(
    label: str, console: rich.console.Console, *, unit: str = "steps", clock: Callable[[], float] = time.monotonic
) -> Advance:
    """A progress callback that prints a line a minute, none before the first minute is over.

    Args:
      label: what is under way.
      console: printed to.
      unit: what is counted, in the plural.
      clock: of seconds.
    """
    began = last = clock()

    def advance(done: int, total: int, note: str = "") -> None:
        nonlocal last
        now = clock()
        if now - last < LINE_SECONDS:
            return
        last = now
        rate = done / (now - began)
        left = f", {(total - done) / rate / 60:.0f} min left" if rate > 0 else ""
        noted = f", {note}" if note else ""
        console.print(
            f"{label}: {done:,} of {total:,} {unit}, {rate:.1f} {unit}/s{left}{noted}", markup=False, soft_wrap=True
        )

    return advance


@contextlib.contextmanager
def bar(label: str, unit: str = "steps") -> Iterator[Advance]:
    """Progress on standard error; yields a callback (`Advance`). A terminal gets a bar, which vanishes when done.

    Args:
      label: what is under way.
      unit: what is counted, in the plural.
    """
    console = rich.console.Console(stderr=True)
    if not console.is_terminal:
        yield lines(label, console, unit=unit)
        return
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("{task.fields[rate]}"),
        rich.progress.TimeRemainingColumn(),
        rich.progress.TextColumn("{task.fields[note]}"),
    )
    with rich.progress.Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=None, rate=unit, note="")

        def advance(done: int, total: int, note: str = "") -> None:
            elapsed = progress.tasks[0].elapsed or 0.0
            rate = f"{unit}, {done / elapsed:.1f}/s" if elapsed > 0 and done else unit
            progress.update(task, completed=done, total=total, rate=rate, note=note)

        yield advance
