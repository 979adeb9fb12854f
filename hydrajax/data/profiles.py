"""Profiles: the records of a user, read once and compared between the user's questions."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydrajax.data import parsing, tasks
from hydrajax.types import DataError, Record, User


@dataclasses.dataclass(kw_only=True)
class Profiles:
    """The profiles of one file, as its rows bring them.

    Several rows of one user usually repeat the profile. Where their profiles differ, the user gets the records that
    all of them hold: what one question's profile adds may be the answer to another question.

    Attributes:
      task: which fields records have.
      file: how sentences call the file.
      errors: gets what cannot be used.
    """

    task: tasks.Task
    file: str
    errors: parsing.Errors
    _raw: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    _read: dict[str, list[tuple[str, dict[str, Record], bool]]] = dataclasses.field(default_factory=dict)
    _attributes: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    _ids: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)

    def read_user_id(self, row: Mapping[str, Any], where: str) -> str | None:
        """The `user_id` of a row as text; 1 and "1" may be two people, so a user is called by one of them throughout.

        Args:
          row: of the file.
          where: the place of the row, which sentences begin with.
        """
        user_id = parsing.read_id(row, where, self.errors, "user_id")
        if user_id is None:
            return None
        kind = parsing.kind_of(row["user_id"])
        first, there = self._ids.setdefault(user_id, (kind, where))
        if kind != first:
            place = there.removeprefix(self.file).lstrip(",: ")
            self.errors.add(f"{where}: 'user_id' {user_id!r} is {kind}, but {first} in {place}, expected one kind")
            return None
        return user_id

    def add(self, user_id: str, source: str, profile: Any) -> bool:
        """Takes the profile that the row `source` (for example `question '12'`) gives; whether it can be used."""
        # Comparing the raw lists spares reading the same profile once a question.
        if profile in self._raw.setdefault(user_id, []):
            return True
        read = read_profile(self.task, profile, f"{self.file}: {source}", self.errors)
        if read is None:
            return False
        self._raw[user_id].append(profile)
        self._read.setdefault(user_id, []).append((source, *read))
        return True

    def describe(self, user_id: str, source: str, attributes: Any) -> None:
        """Takes the attributes that the row `source` gives a user."""
        where = f"{self.file}: {source}"
        read = parsing.read_attributes(attributes, where, self.errors)
        if read is not None:
            parsing.join_attributes(self._attributes.setdefault(user_id, {}), read, where, self.errors)

    def users(self) -> tuple[dict[str, User], tuple[str, ...]]:
        """Every user by id, in the order of the file, and sentences about records that were left out."""
        users: dict[str, User] = {}
        notes: list[str] = []
        for user_id, profiles in self._read.items():
            records, left_out = _common(f"{self.file}: user {user_id!r}", profiles, self.errors)
            users[user_id] = User(
                id=user_id,
                profile=oldest_first(list(records.values())),
                attributes=self._attributes.get(user_id, {}),
            )
            notes.extend(left_out)
        return users, tuple(notes)


def read_users(path: Path, task: tasks.Task) -> dict[str, User]:
    """Users without questions, from a file: a JSON list, or JSON lines, of
    `{"user_id", "profile": [RECORD, ...], "attributes"?}`.

    Records and attributes are read as `custom` says.

    Raises:
      DataError: one sentence per fault with file and user, at most 20 of them.
    """
    errors = parsing.Errors()
    profiles = Profiles(task=task, file=str(path), errors=errors)
    seen: set[str] = set()
    nothing = True
    for where, row in _rows_of_users(path, errors):
        nothing = False
        user_id = profiles.read_user_id(row, where)
        unknown = [key for key in row if key not in ("user_id", "profile", "attributes")]
        if user_id is None:
            continue
        if unknown:
            errors.add(
                f"{where}: user {user_id!r} has the key {unknown[0]!r}, expected user_id, profile and attributes"
            )
        elif user_id in seen:
            errors.add(f"{where}: user {user_id!r} occurs more than once")
        else:
            profiles.add(user_id, f"user {user_id!r}", row.get("profile"))
            if "attributes" in row:
                profiles.describe(user_id, f"user {user_id!r}", row["attributes"])
        seen.add(user_id)
    if nothing and not errors.sentences:
        errors.add(f"{path}: holds no user, expected a JSON list or JSON lines of user_id and profile")
    users, _ = profiles.users()
    errors.settle()
    return users


def _rows_of_users(path: Path, errors: parsing.Errors) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a list or of lines, each with its place; a DataError where it is neither."""
    text = parsing.load_text(path)
    if not text.lstrip().startswith("["):
        if text.lstrip().startswith("{") and _is_json(text) and "\n" in text.strip():
            raise DataError(f"{path}: holds one object over several lines, expected a list of them, or one a line")
        yield from parsing.read_lines(path, errors)
        return
    for number, row in enumerate(parsing.parse_json(text, str(path))):
        if isinstance(row, dict):
            yield f"{path}: user number {number}", row
        else:
            errors.add(f"{path}: user number {number} is {parsing.kind_of(row)}, expected an object")


