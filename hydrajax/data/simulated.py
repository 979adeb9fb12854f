"""Simulated users with planted preferences: the task `demo`, which needs no data at hand.

After PersonalLLM (arXiv 2409.20296). A user u is a weight vector over M scoring functions of a text y, and wants the
request q answered:

    w_u ~ Dirichlet(alpha),    R_u(q, y) = relevance(q, y) sum_m w_um r_m(y) / sd_m,

with sd over the texts of `demo_texts`, so that everything a user prefers is known exactly. What gives nothing of what
the user likes is worth nothing, and so is what does not answer the request (relevance 0, else 1), however well it is
written. The functions (`style.SCORES`) count what a reader can see; the relevance is a classifier of topics, which does
not know a good answer from a poor one.
"""

import collections
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Simulation:
    """Simulated users, and what they really want.

    Attributes:
      task: of kind `reward`, named `demo`.
      train: training users and their queries.
      dev: other users, with queries on topics that no training user has seen.
      weights: user id -> weight of each of `style.SCORES`, adding up to 1.
      feedback: user id -> what the user thinks of the texts shown for each record of the profile, as scores. Its
        queries are pseudo-queries: their `record_id` is the record that the user chose.
    """

    task: tasks.Task
    train: Split
    dev: Split
    weights: Mapping[str, Mapping[str, float]]
    feedback: Mapping[str, tuple[Feedback, ...]]

    def reward(self, query: Query, text: str) -> float:
        """R_u(q, text) of the module's equation, exact: what the user who asks gets from an answer.

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
    alpha: float = 0.1,
    noise: float = 0.0,
    seed: int = 0,
) -> Simulation:
    """Draws users, lets them choose among texts, and asks them about other topics.

    A user's record is a topic and the text that the user liked best of those shown. Queries ask for topics that are
    in nobody's profile; the gold is the best of all texts on the topic.

    Args:
      train_users: how many users in `train`.
      dev_users: how many users in `dev`.
      records: of each profile; 1 to 14.
      queries: of each user; 1 to 4.
      dev_topics: what users in `dev` are asked about, so many topics altogether; from `queries` to 6.
      shown: of the six texts on a topic, among how many the user chooses; 2 to 6.
      alpha: of the Dirichlet distribution; the smaller it is, the more one thing decides.
      noise: scale of Gumbel noise on the reward when the user chooses; 0 for none. Golds are free of noise.
      seed: of everything. A user depends on the seed and the own number alone, not on how many users there are.

    Raises:
      ValueError: a number outside of these ranges.
    """
    _check("queries", queries, 1, min(TRAIN_TOPICS, DEV_TOPICS))
    _check("dev_topics", dev_topics, queries, DEV_TOPICS)
    _check("records", records, 1, len(demo_texts.TOPICS) - DEV_TOPICS - TRAIN_TOPICS)
    _check("shown", shown, 2, len(demo_texts.STYLES))
    if min(train_users, dev_users) < 0 or alpha <= 0 or noise < 0:
        raise ValueError(
            f"train_users, dev_users, alpha, noise are {train_users}, {dev_users}, {alpha}, {noise}; "
            "expected no negative number, and alpha above 0"
        )
    topics = draws.shuffled(demo_texts.TOPICS, seed=seed, name=str)
    asked_of = {"dev": topics[:dev_topics], "train": topics[DEV_TOPICS : DEV_TOPICS + TRAIN_TOPICS]}
    known = topics[DEV_TOPICS + TRAIN_TOPICS :]
    weights: dict[str, Mapping[str, float]] = {}
    feedback: dict[str, tuple[Feedback, ...]] = {}
    splits = {}
    for name, number in (("train", train_users), ("dev", dev_users)):
        users, asked = {}, []
        for place in range(number):
            user_id = f"{name}-{place}"
            rng = np.random.default_rng(draws.number(seed, user_id))
            weights[user_id] = _draw_weights(rng, alpha)
            own = [known[index] for index in rng.permutation(len(known))[:records]]
            users[user_id], feedback[user_id] = _profile(user_id, weights[user_id], own, shown, noise, rng)
            for index in rng.permutation(len(asked_of[name]))[:queries]:
                asked.append(_query(user_id, weights[user_id], asked_of[name][index]))
        splits[name] = Split(name=name, users=users, queries=tuple(asked))
    return Simulation(task=TASK, train=splits["train"], dev=splits["dev"], weights=weights, feedback=feedback)


def reward(weights: Mapping[str, float], topic: str, text: str) -> float:
    """R(topic, text) of the module's equation: how much is to the user's taste where the request is answered, else 0.

    Args:
      weights: of the functions in `style.SCORES` by name, not negative.
      topic: the request, one of `demo_texts.TOPICS`.
      text: an answer.
    """
    return taste(weights, text) if answers(topic, text) else 0.0


def taste(weights: Mapping[str, float], text: str) -> float:
    """sum_m w_m r_m(text) / sd_m of the module's equation, whatever the text is about."""
    deviations = _deviations()
    return sum(weight * style.SCORES[name](text) / deviations[name] for name, weight in weights.items() if weight)


