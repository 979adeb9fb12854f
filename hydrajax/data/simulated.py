"""Simulated users with planted preferences: the task `demo`, which needs no data at hand.

After PersonalLLM (arXiv 2409.20296). A user u is a direction w_u in the space of M scoring functions r of a text y, and
wants the request q answered:

    w_u = g / |g|,  g ~ N(0, I_M),    R_u(q, y) = relevance(q, y) / (1 + exp(-4 w_u . z(y)))

with z the scores less their mean, over their standard deviation, of the texts of `demo_texts`: what does not answer the
request gets nothing, an answer gets the probability that this user likes its style. Everything a user prefers is known
exactly. Tastes have both signs, so that for every user there is another one who wants the opposite, and no answer is to
everybody's taste. The functions (`style.SCORES`) count what a reader can see; the relevance (0 or 1) finds what was
written for another request, and does not know a good answer from a poor one.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping

import numpy as np

from hydrajax.data import demo_texts, draws, pseudo, style, tasks
from hydrajax.types import DataError, Feedback, Query, Record, Split, User

TASK = tasks.Task(
    name="demo",
    kind="reward",
    template="Write one or two sentences: {text}",
    inputs={"text": "topic"},
    answer="text",
    corpus=("topic", "text"),
    record_line='for "{topic}" the user chose "{text}" ',
    max_answer_tokens=64,
)

# Topics by what they are for. What is asked is in nobody's profile, and dev users are asked what nobody else is: so
# the demo's divisions are clean in the sense of `folds`, also where validation users are cut from the training users.
DEV_TOPICS = 6
TRAIN_TOPICS = 4

DECISION = 4.0  # how decided tastes are: what multiplies w . z
BORROWED = 2 / 3  # share of its words that gives a text away where one text on another topic has them too


@dataclasses.dataclass(frozen=True, kw_only=True)
class Simulation:
    """Simulated users, and what they really want.

    Attributes:
      task: of kind `reward`, named `demo`.
      train: training users and their queries.
      dev: other users, with queries on topics that no training user has seen.
      weights: user id -> weight of each of `style.SCORES`, of length 1 and either sign.
      feedback: user id -> how much the user liked the texts shown for each record of the profile, 0 to 1. Its
        queries are pseudo-queries: their `record_id` is the record that the user chose.
    """

    task: tasks.Task
    train: Split
    dev: Split
    weights: Mapping[str, Mapping[str, float]]
    feedback: Mapping[str, tuple[Feedback, ...]]

    def reward(self, query: Query, text: str) -> float:
        """R_u(q, text) of the module's equation, exact: what the user who asks gets from an answer, 0 to 1.

        Raises:
          DataError: there is no such user, or the query is about none of the demo's topics.
        """
        if query.user_id not in self.weights:
            raise DataError(f"there is no simulated user {query.user_id!r}, expected one of {len(self.weights)} users")
        return reward(self.weights[query.user_id], _topic(query), text)


def simulate(
    *,
    train_users: int = 40,
    dev_users: int = 20,
    records: int = 12,
    queries: int = 2,
    dev_topics: int = DEV_TOPICS,
    shown: int = 6,
    noise: float = 0.0,
    seed: int = 0,
) -> Simulation:
    """Draws users, lets them choose among texts, and asks them about other topics.

    A user's record is a topic and the text that the user liked best of those shown. Queries ask for topics that are
    in nobody's profile; the gold is the best of all texts on the topic.

    Args:
      train_users: how many users in `train`.
      dev_users: how many users in `dev`.
      records: of each profile, about the same topics for everybody, in an order of the user's own; 1 to 14.
      queries: of each user; 1 to 4.
      dev_topics: what users in `dev` are asked about, so many topics altogether; from `queries` to 6.
      shown: of the six texts on a topic, among how many the user chooses; 2 to 6.
      noise: scale of Gumbel noise on 4 w . z when the user chooses; 0 for none. Golds are free of noise.
      seed: of everything. A user depends on the seed and the own number alone, not on how many users there are.

    Raises:
      ValueError: a number outside of these ranges.
    """
    _check("queries", queries, 1, min(TRAIN_TOPICS, DEV_TOPICS))
    _check("dev_topics", dev_topics, queries, DEV_TOPICS)
    _check("records", records, 1, len(demo_texts.TOPICS) - DEV_TOPICS - TRAIN_TOPICS)
    _check("shown", shown, 2, len(demo_texts.STYLES))
    if min(train_users, dev_users, noise) < 0:
        raise ValueError(
            f"train_users, dev_users, noise are {train_users}, {dev_users}, {noise}; expected no negative number"
        )
    topics = draws.shuffled(demo_texts.TOPICS, seed=seed, name=str)
    asked_of = {"dev": topics[:dev_topics], "train": topics[DEV_TOPICS : DEV_TOPICS + TRAIN_TOPICS]}
    known = topics[DEV_TOPICS + TRAIN_TOPICS :][:records]
    weights: dict[str, Mapping[str, float]] = {}
    feedback: dict[str, tuple[Feedback, ...]] = {}
    splits = {}
    for name, number in (("train", train_users), ("dev", dev_users)):
        users, asked = {}, []
        for place in range(number):
            user_id = f"{name}-{place}"
            rng = np.random.default_rng(draws.number(seed, user_id))
            weights[user_id] = _draw_weights(rng)
            own = [known[index] for index in rng.permutation(records)]
            users[user_id], feedback[user_id] = _profile(user_id, weights[user_id], own, shown, noise, rng)
            for index in rng.permutation(len(asked_of[name]))[:queries]:
                asked.append(_query(user_id, weights[user_id], asked_of[name][index]))
        splits[name] = Split(name=name, users=users, queries=tuple(asked))
    return Simulation(task=TASK, train=splits["train"], dev=splits["dev"], weights=weights, feedback=feedback)


def reward(weights: Mapping[str, float], topic: str, text: str) -> float:
    """R(topic, text) of the module's equation: the probability that the style is liked if it is an answer, else 0.

    Args:
      weights: of the functions in `style.SCORES` by name.
      topic: the request, one of `demo_texts.TOPICS`.
      text: an answer.
    """
    return _liked(taste(weights, text)) if answers(topic, text) else 0.0


def taste(weights: Mapping[str, float], text: str) -> float:
    """4 w . z(text) of the module's equation, whatever the text is about: 0 for one of average style."""
    moments = _moments()
    return DECISION * sum(
        weight * (style.SCORES[name](text) - moments[name][0]) / moments[name][1] for name, weight in weights.items()
    )


