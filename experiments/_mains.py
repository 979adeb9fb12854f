"""What the experiments' entry points share: what cannot be run is refused in one sentence, before anything is asked."""

import contextlib
import pathlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from hydrajax.data import tasks
from hydrajax.llm import request
from hydrajax.types import DataError


@contextlib.contextmanager
def one_sentence(name: str) -> Iterator[None]:
    """Ends with 2 and `name: sentence` on bad input, with 130 when interrupted."""
    try:
        yield
    except (DataError, request.LLMError, ValueError) as error:
        _end(f"{name}: {error}", 2)
    except OSError as error:
        _end(f"{name}: {error.filename or 'a file'}: {error.strerror or error}", 2)
    except KeyboardInterrupt:
        _end(f"{name}: interrupted; every answer received is stored, the same command goes on", 130)


def check_numbers(options: Any, **least: int) -> None:
    """Refuses an option that is below its least value.

    Raises:
      DataError: one is.
    """
    for name, lowest in least.items():
        value = getattr(options, name)
        if value < lowest:
            raise DataError(f"--{name} is {value}, expected at least {lowest}")


def check_tasks(names: Sequence[str]) -> None:
    """Refuses a task that LaMP does not have.

    Raises:
      DataError: there is one, or there is none at all.
    """
    if not names:
        raise DataError(f"--tasks names none; valid are {', '.join(tasks.LAMP)}")
    for name in names:
        if name not in tasks.LAMP:
            raise DataError(f"unknown task {name!r}; valid are {', '.join(tasks.LAMP)}")


def check_out(folder: pathlib.Path) -> None:
    """Refuses a folder that cannot be written to; makes nothing.

    Raises:
      DataError: it is a file or stands below one, or nobody may write there.
    """
    there = next(part for part in (folder, *folder.absolute().parents) if part.exists())
    try:
        if not there.is_dir():
            raise DataError(f"{there}: is a file, expected a folder; give another --out")
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise DataError(f"{there}: cannot be written to ({error.strerror}); give another --out") from error


def _end(sentence: str, code: int) -> None:
    print(sentence, file=sys.stderr)
    raise SystemExit(code) from None
