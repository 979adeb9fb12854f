"""A task of one's own: declared in a small TOML file, its data in JSON lines.

The file of the task, with every key that it may have:

    name = "reply_tone"
    kind = "generation"                    # classification, rating or generation: decides the metrics
    template = "Answer this message: {message}"
    answer = "reply"                       # the record field that the user wrote; default: output
    inputs = {message = "message"}         # slot = record field; default: every slot has the field of its name
    item = ["message"]                     # the inputs' fields that say what a record is on; default: all of them
    corpus = ["message", "reply"]          # what the retriever searches; default: the inputs' fields
    optional = []                          # record fields that may be missing
    labels = []                            # the valid answers, of classification and rating; {labels} quotes them
    record_line = 'the answer to "{message}" is "{reply}" '
    record_close = ""
    demonstration = "Write a reply."       # needed where inputs = {}: records hold only what the user wrote
    max_answer_tokens = 64

Needed are name, kind and template, and labels for classification and rating. With `inputs = {}` pseudo-queries are
paraphrased records (see `pseudo`).

The data, `{split}.jsonl`, is one question a line, or one user a line, or both mixed:

    {"id": "q1", "user_id": "ann", "inputs": {"message": "..."}, "output": "...", "profile": [RECORD, ...]}
    {"user_id": "ann", "profile": [RECORD, ...], "queries": [{"id": "q1", "inputs": {...}, "output": "..."}]}

RECORD is {"id"?, field: text, ..., "date"?}. Without any `user_id` in the file, a question is a user. A task with one
slot may give `"input": "..."` for `"inputs"`. A question may leave its profile to another line of its user. A line may
say what is known of its user, for prompts: `"attributes": {"age": 34, "occupation": "nurse"}`, short texts or numbers.
"""

import collections
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from hydrajax.data import parsing, tasks
from hydrajax.data import profiles as profiles_lib
from hydrajax.types import DataError, Query, Split

_KEYS = ("id", "user_id", "inputs", "input", "output", "profile", "queries", "attributes")  # of a line
KINDS = tuple(kind for kind in get_args(tasks.Kind) if kind != "reward")
_TYPES: Mapping[str, tuple[type, str]] = {
    "name": (str, "a text"),
    "kind": (str, "a text"),
    "template": (str, "a text"),
    "answer": (str, "a text"),
    "inputs": (dict, "a table of slot = record field"),
    "item": (list, "a list of record fields"),
    "corpus": (list, "a list of record fields"),
    "optional": (list, "a list of record fields"),
    "labels": (list, "a list of labels"),
    "record_line": (str, "a text"),
    "record_close": (str, "a text"),
    "demonstration": (str, "a text"),
    "max_answer_tokens": (int, "a number"),
}


def read_task(path: Path) -> tasks.Task:
    """Reads the declaration of a task.

    Raises:
      DataError: one sentence for everything that is wrong with it.
    """
    path = Path(path)
    try:
        declared = tomllib.loads(parsing.load_text(path))
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path}: is broken TOML ({error})") from None
    _refuse(path, _wrong_keys(declared))
    slots = tasks.slots_of(declared["template"])
    inputs = {str(slot): field for slot, field in declared.get("inputs", {slot: slot for slot in slots}).items()}
    labels = tuple(parsing.text_of(label) for label in declared.get("labels", ()))
    _refuse(path, _wrong_values(declared, slots, inputs, labels))
    answer = declared.get("answer", "output")
    quoted = " ".join(f'"{{{field}}}"' for field in inputs.values())
    values = {
        "record_line": f'the answer to {quoted} is "{{{answer}}}" ' if inputs else f'"{{{answer}}}" ',
        **declared,
        "inputs": inputs,
        "answer": answer,
        "corpus": tuple(declared.get("corpus", inputs.values() or [answer])),
        "item": tuple(declared.get("item", ())),
        "optional": tuple(declared.get("optional", ())),
        "labels": labels,
        "pseudo_query": "record" if inputs else "paraphrase",
    }
    task = tasks.Task(**values)
    unknown = [field for field in task.optional if field not in task.fields]
    if unknown:
        raise DataError(f"{path}: optional names the field {unknown[0]!r}, expected some of {', '.join(task.fields)}")
    return task


