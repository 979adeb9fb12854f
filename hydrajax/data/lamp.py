"""LaMP's own files: a folder with `{split}_questions.json` and `{split}_outputs.json`, read into a `Split`.

    {split}_questions.json = [{"id", "user_id"?, "input", "profile": [{"id"?, field: text, ..., "date"?}]}]
    {split}_outputs.json   = {"task", "golds": [{"id", "output"}]}

Format: LaMP (Salemi et al., ACL 2024, arXiv 2304.11406). `user_id` extends it: without one, a question is a user.
"""

import collections
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydrajax.data import parsing, tasks
from hydrajax.data import profiles as profiles_lib
from hydrajax.types import DataError, Query, Split

_KEYS = ("id", "user_id", "input", "profile")  # of a question


def read_split(folder: Path, task: tasks.Task, split: str, *, skip_bad: bool = False) -> tuple[Split, tuple[str, ...]]:
    """Reads one split of a task from LaMP's two JSON files.

    Questions with the same `user_id` belong to one user and share the profile; of profiles that differ, the user gets
    the records that all of them hold (see `profiles.Profiles`).
    A profile is sorted by date, oldest record first; records of one date keep the order of the file. Records without
    an id are numbered by their place in the file. Numbers as values are read as text.

    Args:
      folder: holds `{split}_questions.json` and `{split}_outputs.json`, for example `DIR/LaMP_7`.
      task: the row of `tasks.LAMP` that the folder holds.
      split: `train`, `dev`, ...
      skip_bad: leave bad questions and records out instead of refusing the split.

    Returns:
      the split, and one sentence for everything that was left out.

    Raises:
      DataError: one sentence per fault with file and id, at most 20 of them; with `skip_bad` only for what nothing
        can be read behind: a missing file, broken JSON, the files of another task.
    """
    return read_files(*files(folder, split), task, split, skip_bad=skip_bad)


def files(folder: Path, split: str) -> tuple[Path, Path]:
    """A split's files: questions, outputs."""
    return Path(folder) / f"{split}_questions.json", Path(folder) / f"{split}_outputs.json"


def read_files(
    questions_file: Path, outputs_file: Path, task: tasks.Task, split: str, *, skip_bad: bool = False
) -> tuple[Split, tuple[str, ...]]:
    """`read_split` for two files of any name."""
    errors = parsing.Errors(skip_bad=skip_bad)
    questions, outputs = _load(questions_file, list, errors), _load(outputs_file, dict, errors)
    if questions is None or outputs is None:
        raise errors.stop()
    if not questions:
        raise DataError(f"{questions_file}: is an empty list, expected questions")
    _check_task(outputs, task, outputs_file)
    golds = _golds(outputs, task, outputs_file, errors)
    profiles = profiles_lib.Profiles(task=task, file=str(questions_file), errors=errors)
    queries = _queries(questions, golds, profiles, outputs_file)
    users, left_out = profiles.users()
    skipped = errors.settle()
    return Split(name=split, users=users, queries=tuple(queries)), (
        *skipped,
        *left_out,
        *_unread(questions_file, questions),
    )


def _unread(path: Path, questions: Sequence[Any]) -> list[str]:
    """Keys of questions that nothing reads, a sentence a key; the benchmark's own files may have more than these."""
    times = collections.Counter(key for row in questions if isinstance(row, dict) for key in row if key not in _KEYS)
    return [
        f"{path}: the key {key!r} of {count:,} questions is not read, known are {', '.join(_KEYS)}"
        for key, count in times.items()
    ]


def _load(path: Path, expected: type, errors: parsing.Errors) -> Any:
    try:
        content = parsing.parse_json(parsing.load_text(path), str(path))
    except DataError as error:
        errors.add(str(error))
        return None
    if not isinstance(content, expected):
        wanted = "a list of questions" if expected is list else "an object with 'task' and 'golds'"
        errors.add(f"{path}: holds {parsing.kind_of(content)}, expected {wanted}")
        return None
    return content


def _check_task(outputs: Mapping[str, Any], task: tasks.Task, path: Path) -> None:
    """The outputs may be without a task's name, and `LaMP_2` is short for both of its versions."""
    name = outputs.get("task")
    if name is None:
        return
    short = "LaMP_2" if task.name in ("LaMP_2M", "LaMP_2N") else task.name
    if not isinstance(name, str) or name.replace("-", "_") not in (task.name, short):
        raise DataError(f"{path}: holds the outputs of task {name!r}, expected {task.name!r}")


def _golds(outputs: Mapping[str, Any], task: tasks.Task, path: Path, errors: parsing.Errors) -> dict[str, str | None]:
    """Gold by question id; None for one that cannot be used, which is already reported."""
    golds: dict[str, str | None] = {}
    entries = outputs.get("golds")
    if not isinstance(entries, list):
        raise errors.stop(f"{path}: has {parsing.kind_of(entries)} as 'golds', expected a list of ids and outputs")
    for question_id, row in parsing.read_rows(entries, str(path), "gold", errors):
        golds[question_id] = parsing.read_gold(task, row.get("output"), f"{path}: gold {question_id!r}", errors)
    return golds


def _queries(
    questions: list[Any], golds: dict[str, str | None], profiles: profiles_lib.Profiles, outputs_file: Path
) -> list[Query]:
    """The queries in the order of the file; their profiles are added to `profiles`."""
    task, path, errors = profiles.task, profiles.file, profiles.errors
    queries: list[Query] = []
    seen: set[str] = set()
    by_user = any(isinstance(row, dict) and row.get("user_id") is not None for row in questions)
    for question_id, row in parsing.read_rows(questions, path, "question", errors):
        where = f"{path}: question {question_id!r}"
        seen.add(question_id)
        user_id = profiles.read_user_id(row, where) if by_user else question_id
        if user_id is None:
            continue
        if not profiles.add(user_id, f"question {question_id!r}", row.get("profile")):
            continue
        inputs = _inputs(task, row.get("input"), where, errors)
        if question_id not in golds:
            errors.add(f"{where}: has no gold in {outputs_file.name}")
            continue
        gold = golds[question_id]
        if inputs is not None and gold is not None:
            queries.append(Query(id=question_id, user_id=user_id, inputs=inputs, gold=gold))
    for question_id in golds:
        if question_id not in seen:
            errors.add(f"{outputs_file}: gold {question_id!r} has no question in {Path(path).name}")
    return queries


def _inputs(task: tasks.Task, text: Any, where: str, errors: parsing.Errors) -> dict[str, str] | None:
    if not isinstance(text, str):
        errors.add(f"{where}: has {'no' if text is None else parsing.kind_of(text) + ' as'} 'input', expected a text")
        return None
    try:
        return task.parse_input(parsing.text_of(text) or "")
    except DataError as error:
        errors.add(f"{where}: the input {error}")
        return None
