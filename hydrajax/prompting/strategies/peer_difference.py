"""How the user differs from other users on the same items (DPL, arXiv 2503.02450).

Of the user's records on items that enough others wrote on, those nearest to the query are compared: what all wrote on
the item is clustered, the user's own text among it, and of every cluster that the user's is not in, the text nearest to
its centre stands for it. A call describes how the user's record differs from these. One more call sums the differences
up, beside the user's records that are nearest to the query.

Where users share no items, `compare_on = "nearest"` compares a record with what others wrote on the things most similar
to it.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from hydrajax import retrieval
from hydrajax.data import pseudo, tasks
from hydrajax.prompting import peers, shorten, templates
from hydrajax.prompting.contract import Asked, Context, PromptSettings, Strategy
from hydrajax.types import Record, User

CLUSTERS = 4  # other than the user's
NEAR = 16  # other users who count as having written on the same, with `compare_on = "nearest"`
ITEM_TOKENS = 40  # of an item, as the last call is told of it


Found = Callable[[Asked, Record], Sequence[Record]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """A record of the user, and those of other users that stand for clusters of what they wrote on the same."""

    record: Record
    others: tuple[Record, ...]


class PeerDifference(Strategy):
    """Puts what sets the user apart before the query."""

    retriever = "bm25"
    alone = True
    compares = True
    template = "with_difference.txt"

    def lacking(self, task: tasks.Task, population: Mapping[str, User], settings: PromptSettings) -> str:
        if settings.compare_on == "nearest":
            return ""
        written = peers.by_item(list(population.values()), task)
        if max(map(len, written.values()), default=0) >= settings.least_writers:
            return ""
        return (
            f"compares what users wrote on the same item, and no item of {task.name} has {settings.least_writers} "
            "writers among the users that may be looked at (--settings.prompts.compare-on nearest compares what they "
            "wrote on similar things)"
        )

    def prepare(self, asked: Sequence[Asked], ctx: Context) -> dict[str, str]:
        asked = [a for a in asked if a.profile]
        if not asked:
            return {}
        written = _written_on(asked, peers.others(ctx, self.name), ctx)
        alone = sum(not pairs for pairs in written.values())
        ctx.faults.update({f"{self.name}: too few others wrote on the same, records alone": alone} if alone else {})
        compared = _represented(written, ctx)
        users = {a.query.id: a.query.user_id for a in asked}
        limit = ctx.settings.max_summary_tokens
        questions = {key: (users[key[0]], _compare(one, ctx)) for key, one in compared.items()}
        differences: dict[str, list[tuple[Record, str]]] = {a.query.id: [] for a in asked}
        for key, text in ctx.ask(questions, max_tokens=limit, stage="differences").items():
            differences[key[0]] += [(compared[key].record, text)] if text else []
        sums = {
            a.query.id: (a.query.user_id, _sum_up(a, differences[a.query.id], ctx))
            for a in asked
            if differences[a.query.id]
        }
        notes = ctx.ask(sums, max_tokens=limit, stage="differences, summed up")
        nothing = sum(not notes.get(a.query.id) for a in asked) - alone
        ctx.faults.update({f"{self.name}: no difference": nothing} if nothing else {})
        return {query_id: " ".join(text.split()) for query_id, text in notes.items() if text}

    def slots(self, known: str) -> dict[str, str]:
        return {"difference": templates.tagged("difference", [known])}


def representatives(own: np.ndarray, others: np.ndarray, clusters: int, seed: int) -> list[int]:
    """Which texts stand for the clusters that the user's own text is not in: of each the one nearest to its centre.

    Args:
      own: [D] features of the user's text.
      others: [N, D] of what others wrote on the same.
      clusters: other than the user's; fewer where fewer texts differ.
      seed: of k-means.

    Returns:
      indices of `others`, in order; none where everybody wrote the same.
    """
    # Imported late: it costs over a second, and only this strategy needs it.
    from sklearn import cluster

    texts = np.concatenate([own[None], others])
    different = len(np.unique(texts.round(6), axis=0))
    fitted = cluster.KMeans(n_clusters=min(clusters + 1, different), n_init=1, random_state=seed % 2**32).fit(texts)
    home, *labels = fitted.labels_
    # Two texts alone in a cluster are equally near to its centre: the first one counts, not the rounding.
    away = np.linalg.norm(others - fitted.cluster_centers_[labels], axis=1).round(9)
    groups = [np.flatnonzero(np.array(labels) == label) for label in set(labels) - {home}]
    return sorted(int(group[np.argmin(away[group])]) for group in groups)


def _written_on(
    asked: Sequence[Asked], others: Sequence[User], ctx: Context
) -> dict[str, list[tuple[Record, tuple[Record, ...]]]]:
    """The user's records that are compared, nearest to the query first, with what others wrote; by query id."""
    same = ctx.settings.compare_on == "item"
    found = (_on_the_same_item if same else _on_similar_things)(asked, others, ctx)
    least = ctx.settings.least_writers
    written = {}
    for a in asked:
        # Where users share items, records on others do not count; similar things there always are.
        counted = [record for record in a.profile if len(found(a, record)) >= least] if same else a.profile
        pairs = [(record, tuple(found(a, record))) for record in _retrieved(a, counted, ctx)]
        written[a.query.id] = [(record, of_others) for record, of_others in pairs if len(of_others) >= least]
    return written


