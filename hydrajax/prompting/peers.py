"""Other users, as strategies that compare see them: features of users and of their records."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from hydrajax.data import pseudo
from hydrajax.prompting.context import Context
from hydrajax.types import DataError, Query, Record


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


def population(ctx: Context, strategy: str) -> Peers:
    """The users that a strategy may look at.

    Raises:
      DataError: it may look at nobody, or there is no base to compare with.
    """
    if ctx.population is None or ctx.embed is None:
        missing = "other users (they are switched off)" if ctx.population is None else "a base encoder"
        raise DataError(f"strategy {strategy!r} compares users and needs {missing}; leave it out")
    users = [user for user in ctx.population.values() if user.profile]
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