def _refuse(path: Path, wrong: Iterable[str]) -> None:
    errors = parsing.Errors()
    for sentence in wrong:
        errors.add(f"{path}: {sentence}")
    errors.settle()


def read_split(folder: Path, task: tasks.Task, split: str, *, skip_bad: bool = False) -> tuple[Split, tuple[str, ...]]:
    """Reads `{folder}/{split}.jsonl`; profiles, ids, numbers and dates are treated as `lamp.read_split` treats them.

    Args:
      folder: holds `{split}.jsonl`.
      task: what the queries and records hold.
      split: `train`, `dev`, ...
      skip_bad: leave bad lines, questions and records out instead of refusing the split.

    Returns:
      the split, and one sentence for everything that was left out.

    Raises:
      DataError: one sentence per fault with file and id (or line), at most 20 of them; with `skip_bad` only where the
        file is missing or no text.
    """
    path = Path(folder) / f"{split}.jsonl"
    errors = parsing.Errors(skip_bad=skip_bad)
    lines = list(parsing.read_lines(path, errors))
    if not lines and not errors.sentences:
        raise DataError(f"{path}: is empty, expected a user or a question a line")
    profiles = profiles_lib.Profiles(task=task, file=str(path), errors=errors)
    _check_names(path, task, [row for _, row in lines])
    _check_keys(path, lines, errors)
    by_user = any(row.get("user_id") is not None for _, row in lines)
    queries: list[Query] = []
    owners: dict[str, str] = {}
    for where, row in lines:
        is_user = "queries" in row
        user_id = profiles.read_user_id(row, _name(where, row)) if by_user else None
        if by_user and user_id is None:
            continue
        if is_user and not by_user:
            errors.add(f"{where}: holds 'queries' of one user, expected a 'user_id'")
            continue
        questions = row["queries"] if is_user else [row]
        if not isinstance(questions, list) or not all(isinstance(question, dict) for question in questions):
            errors.add(f"{where}: user {user_id!r} has no list of objects as 'queries'")
            continue
        owner = user_id if user_id is not None else parsing.text_of(row.get("id"))
        source = f"user {user_id!r}" if is_user else f"question {parsing.text_of(row.get('id'))!r}"
        if "attributes" in row and owner is not None:
            profiles.describe(owner, source, row["attributes"])
        has_profile = "profile" in row or is_user or not by_user
        if has_profile and owner is not None and not profiles.add(owner, source, row.get("profile")):
            continue
        for question in questions:
            _ask(task, question, user_id, where, queries, owners, errors)
    users, left_out = profiles.users()
    for question_id, owner in owners.items():
        if owner not in users:
            errors.add(
                f"{path}: question {question_id!r}: no line gives a profile of user {owner!r} ([] if it is empty)"
            )
    skipped = errors.settle()
    asked = tuple(query for query in queries if query.user_id in users)
    return Split(name=split, users=users, queries=asked), (*skipped, *left_out)


