"""From the rows of a data file to records, profiles and labels: what all readers share.

Each function reads one thing, says what is wrong with it in a sentence that starts with `where` (file and id), and
returns None for what cannot be used.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydrajax.data import faults as faults_lib
from hydrajax.data import tasks
from hydrajax.types import DataError, Record


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


def parse_json(text: str, where: str, line: int = 0) -> Any:
    """The value that a JSON text holds; `line` is the number of lines before it in its file."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno + line}, column {error.colno}"
        raise DataError(f"{where}: is broken JSON at {place} ({error.msg})") from None
    except RecursionError:
        raise DataError(f"{where}: is JSON nested too deeply to be read") from None


def text_of(value: Any) -> str | None:
    """A value as text: text as it is, numbers written out (5 and 5.0 as `5`), None for anything else."""
    if isinstance(value, str):
        return value
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


def read_profile(
    task: tasks.Task, rows: Any, where: str, faults: faults_lib.Faults
) -> tuple[dict[str, Record], bool] | None:
    """A profile's records by id in the order of the file, and whether all of them came with an id of their own.

    Records without an id are numbered by their place in the profile. Only the fields that the task reads are kept;
    an optional field that is missing reads as empty.
    """
    if not isinstance(rows, list):
        faults.add(f"{where}: has {kind_of(rows)} as 'profile', expected a list of records")
        return None
    fields = tuple((field, field in task.optional) for field in task.fields)
    records: dict[str, Record] = {}
    numbered: list[tuple[int, dict[str, Any]]] = []
    places: dict[str, int] = {}
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            faults.add(f"{where}: record number {place} is {kind_of(row)}, expected an object")
            continue
        if row.get("id") is None:
            numbered.append((place, row))
            continue
        record_id = read_id(row, f"{where}: record number {place}", faults)
        if record_id is None:
            continue
        if record_id in records:
            faults.add(f"{where}: record id {record_id!r} occurs more than once in the profile")
            continue
        record = _record(task, fields, row, record_id, where, faults)
        if record is not None:
            records[record_id] = record
            places[record_id] = place
    for place, row in numbered:
        record_id = _free(str(place), records)
        record = _record(task, fields, row, record_id, where, faults)
        if record is not None:
            records[record_id] = record
            places[record_id] = place
    if numbered:
        records = {key: records[key] for key in sorted(records, key=places.__getitem__)}
    return records, not numbered


def common_records(
    user_id: str, profiles: Sequence[tuple[str, Mapping[str, Record], bool]], where: str, faults: faults_lib.Faults
) -> tuple[dict[str, Record], str]:
    """The records that all profiles of one user hold, and a sentence about those that were left out (or nothing).

    Args:
      user_id: whose profiles they are.
      profiles: (question id, records by id, whether all records came with an id) of each different profile.
      where: the file.
      faults: gets records that have one id and different contents, and differing profiles that cannot be compared.
    """
    (first_question, first, has_ids), *others = profiles
    common = dict(first)
    union = set(first)
    for question_id, records, other_has_ids in others:
        pair = f"{where}: user {user_id!r}: the profiles of questions {first_question!r} and {question_id!r}"
        if not (has_ids and other_has_ids):
            faults.add(f"{pair} differ and hold records without an id; give each record an id or all the same profile")
            return {}, ""
        for record_id, record in records.items():
            if first.get(record_id, record) != record:
                faults.add(f"{pair} hold different records with the id {record_id!r}")
        union.update(records)
        common = {record_id: record for record_id, record in common.items() if record_id in records}
    if len(union) == len(common):
        return common, ""
    return common, (
        f"{where}: user {user_id!r}: {len(union) - len(common)} records are left out, "
        f"since not all profiles of the user's questions hold them"
    )


def oldest_first(records: Sequence[Record]) -> tuple[Record, ...]:
    """Sorted by date; records of one date keep their order, and records without a date come first."""
    return tuple(sorted(records, key=lambda record: record.date or ""))


def _record(
    task: tasks.Task,
    fields: tuple[tuple[str, bool], ...],
    row: Mapping[str, Any],
    record_id: str,
    where: str,
    faults: faults_lib.Faults,
) -> Record | None:
    """One record with every one of the `fields`, each given with whether it is optional."""
    texts: dict[str, str] = {}
    for field, optional in fields:
        value = row.get(field)
        if type(value) is not str:
            if value is None:
                if not optional:
                    what = "null as" if field in row else "no"
                    faults.add(f"{where}: record {record_id!r} has {what} field {field!r}, which {task.name} needs")
                    return None
                value = ""
            else:
                text = text_of(value)
                if text is None:
                    got = kind_of(value)
                    faults.add(f"{where}: record {record_id!r} has {got} as {field!r}, expected a text or a number")
                    return None
                value = text
        if field == task.answer and task.labels:
            label = read_label(task, value, f"{where}: record {record_id!r}, field {field!r}", faults)
            if label is None:
                return None
            value = label
        texts[field] = value
    date = row.get("date")
    if date is not None:
        date = text_of(date)
        if date is None:
            got = kind_of(row["date"])
            faults.add(f"{where}: record {record_id!r} has {got} as 'date', expected a text or a number")
            return None
    return Record(id=record_id, fields=texts, date=date or None)


def _free(wanted: str, taken: Mapping[str, Any]) -> str:
    while wanted in taken:
        wanted += "'"
    return wanted


def _neighbours(path: Path) -> str:
    """What is there instead of a missing file."""
    folder = path.parent
    if not folder.is_dir():
        return f" (there is no folder {folder})"
    names = sorted(entry.name for entry in folder.iterdir())[:12]
    return f"; the folder holds {', '.join(names)}" if names else "; the folder is empty"
