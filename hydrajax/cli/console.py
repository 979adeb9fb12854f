"""Standard output, and what is said beside it."""

import sys

import rich.console


def stdout() -> rich.console.Console:
    """Prints tables: as wide as the terminal, or 200 columns where there is none."""
    return rich.console.Console() if sys.stdout.isatty() else rich.console.Console(soft_wrap=True, width=200)


def say(line: str) -> None:
    """A line on standard error, at once."""
    print(line, file=sys.stderr, flush=True)
