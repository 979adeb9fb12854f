"""Records of the user and of users alike (CFRAG, SIGIR 2025, arXiv 2504.05731).

    score(p) = lambda u'p + (1 - lambda) q'p,  over the records p of the user and of the m users with the highest u'v

u, v = mean of a user's record features, q = features of the query, all of length one. The k best records of each user
are what the k that are shown are chosen among. The paper trains the user encoder by contrastive learning, the retriever
and a reranker by the LLM's feedback; here all are the frozen base, by whose scores the last choice is made, too.
"""

from collections.abc import Sequence

import numpy as np

from hydrajax.prompting import peers
from hydrajax.prompting.contract import Asked, Context, Strategy
from hydrajax.types import Record

PEERS = 5  # the paper's six nearest users are counted with the user


class CollaborativeRecords(Strategy):
    """Shows records that users alike have left on things alike."""

    retriever = "bm25"
    compares = True

    def choose(self, asked: Sequence[Asked], k: int, ctx: Context) -> dict[str, Sequence[Record]]:
        asked = [a for a in asked if a.profile]
        if not asked:
            return {}
        population = peers.population(ctx, self.name)
        assert ctx.embed is not None
        queries = peers.unit(ctx.embed([ctx.task.retrieval_text(a.query) for a in asked]))
        return {a.query.id: _best(a, q, population, k, ctx) for a, q in zip(asked, queries, strict=True)}


def _best(asked: Asked, q: np.ndarray, population: peers.Peers, k: int, ctx: Context) -> tuple[Record, ...]:
    """The k records with the highest score, of the best of each user."""
    settings, asked_about = ctx.settings, peers.items(asked.query, ctx)
    own = peers.record_features(asked.profile, ctx)
    u = peers.mean(own)
    order = np.argsort(-(population.means @ u), kind="stable")
    near = [i for i in order if population.ids[i] != asked.query.user_id][: settings.peers or PEERS]
    users = [(asked.profile, own), *((population.records[i], population.features[i]) for i in near)]
    found: list[tuple[float, Record]] = []
    for records, features in users:
        scores = features @ (settings.peer_weight * u + (1 - settings.peer_weight) * q)
        allowed = [i for i in np.argsort(-scores, kind="stable") if peers.about(records[i], ctx) not in asked_about]
        found += [(float(scores[i]), records[i]) for i in allowed[: settings.peer_records or k]]
    found.sort(key=lambda pair: -pair[0])  # stable: of equal scores the user's own comes first, then the nearest user's
    return tuple(record for _, record in found[:k])


STRATEGY = CollaborativeRecords()
