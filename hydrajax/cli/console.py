"""The terminal: arguments read from it, results and sentences printed to it."""

import contextlib
import io
import sys
import traceback
from collections.abc import Collection, Sequence
from typing import Any

import rich.console
import tyro

from hydrajax.types import DataError


def stdout() -> rich.console.Console:
    """Prints tables: as wide as the terminal, or 200 columns where there is none."""
    return rich.console.Console() if sys.stdout.isatty() else rich.console.Console(soft_wrap=True, width=200)


def counted(number: int, noun: str) -> str:
    """`1 user`, `2,000 users`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def say(line: str) -> None:
    """A line on standard error, at once."""
    print(line, file=sys.stderr, flush=True)


def parsed(form: Any, **options: Any) -> Any:
    """What tyro makes of the arguments, save where a configuration refuses a setting in its own words.

    tyro would print them in a frame, behind names of its own.

    Raises:
      ValueError: a setting is refused.
    """
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return tyro.cli(form, **options)
    except SystemExit as stopped:
        if not stopped.code:
            raise
        error: BaseException | None = stopped
        while error is not None:
            if isinstance(error, ValueError) and _raised_beyond_tyro(error):
                raise error from None
            error = error.__context__
    # Once more, to be heard. Of a program tyro tells the first word alone where it says in which help an option stands.
    with contextlib.redirect_stderr(_Spaced(sys.stderr)):
        return tyro.cli(form, **options | {"prog": options["prog"].replace(" ", _JOINED)})


_JOINED = "\N{NO-BREAK SPACE}"


class _Spaced:
    """A stream that prints plain spaces for those that do not break."""

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes."""
        return int(self._stream.write(text.replace(_JOINED, " ")))


def as_typed(sentence: str, arguments: Sequence[str]) -> str:
    """A sentence on a setting, `NAME is VALUE, expected ...`, that calls it by the option that set it."""
    name, is_, rest = sentence.partition(" is ")
    for argument in arguments:
        option = argument.partition("=")[0]
        field = option.removeprefix("--").replace("-", "_")
        if option.startswith("--") and is_ and (field == name or field.endswith(f".{name}")):
            return f"{option}{is_}{rest}"
    return sentence


def _raised_beyond_tyro(error: BaseException) -> bool:
    names = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(name.partition(".")[0] not in ("tyro", *sys.stdlib_module_names) for name in names)


def check_word(what: str, arguments: Sequence[str], valid: Collection[str]) -> None:
    """Refuses a first word that is none of the valid ones; no word at all, or an option, is the parser's to judge.

    Raises:
      DataError: naming the valid ones.
    """
    first = next(iter(arguments), "-")
    if not first.startswith("-") and first not in valid:
        raise DataError(f"unknown {what} {first!r}, expected one of {', '.join(valid)}")
