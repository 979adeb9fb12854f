"""Files of a run: read with one clear sentence where they are faulty, written whole or not at all."""

import contextlib
import glob
import json
import os
import pathlib
import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import psutil

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
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is broken JSON ({error})") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}: holds a {type(values).__name__}, expected an object")
    return values


@contextlib.contextmanager
def undamaged(folder: pathlib.Path, what: str) -> Iterator[None]:
    """Where files of a folder do not hold what they were written with, the reader's stumble becomes a sentence.

    Args:
      folder: where they lie.
      what: which files.

    Raises:
      DataError: a key is missing, or a value is of another type.
    """
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(f"{folder}: {what} do not fit together, one of them is damaged ({error!r})") from error


def read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """The JSON objects of a file that lines are appended to; none where there is no such file.

    Lines that a kill cut off are left out.
    """
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]


def check_target(path: pathlib.Path) -> None:
    """Refuses to write where something else than a file is: a device must not become a file.

    Raises:
      DataError: there is a folder, a device or a pipe.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: is no file, expected a file or a new name")


def expanded(path: str | os.PathLike[str]) -> pathlib.Path:
    """A path, with ~ and ~name as the home folders that they stand for.

    Raises:
      DataError: it is no path, or there is no such home folder.
    """
    if not isinstance(path, (str, os.PathLike)) or "\0" in os.fspath(path):
        raise DataError(f"a path is {path!r:.80}, expected the path of a file or a folder")
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError as error:
        raise DataError(f"{path}: there is no such home folder") from error


@contextlib.contextmanager
def in_a_sentence(path: pathlib.Path, what: str) -> Iterator[None]:
    """Tells an OSError of its block as `path: what (reason)`.

    Raises:
      DataError: that.
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: {what} ({error.strerror or error})") from error


@contextlib.contextmanager
def replacing(path: pathlib.Path, *, binary: bool = False) -> Iterator[Any]:
    """A file to write text or bytes to, which takes the path's place at the end; after an error nothing has changed.

    What processes left beside it that were killed while they wrote is removed.

    Raises:
      OSError: it cannot be written.
      DataError: something else than a file is there.
    """
    check_target(path)
    path = path.resolve()  # where it is a link, what it links to is replaced
    start = f".{path.name}.{socket.gethostname()}."  # of other machines nothing is known
    temporary = path.with_name(f"{start}{os.getpid()}")
    try:
        for left in path.parent.glob(glob.escape(start) + "*"):
            number = left.name.removeprefix(start)
            if number.isdecimal() and not psutil.pid_exists(int(number)):
                left.unlink(missing_ok=True)
        # A tweet may hold half a surrogate pair, which no encoding can write.
        text: dict[str, Any] = {} if binary else {"encoding": "utf-8", "errors": "replace"}
        with open(temporary, "wb" if binary else "w", **text) as file:
            yield file
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_text(path: pathlib.Path, text: str) -> None:
    """A text, atomically."""
    with replacing(path) as file:
        file.write(text)


def write_bytes(path: pathlib.Path, data: bytes) -> None:
    """Bytes, atomically; they are on the disk when this returns."""
    with replacing(path, binary=True) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: pathlib.Path, values: Any) -> None:
    """Strict JSON, atomically.

    Raises:
      ValueError: a number is not finite.
    """
    write_text(path, json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_lines(path: pathlib.Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines, atomically."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


LONGEST_LINE = 2**16  # bytes of a line that is rewritten


def append_line(path: pathlib.Path, row: Mapping[str, Any], *, room: int = 0) -> int:
    """One JSON line more at the end of a file, on a line of its own also where the last one was cut off.

    Args:
      room: blanks at its end, for `rewrite_line`.

    Returns:
      where the line begins, in bytes.
    """
    with open(path, "a+b", buffering=0) as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - 1))
        cut = file.read(1) not in (b"", b"\n")
        line = _line(row) + b" " * room + b"\n"
        file.write(b"\n" * cut + line)
        return file.tell() - len(line)


def rewrite_line(path: pathlib.Path, start: int, row: Mapping[str, Any]) -> None:
    """Another JSON line in the place of one that `append_line` wrote; nothing where it does not fit there.

    It is written at once: nobody reads half of it, and a kill leaves the one or the other.
    """
    with open(path, "r+b", buffering=0) as file:
        file.seek(start)
        there = file.read(LONGEST_LINE).find(b"\n")
        line = _line(row)
        if len(line) <= there:
            file.seek(start)
            file.write(line.ljust(there))


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def numbered_lines(path: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of a file, one a line, with the numbers of their lines; empty lines are passed over.

    Raises:
      DataError: the file cannot be read, or a line holds something else.
    """
    try:
        with open(path, encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{path}, line {number}: is broken JSON ({error})") from error
                if not isinstance(row, dict):
                    raise DataError(f"{path}, line {number}: is {type(row).__name__}, expected an object")
                yield number, row
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
