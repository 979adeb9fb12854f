"""`cfrag`: records of the user and of users alike (CFRAG, SIGIR 2025, arXiv 2504.05731).

    score(p) = lambda u'p + (1 - lambda) q'p,  over the records p of the user and of the m users with the highest u'v

u, v = mean of a user's record features, q = features of the query, all of length one. The paper trains the user encoder
by contrastive learning and the retriever by the LLM's feedback; here both are the frozen base.
"""

from collections.abc import Sequence

import numpy as np

from hydrajax.prompting import _peers, turns
from hydrajax.prompting.contract import Asked, Context, Strategy
from hydrajax.types import Message, Record


class CollaborativeRecords(Strategy):
    """Shows records that users alike have left on things alike."""

    name = "cfrag"
    retriever = "bm25"
    compares = True

    def choose(self, asked: Sequence[Asked], k: int, ctx: Context) -> dict[str, Sequence[Record]]:
        asked = [one for one in asked if one.profile]
        if not asked:
            return {}
        peers, weight = _peers.population(ctx, self.name), ctx.settings.peer_weight
        assert ctx.embed is not None
        queries = _peers.unit(ctx.embed([ctx.task.query_text(one.query) for one in asked]))
        found: dict[str, Sequence[Record]] = {}
        for one, q in zip(asked, queries, strict=True):
            own = _peers.record_features(one.profile, ctx)
            u = _peers.mean(own)
            order = np.argsort(-(peers.means @ u), kind="stable")
            near = [i for i in order if peers.ids[i] != one.query.user_id][: ctx.settings.peers]
            records = [*one.profile, *(record for i in near for record in peers.records[i])]
            features = np.concatenate([own, *(peers.features[i] for i in near)])
            scores = features @ (weight * u + (1 - weight) * q)
            asked_about = _peers.items(one.query, ctx)
            best = [i for i in np.argsort(-scores, kind="stable") if _peers.about(records[i], ctx) not in asked_about]
            found[one.query.id] = tuple(records[i] for i in best[:k])
        return found

    def messages(self, query, records, user_model, ctx: Context, *, note="") -> tuple[Message, ...]:
        return turns.conversation(query, records, ctx)


STRATEGY = CollaborativeRecords()