def answers(topic: str, text: str) -> bool:
    """Whether a text answers the request: it does not just repeat it, and was not written for another one.

    Written for another one is what has two thirds of its words in common with a single text on another topic, and
    fewer with the request and with each text on this one. Words of three letters and more are compared, by their first
    five letters and without a plural's s.

    Args:
      topic: the request, one of `demo_texts.TOPICS`.
      text: an answer.
    """
    words = _stems(text)
    if not words or words == _stems(topic):
        return False
    common = {other: max(len(words & known) for known in texts) for other, texts in _stems_by_topic().items()}
    most = max(count for other, count in common.items() if other != topic)
    return most < BORROWED * len(words) or most <= max(common[topic], len(words & _stems(topic)))


def variants(query: Query) -> tuple[str, ...]:
    """The six texts on the topic of a demo query.

    Raises:
      DataError: the query is about none of the demo's topics.
    """
    return demo_texts.TOPICS[_topic(query)]


def _topic(query: Query) -> str:
    topic = query.inputs.get("text", "")
    if topic not in demo_texts.TOPICS:
        raise DataError(f"query {query.id!r} asks {topic!r}, which is no topic of the demo")
    return topic


def _liked(taste: float) -> float:
    return 1 / (1 + math.exp(-taste))


@functools.cache
def _moments() -> Mapping[str, tuple[float, float]]:
    """Mean and standard deviation of every scoring function over all texts of the demo."""
    texts = [text for texts in demo_texts.TOPICS.values() for text in texts]
    values = {name: [score(text) for text in texts] for name, score in style.SCORES.items()}
    return {name: (float(np.mean(value)), float(np.std(value))) for name, value in values.items()}


@functools.cache
def _stems_by_topic() -> Mapping[str, tuple[frozenset[str], ...]]:
    """The stems of every text."""
    return {topic: tuple(map(_stems, texts)) for topic, texts in demo_texts.TOPICS.items()}


def _stems(text: str) -> frozenset[str]:
    return frozenset(word.removesuffix("s")[:5] for word in re.findall(r"[^\W\d_]{3,}", text.lower()))


def _draw_weights(rng: np.random.Generator) -> Mapping[str, float]:
    drawn = rng.normal(size=len(style.SCORES))
    return dict(zip(style.SCORES, map(float, drawn / np.linalg.norm(drawn)), strict=True))


def _profile(
    user_id: str,
    weights: Mapping[str, float],
    topics: list[str],
    shown: int,
    noise: float,
    rng: np.random.Generator,
) -> tuple[User, tuple[Feedback, ...]]:
    profile, feedback = [], []
    for place, topic in enumerate(topics):
        texts = demo_texts.TOPICS[topic]
        seen = [texts[index] for index in rng.permutation(len(texts))[:shown]]
        liked = {text: taste(weights, text) + noise * float(rng.gumbel()) for text in seen}
        chosen = max(seen, key=liked.__getitem__)
        profile.append(Record(id=str(place), fields={"topic": topic, "text": chosen}))
        query = pseudo.from_record(TASK, User(id=user_id), profile[-1])
        feedback.append(Feedback(query=query, scores={text: _liked(value) for text, value in liked.items()}))
    return User(id=user_id, profile=tuple(profile)), tuple(feedback)


def _query(user_id: str, weights: Mapping[str, float], topic: str) -> Query:
    gold = max(demo_texts.TOPICS[topic], key=lambda text: taste(weights, text))
    place = list(demo_texts.TOPICS).index(topic)
    return Query(id=f"{user_id}-q{place}", user_id=user_id, inputs={"text": topic}, gold=gold)


def _check(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, expected {low} to {high}")
