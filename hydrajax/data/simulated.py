"""Simulated users with planted preferences: the task `demo`, which needs no data at hand.

After PersonalLLM (arXiv 2409.20296). A user u is a weight vector over M scoring functions of a text y,

    w_u ~ Dirichlet(alpha),    R_u(y) = sum_m w_um (r_m(y) - mean_m) / sd_m,

with mean and sd over the texts of `demo_texts`, so that everything a user prefers is known exactly. The functions
(`style.SCORES`) count what a reader can see; they say nothing of whether a text is good or keeps to its topic.
"""

import dataclasses
import functools
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

    def reward(self, user_id: str, text: str) -> float:
        """R_u(text) of the module's equation, exact: what the user gets from an answer.

        Raises:
          DataError: there is no such user.
        """
        if user_id not in self.weights:
            raise DataError(f"there is no simulated user {user_id!r}, expected one of {len(self.weights)} users")
        return reward(self.weights[user_id], text)


def simulate(
    *,
    train_users: int = 40,
    dev_users: int = 20,
    records: int = 12,
    queries: int = 2,
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
      shown: of the six texts on a topic, among how many the user chooses; 2 to 6.
      alpha: of the Dirichlet distribution; the smaller it is, the more one thing decides.
      noise: scale of Gumbel noise on the reward when the user chooses; 0 for none. Golds are free of noise.
      seed: of everything. A user depends on the seed and the own number alone, not on how many users there are.

    Raises:
      ValueError: a number outside of these ranges.
    """
    _check("queries", queries, 1, min(TRAIN_TOPICS, DEV_TOPICS))
    _check("records", records, 1, len(demo_texts.TOPICS) - DEV_TOPICS - TRAIN_TOPICS)
    _check("shown", shown, 2, len(demo_texts.STYLES))
    if min(train_users, dev_users) < 0 or alpha <= 0 or noise < 0:
        raise ValueError(
            f"train_users, dev_users, alpha, noise are {train_users}, {dev_users}, {alpha}, {noise}; "
            "expected no negative number, and alpha above 0"
        )
    topics = draws.shuffled(demo_texts.TOPICS, seed=seed, name=str)
    asked_of = {"dev": topics[:DEV_TOPICS], "train": topics[DEV_TOPICS : DEV_TOPICS + TRAIN_TOPICS]}
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


def reward(weights: Mapping[str, float], text: str) -> float:
    """R(text) = sum_m w_m (r_m(text) - mean_m) / sd_m; an empty text gets what no text can be worse than.

    Args:
      weights: of the functions in `style.SCORES` by name, not negative.
      text: an answer.
    """
    if not text.strip():
        return -_FLOOR
    means, deviations = _moments()
    return sum(
        weight * (style.SCORES[name](text) - means[name]) / deviations[name]
        for name, weight in weights.items()
        if weight
    )


def variants(query: Query) -> tuple[str, ...]:
    """The six texts on the topic of a demo query.

    Raises:
      DataError: the query is about none of the demo's topics.
    """
    topic = query.inputs.get("text", "")
    if topic not in demo_texts.TOPICS:
        raise DataError(f"query {query.id!r} asks {topic!r}, which is no topic of the demo")
    return demo_texts.TOPICS[topic]


_FLOOR = 5.0


@functools.cache
def _moments() -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Mean and standard deviation of every scoring function over all texts of the demo."""
    texts = [text for texts in demo_texts.TOPICS.values() for text in texts]
    values = {name: np.array([score(text) for text in texts], np.float64) for name, score in style.SCORES.items()}
    means = {name: float(value.mean()) for name, value in values.items()}
    return means, {name: float(value.std()) for name, value in values.items()}


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
        liked = {text: reward(weights, text) + noise * float(rng.gumbel()) for text in seen}
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
    gold = max(demo_texts.TOPICS[topic], key=lambda text: reward(weights, text))
    place = list(demo_texts.TOPICS).index(topic)
    return Query(id=f"{user_id}-q{place}", user_id=user_id, inputs={"text": topic}, gold=gold)


def _check(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, expected {low} to {high}")
