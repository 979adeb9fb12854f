"""Controls: what a method must beat before it has shown anything.

Choices from a pool take normalised answers and their numbers of votes and return an index into the pool, so that a
control is judged on the very candidates that the adapter chose from. The others answer from the profile or the query
alone, without an LLM.
"""

import collections
import hashlib
import re
import statistics as stdlib_statistics
from collections.abc import Mapping, Sequence

import numpy as np

from hydrajax import metrics
from hydrajax.data import tasks
from hydrajax.methods import answers
from hydrajax.methods.answers import Draws, Pool
from hydrajax.methods.lab import Lab
from hydrajax.metrics import ratings
from hydrajax.types import Query, Record

RANDOM_DRAWS = 20


def unlearned(lab: Lab, pools: Sequence[Pool]) -> dict[str, Draws]:
    """What is chosen without anything learned: `random` (several draws), `oracle` and `vote`."""
    chosen: dict[str, Draws] = {}
    chosen["random"] = [
        tuple(answers.choose(pool, i) for i in random_choices(votes(pool), seed=lab.seed, query_id=pool.query.id))
        for pool in pools
    ]
    chosen["oracle"] = [(answers.choose(pool, _oracle(lab, pool)),) for pool in pools]
    chosen["vote"] = [(answers.choose(pool, voted(lab, pool)),) for pool in pools]
    return chosen


def _oracle(lab: Lab, pool: Pool) -> int:
    """The candidate of the highest quality, the first of several: how far any chooser could get with this pool."""
    return int(np.argmax([lab.quality(pool.query, candidate.text) for candidate in pool.candidates]))


def voted(lab: Lab, pool: Pool) -> int:
    """`vote` on a pool."""
    task = lab.ctx.task
    return vote(task, [task.normalise(candidate.text) for candidate in pool.candidates], votes(pool))


def votes(pool: Pool) -> list[int]:
    """Of each candidate; one each where none has any."""
    given = [candidate.votes for candidate in pool.candidates]
    return given if sum(given) else [1] * len(given)


def random_choices(votes: Sequence[int], *, seed: int, query_id: str, draws: int = RANDOM_DRAWS) -> tuple[int, ...]:
    """Independent random choices from a pool: each sample is equally likely, so a candidate counts by its votes.

    The choices depend on the seed, the query's id and the votes alone, not on other queries or their order.

    Args:
      votes: samples that gave each candidate.
      query_id: whose pool it is.
      draws: how many choices.

    Raises:
      ValueError: the pool is empty or holds no vote.
    """
    _some_votes(votes)
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(f"{seed}\n{query_id}".encode()).digest()[:8], "big"))
    shares = np.asarray(votes, float)
    return tuple(int(i) for i in rng.choice(len(votes), size=draws, p=shares / shares.sum()))


def vote(task: tasks.Task, predictions: Sequence[str], votes: Sequence[int]) -> int:
    """What the samples agree on: the choice that costs as many LLM calls as the adapter's, and no training.

    classification: the label with the most votes; answers that are no label count only where no answer is one
    rating:         the median vote among readable ratings
    generation:     minimum Bayes risk: the candidate with the highest mean quality, (ROUGE-1 + ROUGE-L) / 2, against
                    all samples (its own agreement with itself adds the same to every candidate)

    Ties go to the candidate that stands first in the pool.

    Args:
      predictions: normalised answers of the candidates.
      votes: samples that gave each candidate.

    Raises:
      ValueError: the pool is empty or holds no vote.
    """
    _some_votes(votes)
    match task.kind:
        case "classification":
            return _majority(task, predictions, votes)
        case "rating":
            return _median(predictions, votes)
        case _:
            return _minimum_bayes_risk(predictions, votes)


