"""`peer_difference`: how the user differs from other users on the same things (DPL, arXiv 2503.02450).

For each of the user's records that are nearest to the query, a call describes how it differs from what others left on
the same thing, or on the most similar one: one record of each of m clusters of users that the user is not in. One more
call sums the differences up.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from hydrajax import retrieval
from hydrajax.prompting import _peers, templates, turns
from hydrajax.prompting.contract import Asked, Context, Strategy
from hydrajax.types import Message, Record, User


class PeerDifference(Strategy):
    """Puts what sets the user apart before the query."""

    name = "peer_difference"
    retriever = "bm25"
    alone = True
    compares = True

    def prepare(self, asked: Sequence[Asked], ctx: Context) -> dict[str, str]:
        asked = [one for one in asked if one.profile]
        if not asked:
            return {}
        peers = _peers.population(ctx, self.name)
        labels, centres = _clusters(peers.means, ctx.settings.peers + 1, ctx.seed)
        questions = {
            (one.query.id, i): (one.query.user_id, _compare(record, others, ctx))
            for one in asked
            for i, (record, others) in enumerate(_beside(one, peers, labels, centres, ctx))
        }
        limit = ctx.settings.max_summary_tokens
        said = ctx.ask(questions, max_tokens=limit, stage="differences")
        notes: dict[str, list[str]] = {one.query.id: [] for one in asked}
        for (query_id, _), text in said.items():
            notes[query_id] += [text] if text else []
        sums = {
            one.query.id: (
                one.query.user_id,
                templates.fill("differences.txt", {"differences": templates.tagged("difference", notes[one.query.id])}),
            )
            for one in asked
            if notes[one.query.id]
        }
        found = ctx.ask(sums, max_tokens=limit, stage="differences, summed up")
        nothing = sum(1 for one in asked if not found.get(one.query.id))
        ctx.faults.update({f"{self.name}: no difference": nothing} if nothing else {})
        return {query_id: " ".join(text.split()) for query_id, text in found.items() if text}

    def messages(self, query, records, user_model, ctx: Context, *, note="") -> tuple[Message, ...]:
        conversation = turns.conversation(query, records, ctx)
        if not note:
            return conversation
        slots = {"difference": templates.tagged("difference", [note]), "question": conversation[-1].text}
        text = templates.fill("with_difference.txt", slots)
        return (*conversation[:-1], dataclasses.replace(conversation[-1], text=text))


def _beside(
    one: Asked, peers: _peers.Peers, labels: np.ndarray, centres: np.ndarray, ctx: Context
) -> list[tuple[Record, list[Record]]]:
    """The user's records that are nearest to the query, each with others' records on the same or the nearest thing."""
    user = User(id=one.query.user_id, profile=one.profile)
    nearest = retrieval.retrieve("bm25", ctx.task, one.query, user, ctx.settings.compared_records, ctx.seed)
    own = _peers.mean(_peers.record_features(one.profile, ctx))
    home = int(np.argmin(np.linalg.norm(centres - own, axis=1)))
    asked_about = _peers.items(one.query, ctx)
    found = []
    for record, features in zip(nearest, _peers.record_features(nearest, ctx), strict=True):
        others = []
        for cluster in range(len(centres)):
            best = [
                (float(peers.features[i][j] @ features), other)
                for i in np.flatnonzero(labels == cluster)
                if cluster != home and peers.ids[i] != one.query.user_id
                for j, other in enumerate(peers.records[i])
                if _peers.about(other, ctx) not in asked_about
            ]
            if best:
                others.append(max(best, key=lambda pair: pair[0])[1])
        if others:
            found.append((record, others))
    return found


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
    found = cluster.KMeans(n_clusters=min(count, different), n_init=4, random_state=seed % 2**32).fit(means)
    return found.labels_, found.cluster_centers_


STRATEGY = PeerDifference()
