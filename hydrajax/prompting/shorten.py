"""Shortens records to a budget of tokens, fairly: the longest give first, the query and a record's answer never."""

import dataclasses
import logging
from collections.abc import Sequence

from hydrajax.data import tasks
from hydrajax.llm.request import count_tokens
from hydrajax.prompting.context import Context
from hydrajax.types import Record

_log = logging.getLogger(__name__)


def fair_limits(sizes: Sequence[int], budget: int) -> list[int]:
    """min(size, c) with the largest c for which the sum stays within the budget.

    Args:
      sizes: tokens of each record.
      budget: tokens of all together.

    Returns:
      The tokens each may keep. Small records stay whole; the others share what is left equally.
    """
    limits = list(sizes)
    left, open_count = budget, len(sizes)
    for size, index in sorted((size, index) for index, size in enumerate(sizes)):
        limits[index] = min(size, max(0, left) // open_count)
        left -= limits[index]
        open_count -= 1
    return limits


def shorten_text(text: str, limit: int) -> str:
    """The longest prefix of whole words with at most `limit` tokens; the text itself where it fits."""
    if count_tokens(text) <= limit:
        return text
    kept, used = [], 0
    for word in text.split():
        used += count_tokens(word)
        if used > limit:
            break
        kept.append(word)
    return " ".join(kept)


def shorten_records(records: Sequence[Record], ctx: Context) -> list[Record]:
    """Records cut to the settings' limits, in the same order. What was cut is logged and counted in `ctx.cut`."""
    sizes = [_tokens(ctx.task, record) for record in records]
    most = ctx.settings.max_record_tokens
    wanted = sizes if most is None else [min(size, most) for size in sizes]
    limits = fair_limits(wanted, ctx.settings.max_prompt_tokens)
    shortened = []
    for record, size, limit in zip(records, sizes, limits, strict=True):
        short = _shorten(ctx.task, record, limit) if limit < size else record
        kept = _tokens(ctx.task, short)
        if kept < size:
            ctx.cut.update(records=1, tokens=size - kept)
            _log.debug("record %s cut from %d to %d tokens", record.id, size, kept)
        shortened.append(short)
    return shortened


def quoted(records: Sequence[Record], ctx: Context) -> list[str]:
    """Records as prompts quote them, shortened to the settings' limits."""
    return [ctx.task.quoted(record) for record in shorten_records(records, ctx)]


def _answer(task: tasks.Task) -> str:
    return task.answer or task.corpus[0]


def _shown(task: tasks.Task) -> tuple[str, ...]:
    """Fields that prompts show besides the answer, those of the input first; what no prompt shows takes no room."""
    words = task.record_line + (task.demonstration or "")
    named = (field for field in task.fields if f"{{{field}}}" in words)
    return tuple(field for field in dict.fromkeys((*task.inputs.values(), *named)) if field != _answer(task))


def _tokens(task: tasks.Task, record: Record) -> int:
    return sum(count_tokens(record.fields.get(field, "")) for field in (*_shown(task), _answer(task)))


def _shorten(task: tasks.Task, record: Record, limit: int) -> Record:
    fields = dict(record.fields)
    shown = _shown(task)
    if not shown:  # the answer is all that is shown of a record, as in LaMP_1 and LaMP_7
        fields[_answer(task)] = shorten_text(fields[_answer(task)], limit)
        return dataclasses.replace(record, fields=fields)
    answer = count_tokens(fields.get(_answer(task), ""))
    sizes = [count_tokens(fields.get(field, "")) for field in shown]
    for field, keep in zip(shown, fair_limits(sizes, max(0, limit - answer)), strict=True):
        fields[field] = shorten_text(fields.get(field, ""), keep)
    return dataclasses.replace(record, fields=fields)
