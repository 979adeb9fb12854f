"""Files, ids and labels as all readers of data read them, and what is wrong with them: gathered, and reported once.

Each `read_` function reads one thing, reports what is wrong with it in a sentence that starts with `where` (file and
id), and returns None for what cannot be used.
"""

import dataclasses
import gzip
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hydrajax.data import tasks
from hydrajax.types import DataError

LISTED = 20
TEXT = "a text or a finite number"
LONGEST_ATTRIBUTE = 200  # characters; every prompt of the user holds it


@dataclasses.dataclass(kw_only=True)
class Errors:
    """What is wrong with data, so far. `add` is for one item that could be left out, `stop` ends the reading.

    Attributes:
      skip_bad: bad items are left out and listed instead of refused.
      sentences: each with file and id, in the order in which they were added.
    """

    skip_bad: bool = False
    sentences: list[str] = dataclasses.field(default_factory=list)

    def add(self, sentence: str) -> None:
        self.sentences.append(sentence)

    def settle(self) -> tuple[str, ...]:
        """The sentences about what was skipped.

        Raises:
          DataError: there are any, and `skip_bad` is off.
        """
        if self.sentences and not self.skip_bad:
            raise self.stop()
        return tuple(self.sentences)

    def stop(self, *sentences: str) -> DataError:
        """The error to raise for what nothing can be read behind: at most `LISTED` sentences, those before included."""
        lines = [*self.sentences, *sentences]
        more = [f"... and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
        return DataError("\n".join([*lines[:LISTED], *more]))


def load_text(path: Path) -> str:
    """The content of a UTF-8 text file, gzipped where it is named so, without a byte order mark.

    Raises:
      DataError: the file is missing, cannot be read, or is no UTF-8 text.
    """
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig") as file:
            return file.read()
    except FileNotFoundError:
        raise DataError(f"{path}: the file does not exist{_neighbours(path)}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def read_lines(path: Path, errors: Errors) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a file of JSON lines, each with its place (file and line). Empty lines are passed over.

    Raises:
      DataError: as `load_text`.
    """
    for number, line in enumerate(load_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = parse_json(line, where)
        except DataError as error:
            errors.add(str(error))
            continue
        if isinstance(row, dict):
            yield where, row
        else:
            errors.add(f"{where}: is {kind_of(row)}, expected an object")


def parse_json(text: str, where: str) -> Any:
    """The value that a JSON text holds.

    Raises:
      DataError: it is no JSON; a text of several lines with line and column, one line with the column.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if text.lstrip().startswith("<"):
            raise DataError(f"{where}: is HTML, expected JSON; was the file downloaded from a wrong address?") from None
        line = f"line {error.lineno}, " if "\n" in text.rstrip() else ""
        raise DataError(f"{where}: is broken JSON at {line}column {error.colno} ({error.msg})") from None
    except RecursionError:
        raise DataError(f"{where}: is JSON nested too deeply to be read") from None
    except ValueError:
        raise DataError(f"{where}: holds a number of too many digits to be read") from None


def text_of(value: Any) -> str | None:
    """A value as text: text as it is, numbers written out (5 and 5.0 as `5`), None for anything else.

    Half of a surrogate pair, which no file or database can hold, becomes `?`. A number that is not finite is none.
    """
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return str(int(value)) if value.is_integer() else str(value)
    return str(value)


def unwritable(name: str) -> str:
    """What an id or a name holds that can't be written in one way alone, in words; empty where there is nothing."""
    if "\0" in name:
        return "a NUL character"
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"half a surrogate pair ({name[error.start]!a})"
    return ""


def kind_of(value: Any) -> str:
    """How a sentence calls the type of a JSON value; of a number that is not finite, which."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    names = {type(None): "null", bool: "true or false", str: "a text", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")


def read_id(row: Mapping[str, Any], where: str, errors: Errors, key: str = "id") -> str | None:
    """The id of a row as text."""
    raw = row.get(key)
    value, fault = text_of(raw), unwritable(raw) if isinstance(raw, str) else ""
    if value is None or not value.strip() or fault:
        got = "nothing" if key not in row else kind_of(raw) if value is None else "an empty text"
        got = f"a text with {fault}" if fault else got
        errors.add(f"{where}: has {got} as {key!r}, expected {TEXT}")
        return None
    return value


def read_attributes(value: Any, where: str, errors: Errors) -> dict[str, str] | None:
    """What data say of a person: short texts or numbers, by name."""
    if not isinstance(value, dict):
        errors.add(f"{where}: has {kind_of(value)} as 'attributes', expected an object of short texts")
        return None
    read = {name: text_of(given) for name, given in value.items()}
    for name, text in read.items():
        if fault := unwritable(name):
            errors.add(f"{where}: the name of attribute {name!r:.80} holds {fault}")
            return None
        if text is None or not text.strip() or not name.strip() or len(name) + len(text) > LONGEST_ATTRIBUTE:
            got = f"{value[name]!r:.80}" if text is not None else kind_of(value[name])
            errors.add(
                f"{where}: attribute {name!r:.80} is {got}, expected {TEXT}, with its name of at most "
                f"{LONGEST_ATTRIBUTE} characters"
            )
            return None
    return {name: text.strip() for name, text in read.items() if text is not None}


def join_attributes(known: dict[str, str], given: Mapping[str, str], where: str, errors: Errors) -> None:
    """Adds to what is known of a person what another row says; the two must not contradict each other."""
    for name, text in given.items():
        if known.setdefault(name, text) != text:
            errors.add(f"{where}: attribute {name!r} is {text!r:.80}, and elsewhere {known[name]!r:.80}")


def read_rows(rows: Iterable[Any], where: str, what: str, errors: Errors) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a list, each with its id, which may occur once.

    Args:
      rows: the list.
      where: the file, and whose list it is.
      what: the rows are, in the singular.
    """
    seen = set()
    for number, row in enumerate(rows):
        place = f"{where}: {what} number {number}"
        if not isinstance(row, dict):
            errors.add(f"{place} is {kind_of(row)}, expected an object")
        elif (row_id := read_id(row, place, errors)) in seen:
            errors.add(f"{where}: {what} id {row_id!r} occurs more than once")
        elif row_id is not None:
            seen.add(row_id)
            yield row_id, row


def read_label(task: tasks.Task, value: Any, where: str, errors: Errors) -> str | None:
    """What a user made of an input, as text: one of the task's labels where it has labels."""
    text = text_of(value)
    if text is None:
        errors.add(f"{where}: is {kind_of(value)}, expected {TEXT}")
        return None
    if not task.labels:
        return text
    label = text.strip()
    if task.kind == "rating":
        label = label.removesuffix(".0")
    if label not in task.labels:
        errors.add(f"{where}: {text!r} is no label of {task.name}, expected one of: {', '.join(task.labels)}")
        return None
    return label


def read_gold(task: tasks.Task, value: Any, where: str, errors: Errors) -> str | None:
    """A gold output: a label, or a text that is not empty."""
    if value is None or (isinstance(value, str) and not value.strip()):
        errors.add(f"{where}: has {'no' if value is None else 'an empty'} output")
        return None
    return read_label(task, value, f"{where}: the output", errors)


def _neighbours(path: Path) -> str:
    """What is there instead of a missing file."""
    folder = path.parent
    if not folder.is_dir():
        return f" (there is no folder {folder})"
    names = sorted(entry.name for entry in folder.iterdir())[:12]
    return f"; the folder holds {', '.join(names)}" if names else "; the folder is empty"
