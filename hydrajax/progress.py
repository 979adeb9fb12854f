"""Progress bars with rate and time left; silent where standard error is not a terminal."""

import contextlib
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import rich.console
import rich.progress


@runtime_checkable
class Advance(Protocol):
    """Reports progress: so much of the total is done; `note` says more in a few words."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


def silent(done: int, total: int, note: str = "") -> None:
    """A progress callback that does nothing."""


@contextlib.contextmanager
def bar(label: str) -> Iterator[Advance]:
    """A progress bar on standard error; yields a callback (`Advance`). It vanishes when done."""
    console = rich.console.Console(stderr=True)
    if not console.is_terminal:
        yield silent
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
        task = progress.add_task(label, total=None, rate="", note="")

        def advance(done: int, total: int, note: str = "") -> None:
            elapsed = progress.tasks[0].elapsed or 0.0
            rate = f"{done / elapsed:.1f}/s" if elapsed > 0 and done else ""
            progress.update(task, completed=done, total=total, rate=rate, note=note)

        yield advance