def most_frequent_label(task: tasks.Task, profile: Sequence[Record], default: str = "") -> str:
    """The user's most frequent label (of several, the first in the profile), or the median of the user's ratings.

    Args:
      task: of kind classification or rating, with an answer field.
      profile: oldest first, without the record that a pseudo-query was made of.
      default: the answer for a user without records, for example this function's of all training users' records.

    Raises:
      ValueError: the task's records hold no label.
    """
    if task.answer is None or task.kind not in ("classification", "rating"):
        raise ValueError(
            f"task {task.name} ({task.kind}) has no labels in its records, expected a label or rating task"
        )
    answers = [task.normalise(task.record_answer(record)) for record in profile]
    if task.kind == "rating":
        numbers = [value for value in map(ratings.number, answers) if value is not None]
        return f"{stdlib_statistics.median(numbers):g}" if numbers else default
    counts = collections.Counter(answer for answer in answers if answer in task.labels)
    # Counters and `max` keep the order of first occurrence, which settles ties.
    return max(counts, key=lambda label: counts[label]) if counts else default


def nearest_record(task: tasks.Task, ranked: Sequence[Record], default: str = "") -> str:
    """What the user made of the most relevant record, as the answer to the query.

    Args:
      task: says which field is the answer.
      ranked: the user's records, most relevant first (as `retrieval.retrieve` returns them).
      default: the answer for a user without records.
    """
    return task.normalise(task.record_answer(ranked[0])) if ranked else default


def query_text(task: tasks.Task, query: Query) -> str:
    """The query's own text as the answer (for generation; in LaMP_7 a strong one)."""
    return task.normalise(task.query_text(query))


def query_first_sentence(task: tasks.Task, query: Query) -> str:
    """The first sentence of the query's text as the answer: up to `.`, `!` or `?` before a blank, or the first line."""
    text = task.query_text(query).strip()
    return task.normalise(re.split(r"(?<=[.!?])\s+|\n", text, maxsplit=1)[0])


def derangements(users: Sequence[str], *, seed: int, n: int) -> tuple[Mapping[str, str], ...]:
    """Ways to hand every user the head of somebody else, drawn uniformly.

    Args:
      users: distinct ids. Their order does not matter.
      seed: of the draws.
      n: how many; with two or three users some will be the same.

    Returns:
      `n` one-to-one mappings from a user to the user whose head is lent, never the user's own.

    Raises:
      ValueError: fewer than two users, or one of them twice.
    """
    owners = sorted(users)
    if len(owners) < 2 or len(set(owners)) < len(owners):
        raise ValueError(f"got {len(owners)} users ({len(set(owners))} distinct), expected two or more distinct ones")
    rng = np.random.default_rng(seed)
    places = np.arange(len(owners))
    drawn: list[Mapping[str, str]] = []
    while len(drawn) < n:
        # Every third permutation or so moves everybody; keeping only these leaves the draw uniform.
        lent = rng.permutation(len(owners))
        if not np.any(lent == places):
            drawn.append({owner: owners[i] for owner, i in zip(owners, lent, strict=True)})
    return tuple(drawn)


def _majority(task: tasks.Task, predictions: Sequence[str], votes: Sequence[int]) -> int:
    counts: dict[str, int] = collections.Counter()
    for prediction, n in zip(predictions, votes, strict=True):
        counts[prediction] += n
    valid = [prediction for prediction in counts if prediction in task.labels]
    return predictions.index(max(valid or list(counts), key=lambda prediction: counts[prediction]))


def _median(predictions: Sequence[str], votes: Sequence[int]) -> int:
    read = [(ratings.number(p), i) for i, p in enumerate(predictions)]
    samples = sorted((value, i) for value, i in read if value is not None for _ in range(votes[i]))
    if not samples:
        return 0
    # With an even number of samples there are two middle ones; a rating between them is no candidate.
    middle = samples[(len(samples) - 1) // 2], samples[len(samples) // 2]
    return min(i for _, i in middle)


def _minimum_bayes_risk(predictions: Sequence[str], votes: Sequence[int]) -> int:
    shares = np.asarray(votes, float)
    agreement = np.array([[sum(metrics.rouge_pair(a, b)) / 2.0 for b in predictions] for a in predictions])
    # Rounding: candidates that agree equally must stay tied, whatever the order of the sums.
    return int(np.argmax(np.round(agreement @ shares, 9)))


def _some_votes(votes: Sequence[int]) -> None:
    if sum(votes) < 1 or min(votes) < 0:
        raise ValueError(
            f"a control has to choose from a pool with the votes {list(votes)}, expected at least one vote"
        )