def _is_json(text: str) -> bool:
    try:
        parsing.parse_json(text, "")
    except DataError:
        return False
    return True


def read_profile(
    task: tasks.Task, profile: Any, where: str, errors: parsing.Errors
) -> tuple[dict[str, Record], bool] | None:
    """A profile's records by id in the order of the file, and whether all of them came with an id of their own.

    Records without an id are numbered by their place in the profile. Only the fields that the task reads are kept;
    an optional field that is missing reads as empty.
    """
    if not isinstance(profile, list):
        got = "no 'profile'" if profile is None else f"{parsing.kind_of(profile)} as 'profile'"
        errors.add(f"{where}: has {got}, expected a list of records ([] if it is empty)")
        return None
    fields = tuple((field, field in task.optional) for field in task.fields)
    records: dict[str, Record] = {}
    given = {parsing.text_of(row.get("id")) for row in profile if isinstance(row, dict)}
    rows = [_with_id(row, place, given) for place, row in enumerate(profile)]
    for record_id, row in parsing.read_rows(rows, where, "record", errors):
        record = _record(task, fields, row, record_id, where, errors)
        if record is not None:
            records[record_id] = record
    return records, rows == profile


def _with_id(row: Any, place: int, given: Collection[str | None]) -> Any:
    """The row, numbered by its place where it has no id."""
    if not isinstance(row, dict) or row.get("id") is not None:
        return row
    name = str(place)
    while name in given:
        name += "'"
    return {**row, "id": name}


def oldest_first(records: Sequence[Record]) -> tuple[Record, ...]:
    """Sorted by date; records of one date keep their order, and records without a date come first."""
    return tuple(sorted(records, key=lambda record: record.date or ""))


def _common(
    where: str, profiles: Sequence[tuple[str, Mapping[str, Record], bool]], errors: parsing.Errors
) -> tuple[dict[str, Record], tuple[str, ...]]:
    """The records that all profiles of one user hold, and a sentence about those that not all of them hold.

    Args:
      where: file and user.
      profiles: (source, records by id, whether all records came with an id) of each different profile.
      errors: gets records that share an id and differ, and differing profiles whose records have no ids.
    """
    (source, first, has_ids), *others = profiles
    common, union = dict(first), set(first)
    for other_source, records, other_has_ids in others:
        if not (has_ids and other_has_ids):
            errors.add(
                f"{where}: the profiles of {source} and {other_source} differ and hold records without an id; "
                "give every record an id, or the same profile to every question of the user"
            )
            return {}, ()
        for record_id, record in records.items():
            if first.get(record_id, record) != record:
                errors.add(f"{where}: record id {record_id!r} has one content in {source}, another in {other_source}")
        union.update(records)
        common = {record_id: record for record_id, record in common.items() if record_id in records}
    missing = len(union) - len(common)
    if not missing:
        return common, ()
    if not common:
        errors.add(
            f"{where}: its {len(profiles)} profiles have no record in common, so that none would be left; give the "
            "same profile to every question of the user"
        )
    are = "record is" if missing == 1 else "records are"
    why = "a user gets what all profiles of the user's questions hold, as one may hold the answer to another question"
    return common, (f"{where}: {missing} {are} left out: {why}",)


def _record(
    task: tasks.Task,
    fields: tuple[tuple[str, bool], ...],
    row: Mapping[str, Any],
    record_id: str,
    where: str,
    errors: parsing.Errors,
) -> Record | None:
    """One record with every one of the `fields`, each given with whether it is optional."""
    texts: dict[str, str] = {}
    for field, optional in fields:
        value = row.get(field)
        if value is None and optional:
            value = ""
        text = parsing.text_of(value)
        if text is None:
            got = parsing.kind_of(value) if field in row else "nothing"
            errors.add(f"{where}: record {record_id!r} has {got} as field {field!r}, which {task.name} needs as text")
            return None
        if field == task.answer and task.labels:
            text = parsing.read_label(task, text, f"{where}: record {record_id!r}, field {field!r}", errors)
            if text is None:
                return None
        texts[field] = text
    date = row.get("date")
    if date is not None:
        date = parsing.text_of(date)
        if date is None:
            got = parsing.kind_of(row["date"])
            errors.add(f"{where}: record {record_id!r} has {got} as 'date', expected {parsing.TEXT}")
            return None
    return Record(id=record_id, fields=texts, date=date or None)
