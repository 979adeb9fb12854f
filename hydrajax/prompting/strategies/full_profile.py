"""Everything of the profile that fits into the prompt, the most relevant records first to stay.

A control at equal cost in calls: what choosing records is worth beside showing all. Records that do not fit any more
are left out; none is shortened but to `max_record_tokens`, where that is set.
"""

from collections.abc import Sequence

from hydrajax import retrieval
from hydrajax.llm import request
from hydrajax.prompting.contract import Asked, Context, Strategy
from hydrajax.types import Record


class FullProfile(Strategy):
    """Shows as many records as the settings' limit takes, whatever k."""

    retriever = "bm25"

    def choose(self, asked: Sequence[Asked], k: int, ctx: Context) -> dict[str, Sequence[Record]]:
        return {a.query.id: self._fitting(a, ctx) for a in asked}

    def _fitting(self, asked: Asked, ctx: Context) -> tuple[Record, ...]:
        ranked = retrieval.retrieve("bm25", ctx.task, asked.query, asked.user, len(asked.profile), ctx.seed)
        shown: list[Record] = []
        left = ctx.settings.max_prompt_tokens
        for record in ranked:
            size = sum(request.count_tokens(record.fields.get(field, "")) for field in ctx.task.fields)
            if ctx.settings.max_record_tokens is not None:
                size = min(size, ctx.settings.max_record_tokens)
            if size <= left:
                shown.append(record)
                left -= size
        return tuple(shown)


STRATEGY = FullProfile()
