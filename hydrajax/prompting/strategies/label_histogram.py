"""How often the user's records have each label, and no record.

A control at equal cost in calls: what the profile's label counts alone are worth in a prompt. A pseudo-query's own
record is not counted. Where records have no labels the query stands alone, as in `zero_shot`.
"""

import collections
from collections.abc import Sequence

from hydrajax.prompting import turns
from hydrajax.prompting.contract import Asked, Context
from hydrajax.prompting.strategy import Strategy
from hydrajax.types import Message


class LabelHistogram(Strategy):
    """Puts the counts before the query."""

    def prepare(self, asked: Sequence[Asked], ctx: Context) -> dict[str, str]:
        return {one.query.id: _histogram(one, ctx) for one in asked}

    def messages(self, query, records, user_model, ctx: Context, *, note="") -> tuple[Message, ...]:
        plain = super().messages(query, records, user_model, ctx)
        return turns.introduced(plain, "with_histogram.txt", histogram=note) if note else plain


def _histogram(asked: Asked, ctx: Context) -> str:
    """`label: count`, the most frequent first; empty without a label."""
    answers = [ctx.task.normalise(ctx.task.record_answer(record)) for record in asked.profile]
    counts = collections.Counter(answer for answer in answers if answer in ctx.task.labels)
    return ", ".join(f"{label}: {n}" for label, n in counts.most_common())


STRATEGY = LabelHistogram()
