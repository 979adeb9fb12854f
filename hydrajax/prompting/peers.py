"""Other users, as strategies that compare see them: features of users and of their records, and what they wrote on."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from hydrajax.data import pseudo, tasks
from hydrajax.prompting.context import Context
from hydrajax.types import DataError, Query, Record, User


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peers:
    """The population with its features, all of length one.

    Attributes:
      ids: of the users that have a record.
      records: of each user.
      features: [N_u, D] of each user's records.
      means: [U, D] of the users.
    """

    ids: tuple[str, ...]
    records: tuple[tuple[Record, ...], ...]
    features: tuple[np.ndarray, ...]
    means: np.ndarray


def others(ctx: Context, strategy: str) -> list[User]:
    """The users that a strategy may look at and who have a record.

    Raises:
      DataError: it may look at nobody, or there is no base to compare with.
    """
    if ctx.population is None or ctx.embed is None:
        missing = "other users (they are switched off)" if ctx.population is None else "a base encoder"
        raise DataError(f"strategy {strategy!r} compares users and needs {missing}; leave it out")
    return [user for user in ctx.population.values() if user.profile]


def population(ctx: Context, strategy: str) -> Peers:
    """The users that a strategy may look at, with the features of all their records.

    Raises:
      DataError: see `others`.
    """
    users = others(ctx, strategy)
    together = record_features([record for user in users for record in user.profile], ctx)
    features = np.split(together, np.cumsum([len(user.profile) for user in users])[:-1])
    return Peers(
        ids=tuple(user.id for user in users),
        records=tuple(user.profile for user in users),
        features=tuple(features),
        means=np.array([mean(of_user) for of_user in features]),
    )


def record_features(records: Sequence[Record], ctx: Context) -> np.ndarray:
    """Unit features [N, D] of what the retriever searches of records."""
    assert ctx.embed is not None
    return unit(ctx.embed([ctx.task.corpus_text(record) for record in records]))


def mean(features: np.ndarray) -> np.ndarray:
    """The mean of unit features [N, D], of length one."""
    return unit(features.mean(axis=0))


def unit(features: np.ndarray) -> np.ndarray:
    """Features [..., D] scaled to length one; zeros stay."""
    wide = np.asarray(features, np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=-1, keepdims=True), 1e-12)


def items(query: Query, ctx: Context) -> frozenset[str]:
    """What records of others must not be about: the very thing that a query asks, and each of its slots.

    A pseudo-query's gold is among them: where it is a paraphrase, others' copies of what was paraphrased give the
    answer away.
    """
    texts = [ctx.task.query_text(query), *query.inputs.values()]
    if query.record_id is not None and query.gold is not None:
        texts.append(query.gold)
    return frozenset(map(pseudo.same_text, texts)) - {""}


def about(record: Record, ctx: Context) -> str:
    """What a record is about, comparable with `items`."""
    return pseudo.same_text(pseudo.input_text(ctx.task, record))


def item(task: tasks.Task, record: Record) -> str:
    """What `item_text` is compared by: records with the same are on the same item."""
    return pseudo.same_text(item_text(task, record))


def item_text(task: tasks.Task, record: Record) -> str:
    """The item that a record is on; empty where records hold nothing but what was written."""
    return _of_item(task, task.record_inputs(record))


def asked_item(task: tasks.Task, query: Query) -> str:
    """The item that a query is on, comparable with `item`."""
    return pseudo.same_text(_of_item(task, query.inputs))


def by_item(users: Sequence[User], task: tasks.Task) -> dict[str, dict[str, Record]]:
    """What users wrote on each item, by item and user; of several records of a user on one item the first."""
    found: dict[str, dict[str, Record]] = {}
    for user in users:
        for record in user.profile:
            if name := item(task, record):
                found.setdefault(name, {}).setdefault(user.id, record)
    return found


def _of_item(task: tasks.Task, inputs: Mapping[str, str]) -> str:
    named = task.item or tuple(task.inputs.values())
    return " ".join(filter(None, (inputs.get(slot, "") for slot, field in task.inputs.items() if field in named)))
