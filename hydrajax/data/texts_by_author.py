"""Texts and who wrote them: JSON lines of {author, file, text}, plain or gzipped, or a folder of folders."""

import collections
import dataclasses
import gzip
import json
import pathlib
import zlib
from collections.abc import Iterator, Sequence

from hydrajax.data import faults as faults_lib
from hydrajax.types import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text:
    """A text.

    Attributes:
      author: who wrote it.
      file: its name, unique within the source and author.
      text: not empty.
      source: name of the file or folder that it was read from.
    """

    author: str
    file: str
    text: str
    source: str


def read(paths: Sequence[pathlib.Path]) -> tuple[Text, ...]:
    """The texts of all files and folders, in their order.

    Raises:
      DataError: no path was given, or one twice; a path cannot be read; an entry is no text of an author; a file name
        occurs twice in a source. One sentence a fault.
    """
    if not paths:
        raise DataError("no texts were given, expected JSONL files of {author, file, text} or a folder of folders")
    twice = [path for path, times in collections.Counter(path.resolve() for path in paths).items() if times > 1]
    if twice:
        raise DataError(f"{twice[0]}: is given twice, expected every source once")
    short = len({path.name for path in paths}) == len(paths)
    faults = faults_lib.Faults()
    found: list[Text] = []
    for path in paths:
        source = path.name if short else str(path)
        entries = _folder(path, source, faults) if path.is_dir() else _lines(path, source, faults)
        seen: set[tuple[str, str]] = set()
        for text, where in entries:
            if (text.author, text.file) in seen:
                faults.add(f"{where}: file {text.file!r} of author {text.author!r} occurs more than once")
            seen.add((text.author, text.file))
            found.append(text)
        if not seen:
            faults.add(f"{path}: holds no text")
    faults.settle()
    return tuple(found)


def _lines(path: pathlib.Path, source: str, faults: faults_lib.Faults) -> Iterator[tuple[Text, str]]:
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                where = f"{path}, line {number}"
                if line.strip():
                    text = _parse(line, number, source, where, faults)
                    if text is not None:
                        yield text, where
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise faults.stop(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _parse(line: str, number: int, source: str, where: str, faults: faults_lib.Faults) -> Text | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        faults.add(f"{where}: is broken JSON ({error})")
        return None
    if not isinstance(row, dict):
        faults.add(f"{where}: is {type(row).__name__}, expected an object with author, file and text")
        return None
    for name in ("author", "text"):
        value = row.get(name)
        if not isinstance(value, str) or not value.strip():
            faults.add(f"{where}: {name} is {value!r}, expected a text that is not empty")
            return None
    return Text(author=row["author"], file=str(row.get("file") or f"line {number}"), text=row["text"], source=source)


def _folder(path: pathlib.Path, source: str, faults: faults_lib.Faults) -> Iterator[tuple[Text, str]]:
    for file in sorted(path.glob("*/*.txt")):
        name = f"{file.parent.name}/{file.name}"
        try:
            text = file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            faults.add(f"{file}: cannot be read ({getattr(error, 'strerror', None) or error})")
            continue
        if not text.strip():
            faults.add(f"{file}: is empty, expected a text")
            continue
        yield Text(author=file.parent.name, file=name, text=text, source=source), str(file)
