"""Conversations out of records and a query: as chat turns, or quoted in one prompt as LaMP does."""

from collections.abc import Sequence

from hydrajax.prompting import shorten
from hydrajax.prompting.context import Context
from hydrajax.types import Message, Query, Record


def conversation(query: Query, records: Sequence[Record], ctx: Context) -> tuple[Message, ...]:
    """The records and then the query, in the form that the settings choose.

    A record without an answer shows nothing of the user and is left out; as an empty turn it would be refused.

    Args:
      query: asked last; its text is never shortened.
      records: most relevant first.
      ctx: task and settings.
    """
    answered = [record for record in records if ctx.task.record_answer(record).strip()]
    shown = shorten.shorten_records(answered, ctx)
    if ctx.settings.most_relevant_last:
        shown = shown[::-1]
    if ctx.settings.form == "one_prompt":
        return (Message(role="user", text=one_prompt(query, shown, ctx)),)
    return chat(query, shown, ctx)


def chat(query: Query, shown: Sequence[Record], ctx: Context) -> tuple[Message, ...]:
    """Each record as an exchange that has taken place (HYDRA's form), the query as the user's next turn."""
    turns: list[Message] = []
    for record in shown:
        turns += ctx.task.demonstration_turns(record, follow_up=bool(turns) and not ctx.settings.repeat_instruction)
    ask = ctx.task.follow_up if turns and not ctx.settings.repeat_instruction else ctx.task.question
    return (*turns, Message(role="user", text=ask(query.inputs)))


def one_prompt(query: Query, shown: Sequence[Record], ctx: Context) -> str:
    """LaMP's form: the records quoted, joined by ", and ", then the query (Salemi et al. 2024, appendix).

    LaMP_1 quotes inside its question, after the first word "title". A closing text in lower case goes on with the
    sentence of the quotes (LaMP_7: "are written by a person").
    """
    question = ctx.task.question(query.inputs)
    if not shown:
        return question
    quoted = ", and ".join(ctx.task.quoted(record) for record in shown)
    if ctx.task.name == "LaMP_1":
        head, word, tail = question.partition("title")
        return f"{head}{word}, and {quoted}{tail}"
    stop = " " if ctx.task.record_close[:1].islower() else ". "
    return f"{quoted}{stop}{ctx.task.record_close}{question}"