def _retrieved(asked: Asked, records: Sequence[Record], ctx: Context) -> tuple[Record, ...]:
    user = User(id=asked.query.user_id, profile=tuple(records))
    return retrieval.retrieve("bm25", ctx.task, asked.query, user, ctx.settings.compared_records, ctx.seed)


def _on_the_same_item(asked: Sequence[Asked], others: Sequence[User], ctx: Context) -> Found:
    """What other users wrote on a record's item, one of each; nothing on the item that is asked about."""
    written = peers.by_item(others, ctx.task)

    def found(asked: Asked, record: Record) -> list[Record]:
        item, hidden = peers.item(ctx.task, record), peers.items(asked.query, ctx)
        if item == peers.asked_item(ctx.task, asked.query):
            return []
        return [
            other
            for user_id, other in written.get(item, {}).items()
            if user_id != asked.query.user_id and peers.about(other, ctx) not in hidden
        ]

    return found


def _on_similar_things(asked: Sequence[Asked], others: Sequence[User], ctx: Context) -> Found:
    """What `NEAR` other users wrote on the things that are most similar to a record's, one of each."""
    pairs = [(user.id, record) for user in others for record in user.profile]
    theirs = [pseudo.input_text(ctx.task, record) for _, record in pairs]
    own = [pseudo.input_text(ctx.task, record) for a in asked for record in a.profile]
    features = _features([*theirs, *own], ctx)
    matrix = np.array([features[text] for text in theirs])

    def found(asked: Asked, record: Record) -> list[Record]:
        likeness = matrix @ features[pseudo.input_text(ctx.task, record)]
        hidden, nearest = peers.items(asked.query, ctx), {asked.query.user_id: record}
        for i in np.argsort(-likeness, kind="stable"):
            owner, other = pairs[i]
            if owner not in nearest and pseudo.same_text(theirs[i]) not in hidden:
                nearest[owner] = other
                if len(nearest) > NEAR:
                    break
        return list(nearest.values())[1:]

    return found


def _represented(
    written: Mapping[str, Sequence[tuple[Record, tuple[Record, ...]]]], ctx: Context
) -> dict[tuple[str, int], Compared]:
    """The records with those of the others that stand for clusters, by query id and place; without those on which
    everybody wrote the same."""
    answer = ctx.task.record_answer
    pairs = {(query_id, i): pair for query_id, of_query in written.items() for i, pair in enumerate(of_query)}
    features = _features([answer(one) for record, others in pairs.values() for one in (record, *others)], ctx)
    clusters = ctx.settings.peers or CLUSTERS
    kept: dict[tuple[str, ...], list[int]] = {}  # a user's queries compare the same records again and again
    chosen = {}
    for key, (record, others) in pairs.items():
        texts = tuple(answer(one) for one in (record, *others))
        if texts not in kept:
            own, *rest = (features[text] for text in texts)
            kept[texts] = representatives(own, np.array(rest), clusters, ctx.seed)
        if kept[texts]:
            chosen[key] = Compared(record=record, others=tuple(others[i] for i in kept[texts]))
    return chosen


def _features(texts: Sequence[str], ctx: Context) -> dict[str, np.ndarray]:
    """Unit features [D] of texts, all encoded at once."""
    assert ctx.embed is not None
    different = list(dict.fromkeys(texts))
    return dict(zip(different, peers.unit(ctx.embed(different)), strict=True)) if different else {}


def _compare(compared: Compared, ctx: Context) -> str:
    own, *others = shorten.quoted((compared.record, *compared.others), ctx)
    slots = {
        "record": templates.tagged("person", [own]),
        "others": templates.tagged("other", others),
        "things": "similar things" if ctx.settings.compare_on == "nearest" else "the same thing",
    }
    return templates.fill("difference.txt", slots)


def _sum_up(asked: Asked, differences: Sequence[tuple[Record, str]], ctx: Context) -> str:
    """The question of the last call: the differences with what each is about, and the user's nearest records."""
    listed = []
    for record, text in differences:
        thing = peers.item_text(ctx.task, record)
        listed += [templates.tagged("thing", [shorten.shorten_text(thing, ITEM_TOKENS)])] if thing else []
        listed += [templates.tagged("difference", [text])]
    records = shorten.quoted(_retrieved(asked, asked.profile, ctx), ctx)
    slots = {"differences": "\n".join(listed), "records": templates.tagged("record", records)}
    return templates.fill("differences.txt", slots)


STRATEGY = PeerDifference()
