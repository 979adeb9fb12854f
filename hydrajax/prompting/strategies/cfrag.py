"""Records of the user and of users alike (CFRAG, SIGIR 2025, arXiv 2504.05731).

The best records of the user and of the most similar users are found by lambda u'p + (1 - lambda) q'p, and ordered by a
reranker. User encoder, retriever and reranker are learned of training users by what records did for the LLM's answers
(`Context.taught`, see `collaboration`); where nothing was learned they are the frozen base, by whose scores the last
choice is made, too.
"""

from collections.abc import Sequence

import numpy as np

from hydrajax.prompting import collaboration
from hydrajax.prompting.contract import Asked, Context, Strategy
from hydrajax.types import Record


class CollaborativeRecords(Strategy):
    """Shows records that users alike have left on things alike."""

    retriever = "bm25"
    compares = True

    def choose(self, asked: Sequence[Asked], k: int, ctx: Context) -> dict[str, Sequence[Record]]:
        frozen = collaboration.Frozen()
        parts: collaboration.Taught = ctx.taught.get(self.name, lambda user_id: frozen)
        found = collaboration.candidates(asked, k, parts, ctx, self.name)
        by_parts: dict[int, list[collaboration.Candidates]] = {}
        for one in found:
            by_parts.setdefault(id(parts(one.query.user_id)), []).append(one)
        chosen: dict[str, Sequence[Record]] = {}
        for together in by_parts.values():
            ranked = parts(together[0].query.user_id).rerank(together)
            for one, scores in zip(together, ranked, strict=True):
                order = np.argsort(-np.asarray(scores), kind="stable")[:k]
                chosen[one.query.id] = tuple(one.records[i] for i in order)
        return chosen


STRATEGY = CollaborativeRecords()
