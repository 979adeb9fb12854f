"""Records of a user and of users alike, as CFRAG finds and orders them (SIGIR 2025, arXiv 2504.05731).

    score(p) = lambda w(u)'t(p) + (1 - lambda) t(q)'t(p),  over the records p of the user and of the m users with the
               highest u'v; the n best of each are the candidates

u, v = what a user is by the user's records, t = features of a text, w = where texts lie that a user likes, all of
length one. The candidates are then ordered by a reranker r(q, p, u). Here all of that is frozen: u is the mean of the
records' features, t and w leave features as they are, r is the score. What is learned of training users is of the
stops behind this one, and handed to strategies by `Context.taught`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from hydrajax.prompting import peers
from hydrajax.prompting.context import Asked, Context
from hydrajax.types import Query, Record

PEERS = 5  # the paper's six nearest users are counted with the user


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidates:
    """Records that may be shown for a query.

    Attributes:
      query: the question.
      user: [D], who asks, by the user's records.
      question: [D], features of the question, of length one, before t.
      records: of the highest score first; of equal ones the user's own, then the nearest user's.
      features: [N, D] of these, of length one, before t.
      scores: [N].
    """

    query: Query
    user: Float[np.ndarray, " D"]
    question: Float[np.ndarray, " D"]
    records: tuple[Record, ...]
    features: Float[np.ndarray, "N D"]
    scores: Float[np.ndarray, " N"]


class Parts(Protocol):
    """u, t, w and r."""

    def users(self, features: Sequence[Float[np.ndarray, "_ D"]]) -> Float[np.ndarray, "U D"]:
        """Users by the features of their records, oldest first; of length one."""

    def texts(self, features: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
        """t, of length one."""

    def liked(self, users: Float[np.ndarray, "U D"]) -> Float[np.ndarray, "U D"]:
        """w, of length one."""

    def rerank(self, found: Sequence[Candidates]) -> Sequence[Float[np.ndarray, " _"]]:
        """Of each one's records how much they help, higher is better."""


class Frozen:
    """Nothing is learned."""

    def users(self, features: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([peers.mean(of_user) for of_user in features])

    def texts(self, features: np.ndarray) -> np.ndarray:
        return features

    def liked(self, users: np.ndarray) -> np.ndarray:
        return users

    def rerank(self, found: Sequence[Candidates]) -> Sequence[np.ndarray]:
        return [one.scores for one in found]


Taught = Callable[[str], Parts]  # user id -> what serves that user


def candidates(asked: Sequence[Asked], n: int, parts: Taught, ctx: Context, strategy: str) -> list[Candidates]:
    """The candidates for queries of users who have records.

    Args:
      asked: queries; those of users without a record are left out.
      n: records of each user, unless the settings say how many.
      parts: of each user.
      ctx: whom the strategy may look at.
      strategy: its name, for messages.

    Raises:
      DataError: see `peers.others`.
    """
    asked = [one for one in asked if one.profile]
    if not asked:
        return []
    everybody = peers.population(ctx, strategy)
    assert ctx.embed is not None
    questions = peers.unit(ctx.embed([ctx.task.retrieval_text(one.query) for one in asked]))
    own = [peers.record_features(one.profile, ctx) for one in asked]
    of_users = [parts(one.query.user_id) for one in asked]
    found: dict[int, Candidates] = {}
    for part in {id(part): part for part in of_users}.values():
        places = [i for i, of_user in enumerate(of_users) if of_user is part]
        users = part.users([own[i] for i in places])
        others = part.users(everybody.features)
        texts = [part.texts(features) for features in everybody.features]
        liked, read = part.liked(users), part.texts(questions[places])
        for place, user, w, q in zip(places, users, liked, read, strict=True):
            weight = ctx.settings.peer_weight
            near = _nearest(asked[place], user, everybody.ids, others, ctx)
            of_each = [(asked[place].profile, own[place], part.texts(own[place]))]
            of_each += [(everybody.records[i], everybody.features[i], texts[i]) for i in near]
            best = _best_of_each(asked[place], of_each, weight * w + (1 - weight) * q, n, ctx)
            found[place] = Candidates(query=asked[place].query, user=user, question=questions[place], **best)
    return [found[i] for i in range(len(asked))]


def _nearest(asked: Asked, user: np.ndarray, ids: Sequence[str], others: np.ndarray, ctx: Context) -> list[int]:
    order = np.argsort(-(others @ user), kind="stable").tolist()
    return [i for i in order if ids[i] != asked.query.user_id][: ctx.settings.peers or PEERS]


def _best_of_each(
    asked: Asked,
    of_each: Sequence[tuple[Sequence[Record], np.ndarray, np.ndarray]],
    direction: np.ndarray,
    n: int,
    ctx: Context,
) -> dict[str, Any]:
    """Records, their features and scores, without what the very thing that is asked is about.

    Args:
      of_each: of each user the records, their features before t, and after.
      direction: [D], what the scores are products with.
    """
    asked_about = peers.items(asked.query, ctx)
    records: list[Record] = []
    features: list[np.ndarray] = []
    scores: list[float] = []
    for of_user, before, after in of_each:
        scored = after @ direction
        order = np.argsort(-scored, kind="stable").tolist()
        allowed = [i for i in order if peers.about(of_user[i], ctx) not in asked_about]
        for i in allowed[: ctx.settings.peer_records or n]:
            records.append(of_user[i])
            features.append(before[i])
            scores.append(float(scored[i]))
    order = np.argsort(-np.array(scores), kind="stable").tolist()
    return {
        "records": tuple(records[i] for i in order),
        "features": np.reshape([features[i] for i in order], (len(order), len(direction))),
        "scores": np.array([scores[i] for i in order], np.float64),
    }
