"""Files, ids and labels as all readers read them.

Each `read_` function reads one thing, reports what is wrong with it in a sentence that starts with `where` (file and
id), and returns None for what cannot be used.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydrajax.data import faults as faults_lib
from hydrajax.data import tasks
from hydrajax.types import DataError


def load_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
      DataError: the file is missing, cannot be read, is no UTF-8 text, or is no JSON (with line and column).
    """
    return parse_json(load_text(path), str(path))


def load_text(path: Path) -> str:
    """The content of a UTF-8 text file, without a byte order mark.

    Raises:
      DataError: the file is missing, cannot be read, or is no UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: the file does not exist{_neighbours(path)}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


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

    Half of a surrogate pair, which no file or database can hold, becomes `?`.
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


def kind_of(value: Any) -> str:
    """How a sentence calls the type of a JSON value."""
    names = {type(None): "null", bool: "true or false", str: "a text", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")


def read_id(row: Mapping[str, Any], where: str, faults: faults_lib.Faults, key: str = "id") -> str | None:
    """The id of a row as text."""
    value = text_of(row.get(key))
    if value is None or not value.strip():
        got = f"{kind_of(row[key])}" if key in row and value is None else "nothing"
        faults.add(f"{where}: has {got} as {key!r}, expected a text or a number")
        return None
    return value


def read_label(task: tasks.Task, value: Any, where: str, faults: faults_lib.Faults) -> str | None:
    """What a user made of an input, as text: one of the task's labels where it has labels."""
    text = text_of(value)
    if text is None:
        faults.add(f"{where}: is {kind_of(value)}, expected a text or a number")
        return None
    if not task.labels:
        return text
    label = text.strip()
    if task.kind == "rating":
        label = label.removesuffix(".0")
    if label not in task.labels:
        faults.add(f"{where}: {text!r} is no label of {task.name}, expected one of: {', '.join(task.labels)}")
        return None
    return label


def read_gold(task: tasks.Task, value: Any, where: str, faults: faults_lib.Faults) -> str | None:
    """A gold output: a label, or a text that is not empty."""
    if value is None or (isinstance(value, str) and not value.strip()):
        faults.add(f"{where}: has {'no' if value is None else 'an empty'} output")
        return None
    return read_label(task, value, f"{where}: the output", faults)


def _neighbours(path: Path) -> str:
    """What is there instead of a missing file."""
    folder = path.parent
    if not folder.is_dir():
        return f" (there is no folder {folder})"
    names = sorted(entry.name for entry in folder.iterdir())[:12]
    return f"; the folder holds {', '.join(names)}" if names else "; the folder is empty"
