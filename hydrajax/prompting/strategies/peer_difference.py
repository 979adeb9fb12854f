"""How the user differs from other users on the same things (DPL, arXiv 2503.02450).

For each of the user's records that are nearest to the query, a call describes how it differs from what others left on
the same thing, or on the most similar one: one record of each of m clusters of users that the user is not in. One more
call sums the differences up.
"""

from collections.abc import Sequence

import numpy as np

from hydrajax import retrieval
from hydrajax.prompting import peers, templates
from hydrajax.prompting.contract import Asked, Context, Strategy
from hydrajax.types import Record


class PeerDifference(Strategy):
    """Puts what sets the user apart before the query."""

    retriever = "bm25"
    alone = True
    compares = True
    template = "with_difference.txt"

    def prepare(self, asked: Sequence[Asked], ctx: Context) -> dict[str, str]:
        asked = [a for a in asked if a.profile]
        if not asked:
            return {}
        population = peers.population(ctx, self.name)
        labels, centres = _clusters(population.means, ctx.settings.peers + 1, ctx.seed)
        questions = {
            (a.query.id, i): (a.query.user_id, _compare(record, others, ctx))
            for a in asked
            for i, (record, others) in enumerate(_compared(a, population, labels, centres, ctx))
        }
        limit = ctx.settings.max_summary_tokens
        differences: dict[str, list[str]] = {a.query.id: [] for a in asked}
        for (query_id, _), text in ctx.ask(questions, max_tokens=limit, stage="differences").items():
            differences[query_id] += [text] if text else []
        sums = {
            a.query.id: (a.query.user_id, templates.fill("differences.txt", {"differences": listed}))
            for a in asked
            if (listed := templates.tagged("difference", differences[a.query.id]))
        }
        notes = ctx.ask(sums, max_tokens=limit, stage="differences, summed up")
        nothing = sum(not notes.get(a.query.id) for a in asked)
        ctx.faults.update({f"{self.name}: no difference": nothing} if nothing else {})
        return {query_id: " ".join(text.split()) for query_id, text in notes.items() if text}

    def slots(self, known: str) -> dict[str, str]:
        return {"difference": templates.tagged("difference", [known])}


def _compared(
    asked: Asked, population: peers.Peers, labels: np.ndarray, centres: np.ndarray, ctx: Context
) -> list[tuple[Record, list[Record]]]:
    """The user's records that are nearest to the query, each with others' records on the same or the nearest thing."""
    nearest = retrieval.retrieve("bm25", ctx.task, asked.query, asked.user, ctx.settings.compared_records, ctx.seed)
    mean = peers.mean(peers.record_features(asked.profile, ctx))
    home = int(np.argmin(np.linalg.norm(centres - mean, axis=1)))
    asked_about = peers.items(asked.query, ctx)
    compared = []
    for record, features in zip(nearest, peers.record_features(nearest, ctx), strict=True):
        others = []
        for cluster in range(len(centres)):
            near = [
                (float(population.features[i][j] @ features), other)
                for i in np.flatnonzero(labels == cluster)
                if cluster != home and population.ids[i] != asked.query.user_id
                for j, other in enumerate(population.records[i])
                if peers.about(other, ctx) not in asked_about
            ]
            if near:
                others.append(max(near, key=lambda pair: pair[0])[1])
        if others:
            compared.append((record, others))
    return compared


def _compare(record: Record, others: Sequence[Record], ctx: Context) -> str:
    slots = {
        "record": templates.tagged("person", [ctx.task.quoted(record)]),
        "others": templates.tagged("other", [ctx.task.quoted(other) for other in others]),
    }
    return templates.fill("difference.txt", slots)


def _clusters(means: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """k-means of users' features: the cluster of each user, and the centres [K, D]."""
    # Imported late: it costs over a second, and only this strategy needs it.
    from sklearn import cluster

    different = len(np.unique(means.round(6), axis=0))
    fitted = cluster.KMeans(n_clusters=min(count, different), n_init=4, random_state=seed % 2**32).fit(means)
    return fitted.labels_, fitted.cluster_centers_


STRATEGY = PeerDifference()
