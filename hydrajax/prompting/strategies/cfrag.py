"""Records of the user and of users alike (CFRAG, SIGIR 2025, arXiv 2504.05731).

    score(p) = lambda u'p + (1 - lambda) q'p,  over the records p of the user and of the m users with the highest u'v

u, v = mean of a user's record features, q = features of the query, all of length one. The paper trains the user encoder
by contrastive learning and the retriever by the LLM's feedback; here both are the frozen base.
"""

from collections.abc import Sequence

import numpy as np

from hydrajax.prompting import peers
from hydrajax.prompting.contract import Asked, Context, Strategy
from hydrajax.types import Record


class CollaborativeRecords(Strategy):
    """Shows records that users alike have left on things alike."""

    retriever = "bm25"
    compares = True

    def choose(self, asked: Sequence[Asked], k: int, ctx: Context) -> dict[str, Sequence[Record]]:
        asked = [a for a in asked if a.profile]
        if not asked:
            return {}
        population, weight = peers.population(ctx, self.name), ctx.settings.peer_weight
        assert ctx.embed is not None
        queries = peers.unit(ctx.embed([ctx.task.query_text(a.query) for a in asked]))
        chosen: dict[str, Sequence[Record]] = {}
        for a, q in zip(asked, queries, strict=True):
            features = peers.record_features(a.profile, ctx)
            u = peers.mean(features)
            order = np.argsort(-(population.means @ u), kind="stable")
            near = [i for i in order if population.ids[i] != a.query.user_id][: ctx.settings.peers]
            records = [*a.profile, *(record for i in near for record in population.records[i])]
            features = np.concatenate([features, *(population.features[i] for i in near)])
            scores = features @ (weight * u + (1 - weight) * q)
            asked_about = peers.items(a.query, ctx)
            best = [i for i in np.argsort(-scores, kind="stable") if peers.about(records[i], ctx) not in asked_about]
            chosen[a.query.id] = tuple(records[i] for i in best[:k])
        return chosen


STRATEGY = CollaborativeRecords()
