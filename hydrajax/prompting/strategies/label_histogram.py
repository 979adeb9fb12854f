"""How often the user's records have each label, and no record.

A control at equal cost in calls: what the profile's label counts alone are worth in a prompt. A pseudo-query's own
record is not counted. Where records have no labels the query stands alone, as in `zero_shot`.
"""

import collections
from collections.abc import Sequence

from hydrajax.prompting.contract import Asked, Context, Strategy


class LabelHistogram(Strategy):
    """Puts the counts before the query."""

    template = "with_histogram.txt"

    def prepare(self, asked: Sequence[Asked], ctx: Context) -> dict[str, str]:
        return {a.query.id: _histogram(a, ctx) for a in asked}

    def slots(self, known: str) -> dict[str, str]:
        return {"histogram": known}


def _histogram(asked: Asked, ctx: Context) -> str:
    """`label: count`, the most frequent first; empty without a label."""
    answers = [ctx.task.normalise(ctx.task.record_answer(record)) for record in asked.profile]
    counts = collections.Counter(answer for answer in answers if answer in ctx.task.labels)
    return ", ".join(f"{label}: {n}" for label, n in counts.most_common())


STRATEGY = LabelHistogram()