def answers(topic: str, text: str) -> bool:
    """Whether a text answers the request: a nearest-topic classifier over each topic's request and six texts.

    Of all topics the text must have most in common with this one. A word that n of the 24 topics use counts
    log(24 / n), twice where it stands in the request itself; words are compared by their first five letters, without
    a plural's s. What has nothing in common with any topic, or only repeats the request, answers nothing.

    Args:
      topic: the request, one of `demo_texts.TOPICS`.
      text: an answer.
    """
    words = _stems(text)
    if words <= _stems(topic):
        return False
    common = {
        other: math.fsum(weight for word, weight in weights.items() if word in words)
        for other, weights in _word_weights().items()
    }
    return 0 < common[topic] == max(common.values())


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


@functools.cache
def _deviations() -> Mapping[str, float]:
    """Standard deviation of every scoring function over all texts of the demo."""
    texts = [text for texts in demo_texts.TOPICS.values() for text in texts]
    return {name: float(np.std([score(text) for text in texts])) for name, score in style.SCORES.items()}


@functools.cache
def _word_weights() -> Mapping[str, Mapping[str, float]]:
    """What a word counts for a topic, by topic and stem: see `answers`."""
    used = {topic: _stems(" ".join((topic, *texts))) for topic, texts in demo_texts.TOPICS.items()}
    topics_using = collections.Counter(word for words in used.values() for word in words)
    return {
        topic: {word: math.log(len(used) / topics_using[word]) * (1 + (word in _stems(topic))) for word in words}
        for topic, words in used.items()
    }


def _stems(text: str) -> frozenset[str]:
    return frozenset(word.removesuffix("s")[:5] for word in re.findall(r"[^\W\d_]{2,}", text.lower()))


def _draw_weights(rng: np.random.Generator, alpha: float) -> Mapping[str, float]:
    drawn = rng.dirichlet(np.full(len(style.SCORES), alpha))
    return dict(zip(style.SCORES, map(float, drawn), strict=True))


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
        query = Query(
            id=pseudo.pseudo_id(user_id, str(place)),
            user_id=user_id,
            inputs={"text": topic},
            gold=chosen,
            record_id=str(place),
        )
        feedback.append(Feedback(query=query, scores=liked))
    return User(id=user_id, profile=tuple(profile)), tuple(feedback)


def _query(user_id: str, weights: Mapping[str, float], topic: str) -> Query:
    gold = max(demo_texts.TOPICS[topic], key=lambda text: taste(weights, text))
    place = list(demo_texts.TOPICS).index(topic)
    return Query(id=f"{user_id}-q{place}", user_id=user_id, inputs={"text": topic}, gold=gold)


def _check(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, expected {low} to {high}")
