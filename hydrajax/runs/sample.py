"""Requests from a file, answers into a file: the sampler by itself.

in    {"id", "messages": [{"role", "content"}, ...], "n", "max_tokens", "system"?, "temperature"?, "user"?}
out   {"id", "sample", "text", "stop_reason", "input_tokens", "output_tokens"}, or {"id", "sample", "error"}
"""

import contextlib
import json
import logging
import pathlib
from collections.abc import Iterator
from typing import Any

from hydrajax import files, progress
from hydrajax.llm import models, request, sampler
from hydrajax.types import DataError, Message

_log = logging.getLogger(__name__)

PORTION = 20_000  # requests that are in memory at once, with their answers
_FIELDS = {"id", "messages", "n", "max_tokens", "system", "temperature", "user"}


def sample(
    source: pathlib.Path,
    target: pathlib.Path,
    llm: sampler.StoredSampler,
    *,
    portion: int = PORTION,
    bar: sampler.Bar = sampler.answers_bar,
) -> tuple[int, int]:
    """Samples every line of `source`, and writes `target` when all is done.

    What was received before an interruption is in the store, so that a repeated call goes on from there.

    Args:
      source: requests, a JSON object a line.
      target: answers in the order of the requests, written whole or not at all.
      llm: samples.
      portion: requests that are in memory at once; with batches, one batch's worth or more. All batches are submitted
        before the first is waited for.
      bar: makes a progress bar.

    Returns:
      how many answers were written, and how many permanent failures.

    Raises:
      DataError: a line is no request, or an id occurs twice (nothing is sent then), or `target` cannot be written.
      LLMError, KeyboardInterrupt: see `StoredSampler.sample_all`.
    """
    if target.resolve() == source.resolve() or llm.store.is_part(target):
        raise DataError(f"{target}: is the input or the store, expected another file for the answers")
    if source.exists() and not source.is_file():
        raise DataError(f"{source}: is no file, expected one: it is read more than once")
    files.check_target(target)
    total = _check(source, llm.model)
    if not target.parent.is_dir():
        raise DataError(f"{target}: there is no folder {target.parent}")
    if total > portion:
        for part in _portions(source, portion):
            llm.submit([wanted for _, wanted in part])
    answers = failures = 0
    with files.in_a_sentence(target, "cannot be written"), files.replacing(target) as file, bar(source.name) as advance:
        for part in _portions(source, portion):
            whole = _whole(advance, answers + failures, len(part), total)
            outcome = llm.sample_all([wanted for _, wanted in part], stage=source.name, bar=whole)
            for i, ((line_id, wanted), answer) in enumerate(zip(part, outcome.answers, strict=True)):
                row: dict[str, Any] = {"id": line_id, "sample": wanted.sample}
                if answer is None:
                    row["error"] = str(outcome.failures[i])
                    failures += 1
                else:
                    names = ("text", "stop_reason", "input_tokens", "output_tokens")
                    row |= {name: getattr(answer, name) for name in names}
                    answers += 1
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return answers, failures


def _whole(advance: progress.Advance, before: int, here: int, everything: int) -> sampler.Bar:
    """A bar of one portion that moves the bar of all."""

    def moved(done: int, total: int, note: str = "") -> None:
        advance(before + here - total + done, everything, note)

    return lambda stage: contextlib.nullcontext(moved)


def _check(source: pathlib.Path, model: str) -> int:
    """The number of answers that are asked for."""
    seen: set[Any] = set()
    total, warm = 0, False
    for number, row in _lines(source):
        if row["id"] in seen:
            raise DataError(f"{source}, line {number}: id {row['id']!r} occurs twice")
        seen.add(row["id"])
        total += row.get("n", 1)
        warm = warm or row.get("temperature") is not None
    if not seen:
        raise DataError(f"{source}: holds no request")
    known = models.find(model)
    if warm and not known.temperature:
        _log.warning("%s takes no temperature: those of the requests are left out", model)
    if known.thinks:
        _log.warning("%s cannot but think: %d tokens are added to every max_tokens", model, models.THINKING_TOKENS)
    return total


def _portions(source: pathlib.Path, size: int) -> Iterator[list[tuple[Any, request.Request]]]:
    portion: list[tuple[Any, request.Request]] = []
    for _, row in _lines(source):  # checked again: the file may have changed
        for wanted in _requests(row):
            portion.append((row["id"], wanted))
            if len(portion) >= size:
                yield portion
                portion = []
    if portion:
        yield portion


def _lines(source: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, row in files.numbered_lines(source):
        if fault := _fault(row):
            raise DataError(f"{source}, line {number}: {fault}")
        yield number, row


def _requests(row: dict[str, Any]) -> Iterator[request.Request]:
    messages = tuple(Message(role=m["role"], text=m["content"]) for m in row["messages"])
    temperature = row.get("temperature")
    for i in range(row.get("n", 1)):
        yield request.Request(
            messages=messages,
            max_tokens=row["max_tokens"],
            temperature=None if temperature is None else float(temperature),
            system=row.get("system"),
            sample=i,
            group=str(row.get("user", row["id"])),
        )


def _fault(row: dict[str, Any]) -> str | None:
    unknown = sorted(set(row) - _FIELDS)
    missing = [name for name in ("id", "messages", "max_tokens") if name not in row]
    if unknown or missing:
        wrong = f"has no {', '.join(missing)}" if missing else f"has the unknown {', '.join(unknown)}"
        return f"{wrong}; expected {', '.join(sorted(_FIELDS))} (n, system, temperature and user may be left out)"
    for name in ("id", "user"):
        if name in row and type(row[name]) not in (str, int):
            return f"{name} is {row[name]!r}, expected a text or a whole number"
    for name in ("n", "max_tokens"):
        value = row.get(name, 1)
        if type(value) is not int or not 1 <= value < 2**31:
            return f"{name} is {value!r}, expected a whole number from 1 to 2^31 - 1"
    temperature = row.get("temperature")
    if temperature is not None and not (type(temperature) in (int, float) and 0 <= temperature < float("inf")):
        return f"temperature is {temperature!r}, expected a finite number of at least 0"
    if not isinstance(row.get("system"), str | None):
        return f"system is {row['system']!r}, expected a text"
    return _message_fault(row["messages"])


def _message_fault(messages: Any) -> str | None:
    if not isinstance(messages, list) or not messages:
        return "messages is not a list with at least one message"
    for i, message in enumerate(messages):
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            return f"message {i + 1} is {json.dumps(message)[:80]}, expected a role and a content"
        wanted = ("user", "assistant")[i % 2]
        if message["role"] != wanted:
            return f"message {i + 1} has the role {message['role']!r}, expected {wanted}: they take turns, user first"
        if not isinstance(message["content"], str) or not message["content"].strip():
            return f"message {i + 1} has no text as its content"
    if len(messages) % 2 == 0:
        return "the last message is the assistant's, expected the user's"
    return None