def _check_names(path: Path, task: tasks.Task, rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuses a task whose declaration names what nothing in the data has: one sentence instead of one a record.

    Raises:
      DataError: naming the slot, or the field.
    """
    questions = [question for row in rows for question in _objects(row.get("queries", [row]))]
    given = [inputs for question in questions if isinstance(inputs := question.get("inputs"), dict)]
    records = [record for row in rows for record in _objects(row.get("profile"))]
    named = (
        ("question", "input", "template", task.slots, given),
        ("record", "field", "declaration", [field for field in task.fields if field not in task.optional], records),
    )
    for what, kind, where, names, found in named:
        there = dict.fromkeys(name for one in found for name in one)
        for name in names:
            if len(found) > 1 and name not in there:
                raise DataError(
                    f"{path}: no {what} has the {kind} {name!r}, which the {where} of task {task.name!r} names; they "
                    f"have {', '.join(there) or 'none'}"
                )


def _check_keys(path: Path, lines: Sequence[tuple[str, Mapping[str, Any]]], errors: parsing.Errors) -> None:
    """Reports keys of lines and of their questions that nothing reads, a sentence a key."""
    first: dict[str, str] = {}
    times: collections.Counter[str] = collections.Counter()
    for where, row in lines:
        for part in (row, *_objects(row.get("queries"))):
            # What is neither a question nor a user is spoken of where it is read.
            unknown = [key for key in part if key not in _KEYS] if "id" in part or "queries" in part else []
            times.update(unknown)
            first.update({key: where for key in unknown if key not in first})
    for key, where in first.items():
        more = f" ({times[key]} times in this file)" if times[key] > 1 else ""
        errors.add(f"{where}: has the unknown key {key!r}{more}, expected some of {', '.join(_KEYS)}")


def _objects(rows: Any) -> list[dict[str, Any]]:
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _ask(
    task: tasks.Task,
    row: Mapping[str, Any],
    user_id: str | None,
    where: str,
    queries: list[Query],
    owners: dict[str, str],
    errors: parsing.Errors,
) -> None:
    """Adds one question to `queries` if it can be used, and its user to `owners` all the same."""
    unknown = [key for key in row if key not in _KEYS]
    if "id" not in row and unknown:
        errors.add(f"{where}: has no 'id', and the unknown key {unknown[0]!r}, expected some of {', '.join(_KEYS)}")
        return
    question_id = parsing.read_id(row, where, errors)
    if question_id is None:
        return
    where = f"{where}: question {question_id!r}"
    if question_id in owners:
        errors.add(f"{where}: this question id occurs more than once")
        return
    owners[question_id] = question_id if user_id is None else user_id
    inputs = _inputs(task, row, where, errors)
    gold = parsing.read_gold(task, row.get("output"), where, errors)
    if inputs is not None and gold is not None:
        queries.append(Query(id=question_id, user_id=owners[question_id], inputs=inputs, gold=gold))


def _inputs(task: tasks.Task, row: Mapping[str, Any], where: str, errors: parsing.Errors) -> dict[str, str] | None:
    given = row.get("inputs")
    if given is None and len(task.slots) == 1 and "input" in row:
        given = {task.slots[0]: row["input"]}
    if not isinstance(given, dict):
        errors.add(
            f"{where}: has {parsing.kind_of(given)} as 'inputs', expected an object with {', '.join(task.slots)}"
        )
        return None
    unknown = [slot for slot in given if slot not in task.slots]
    if unknown:
        errors.add(f"{where}: has the input {unknown[0]!r}, expected {', '.join(task.slots)}")
        return None
    inputs = {}
    for slot in task.slots:
        text = parsing.text_of(given.get(slot))
        if text is None or not text.strip():
            got = "no text" if text is not None or slot not in given else parsing.kind_of(given[slot])
            errors.add(f"{where}: has {got} as input {slot!r}, expected {parsing.TEXT}")
            return None
        inputs[slot] = text
    return inputs


def _name(where: str, row: Mapping[str, Any]) -> str:
    question_id = parsing.text_of(row.get("id"))
    return where if question_id is None else f"{where}: question {question_id!r}"


def _wrong_keys(declared: Mapping[str, Any]) -> Iterator[str]:
    """What can be said before the values are looked at."""
    for key, value in declared.items():
        if key not in _TYPES:
            yield f"unknown key {key!r}, expected some of {', '.join(_TYPES)}"
        elif not isinstance(value, _TYPES[key][0]) or isinstance(value, bool):
            yield f"{key} is {value!r}, expected {_TYPES[key][1]}"
    for key in ("name", "kind", "template"):
        if key not in declared:
            yield f"has no {key}, which every task needs"


def _wrong_values(
    declared: Mapping[str, Any], slots: Sequence[str], inputs: Mapping[str, Any], labels: tuple[str | None, ...]
) -> Iterator[str]:
    name, kind = declared["name"], declared["kind"]
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        yield f"name is {name!r}, expected letters, digits, '_', '-' and '.'"
    if name in tasks.LAMP:
        yield f"name is {name!r}, which is a task of LaMP; choose another name"
    if kind not in KINDS:
        yield f"kind is {kind!r}, expected one of {', '.join(KINDS)}"
    if not slots:
        brace = re.search(r"\{[^{}]*\}?", declared["template"].replace("{labels}", ""))
        got = f" ({brace[0]!r} is none)" if brace else ""
        yield f"template has no slot for the input{got}, expected one like {{text}}"
    for key in ("template", "record_line", "demonstration"):
        if slots and (stray := _stray_brace(declared.get(key, ""))):
            yield f"{key} has a stray brace in {stray!r}, expected braces around a name alone, like {{text}}"
    for slot, field in inputs.items():
        if slot not in slots:
            yield f"inputs names the slot {slot!r}, the template has {', '.join(slots) or 'none'}"
        if not isinstance(field, str):
            yield f"inputs gives {field!r} to slot {slot!r}, expected the name of a record field"
    missing = [slot for slot in slots if inputs and slot not in inputs]
    if missing:
        yield f"inputs says of slot {missing[0]!r} nothing, expected the record field that fills it"
    for key in ("corpus", "optional", "item"):
        if not all(isinstance(field, str) for field in declared.get(key, ())):
            yield f"{key} is {declared[key]!r}, expected a list of record fields"
    unknown = [field for field in declared.get("item", ()) if field not in inputs.values()]
    if unknown:
        valid = ", ".join(map(str, inputs.values())) or "none"
        yield f"item names the field {unknown[0]!r}, expected some of the inputs' fields, {valid}"
    if declared.get("corpus") == []:
        yield "corpus is empty, expected at least one record field"
    if slots and not inputs and "demonstration" not in declared:
        yield "inputs is empty, which needs a demonstration: what the user is asked when a record is shown as an answer"
    if not inputs and len(slots) > 1:
        yield f"inputs is empty, which needs a template with one slot, got {', '.join(slots)}"
    if declared.get("max_answer_tokens", 1) < 1:
        yield f"max_answer_tokens is {declared['max_answer_tokens']}, expected at least 1"
    yield from _wrong_labels(kind, declared["template"], labels)


def _stray_brace(text: str) -> str:
    """The beginning of what a brace without its other one opens or closes, or of a slot with blanks in its braces.

    Braces that have their other one may stand for themselves, around what is no name.
    """
    # Slots, and then what is balanced, are taken out from the inside; places stay.
    left = re.sub(r"\{\w+\}", lambda slot: "_" * len(slot[0]), text)
    if padded := re.search(r"\{\s*\w+\s*\}", left):
        return padded[0]
    while (smaller := re.sub(r"\{[^{}]*\}", lambda pair: "_" * len(pair[0]), left)) != left:
        left = smaller
    lone = re.search(r"[{}]", left)
    return text[lone.start() : lone.start() + 20] if lone else ""


def _wrong_labels(kind: str, template: str, labels: tuple[str | None, ...]) -> Iterator[str]:
    texts = [label for label in labels if label is not None and label.strip() == label != ""]
    if len(texts) < len(labels):
        yield f"labels are {list(labels)!r}, expected texts or numbers without blanks around them"
    if len({text.lower() for text in texts}) < len(texts):
        yield "labels hold one label twice (capitals make no difference)"
    if kind in ("classification", "rating") and len(labels) < 2:
        yield f"kind {kind!r} needs at least 2 labels, got {len(labels)}"
    if kind == "generation" and labels:
        yield "kind 'generation' has no labels; for labels, kind is 'classification' or 'rating'"
    if kind == "rating" and not all(re.fullmatch(r"-?\d+(\.\d+)?", text) for text in texts):
        yield f"kind 'rating' needs numbers as labels, got {', '.join(texts)}"
    if "{labels}" in template and not labels:
        yield "template quotes {labels}, but there are none"
