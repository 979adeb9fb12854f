"""Progress bars with rate and time left; silent where standard error is not a terminal."""

import contextlib
from collections.abc import Callable, Iterator

import rich.console
import rich.progress

Advance = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """A progress callback that does nothing."""


@contextlib.contextmanager
def bar(label: str) -> Iterator[Advance]:
    """A progress bar on standard error; yields a callback `(done, total) -> None`. It vanishes when done."""
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
    )
    with rich.progress.Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=None, rate="")

        def advance(done: int, total: int) -> None:
            elapsed = progress.tasks[0].elapsed or 0.0
            rate = f"{done / elapsed:.1f}/s" if elapsed > 0 and done else ""
            progress.update(task, completed=done, total=total, rate=rate)

        yield advance
