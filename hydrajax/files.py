"""Files of a run: read with one clear sentence where they are faulty, written whole or not at all."""

import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hydrajax.types import DataError


def read_json(path: pathlib.Path) -> Mapping[str, Any]:
    """A JSON object from a file.

    Raises:
      DataError: there is no such file, or it holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: is broken JSON ({error})") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}: holds a {type(values).__name__}, expected an object")
    return values


def read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """JSON lines; none where there is no such file. A last line that was cut off by a kill is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def write_text(path: pathlib.Path, text: str) -> None:
    """A text, atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    # A tweet may hold half a surrogate pair, which no encoding can write.
    temporary.write_text(text, encoding="utf-8", errors="replace")
    temporary.replace(path)


def write_json(path: pathlib.Path, values: Any) -> None:
    """Strict JSON, atomically.

    Raises:
      ValueError: a number is not finite.
    """
    write_text(path, json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_lines(path: pathlib.Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines, atomically."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def append_line(path: pathlib.Path, row: Mapping[str, Any]) -> None:
    """One JSON line more at the end of a file."""
    with open(path, "a", encoding="utf-8", errors="replace") as file:
        file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def numbered_lines(path: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of a file, one a line, with the numbers of their lines; empty lines are passed over.

    Raises:
      DataError: the file cannot be read, or a line holds something else.
    """
    try:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise DataError(f"{path}, line {number}: is broken JSON ({error})") from error
                if not isinstance(row, dict):
                    raise DataError(f"{path}, line {number}: is {type(row).__name__}, expected an object")
                yield number, row
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
