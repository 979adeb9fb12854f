"""Text pairs that a user's head scores, and what is known of them: (query, record) and (query, candidate).

The label of a pair is what the cross-entropy learns. Labels and ratings: whether the answer is right. Texts and
rewards: whether its quality is above the mean of its pool, so that queries are compared with nobody but themselves.
"""

import collections
import dataclasses
from collections.abc import Iterable, Sequence

from hydrajax.data import tasks
from hydrajax.methods import llm_stages, sampling, surface
from hydrajax.methods.answers import Pool, Prompt
from hydrajax.methods.lab import Lab
from hydrajax.metrics import ratings
from hydrajax.types import Candidate, Feedback, Query, Record

SOURCES = ("reranked", "zero_shot")  # of HYDRA's candidates; what users said of is of neither


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One pair to score, and what is known of it.

    Attributes:
      user_id: whose head.
      query_id: what was asked.
      pool: rows of one pool are compared with each other; a query may have several.
      first, second: the pair of texts.
      extras: further features, the same number in every row.
      label: 1.0 or 0.0, what the cross-entropy learns.
      quality: graded, what pairwise and within-pool losses learn.
      levels: of a rating task's candidate, the ratings that there are, rising.
      rating: what the user gave; known where a rating task's candidate is learned from.
    """

    user_id: str
    query_id: str
    pool: str
    first: str
    second: str
    extras: tuple[float, ...] = ()
    label: float = 0.0
    quality: float = 0.0
    levels: tuple[float, ...] = ()
    rating: float | None = None


def pair(task: tasks.Task, query: Query, text: str, extras: Iterable[float] = (), pool: str | None = None) -> Row:
    """The pair (query, text); by default it is compared with all pairs of the query."""
    return Row(
        user_id=query.user_id,
        query_id=query.id,
        pool=pool or query.id,
        first=task.query_text(query),
        second=text,
        extras=tuple(map(float, extras)),
    )


def of_record(lab: Lab, query: Query, record: Record) -> Row:
    """The pair (query, record), the record's answer included."""
    return pair(lab.ctx.task, query, lab.ctx.task.record_text(record))


def of_candidates(lab: Lab, pool: Pool, name: str = "") -> list[Row]:
    """The pairs (query, candidate), with the extras that the settings ask for.

    Args:
      name: of this pool among several of the query.
    """
    task, query, settings = lab.ctx.task, pool.query, lab.settings
    votes = sum(candidate.votes for candidate in pool.candidates)
    levels = tuple(sorted(map(float, task.labels))) if task.kind == "rating" else ()
    pairs = []
    for candidate in pool.candidates:
        text = task.normalise(candidate.text)
        extras: list[float] = []
        if settings.identity:
            extras += [float(candidate.source == source) for source in SOURCES] + label_features(task, text)
        if settings.votes:
            extras += [candidate.votes / votes, float(candidate.greedy)]
        if settings.surface:
            extras += surface.features(task.query_text(query), text)
        pairs.append(dataclasses.replace(pair(task, query, text, extras, f"{name}|{query.id}"), levels=levels))
    return pairs


def label_features(task: tasks.Task, text: str) -> list[float]:
    """Which label it is, one-hot, and its place on the scale of ratings, -1 to 1; zeros of what is no label.

    Nothing in tasks without labels.
    """
    known = [float(text == label) for label in task.labels]
    if task.kind != "rating":
        return known
    lowest, highest = task.scale
    return [*known, 2 * (float(text) - lowest) / (highest - lowest) - 1 if text in task.labels else 0.0]


def tried_records(lab: Lab, queries: Sequence[Query]) -> list[Row]:
    """Pairs of queries and their top N records; quality: of the answer to the record shown alone, as one
    demonstration (HYDRA, equation 2)."""
    prompts = [
        Prompt(query=query, records=(record,))
        for query in queries
        for record in lab.retrieve(query, lab.settings.retrieved)
    ]
    answers = sampling.answer(lab, "rag", prompts, stage=llm_stages.RECORD_TRIALS)
    rows = [of_record(lab, answer.query, answer.records[0]) for answer in answers]
    return judged(lab.ctx.task, rows, [lab.quality(answer.query, answer.text) for answer in answers])


def tried_candidates(lab: Lab, pools: Iterable[Pool], name: str) -> list[Row]:
    """Pairs of queries and candidates; quality: of the candidate.

    Pools in which it does not differ teach nothing and are left out; not of ratings, where the user's own one teaches.
    """
    task = lab.ctx.task
    rows: list[Row] = []
    for pool in pools:
        qualities = [lab.quality(pool.query, candidate.text) for candidate in pool.candidates]
        rated = ratings.number(task.normalise(pool.query.gold or "")) if task.kind == "rating" else None
        pairs = [dataclasses.replace(row, rating=rated) for row in of_candidates(lab, pool, name)]
        rows += judged(task, pairs, qualities)
    return rows if task.kind == "rating" else differing(rows)


def learned_candidates(lab: Lab, pools: Iterable[Pool], name: str) -> list[Row]:
    """`tried_candidates` with the labels that the settings ask for.

    Where these are `gold`, a text's pool is the gold (label 1), as if it had the source of the others, and every
    candidate that is not the same (0).
    """
    task = lab.ctx.task
    if lab.settings.adapter_labels == "quality" or task.kind in ("classification", "rating"):
        return tried_candidates(lab, pools, name)
    rows: list[Row] = []
    for pool in pools:
        gold = Candidate(text=pool.query.gold or "", source=pool.candidates[0].source)
        same = task.normalise(gold.text)
        others = [candidate for candidate in pool.candidates if task.normalise(candidate.text) != same]
        pairs = of_candidates(lab, dataclasses.replace(pool, candidates=(gold, *others)), name)
        rows += [dataclasses.replace(row, label=float(not i), quality=float(not i)) for i, row in enumerate(pairs)]
    return differing(rows)


def of_feedback(lab: Lab, feedback: Sequence[Feedback]) -> list[Row]:
    """The pairs (query, answer) of scores and comparisons; a gold alone has nothing to be better than."""
    rows: list[Row] = []
    for i, given in enumerate(feedback):
        scores = dict(given.scores or {})
        if given.preferred is not None:
            scores = {given.preferred[0]: 1.0, given.preferred[1]: 0.0}
        candidates = tuple(Candidate(text=text, source="feedback") for text in scores)
        mean = sum(scores.values()) / max(1, len(scores))
        pairs = of_candidates(lab, Pool(query=given.query, candidates=candidates), f"feedback {i}")
        rows += [
            dataclasses.replace(row, label=float(score > mean), quality=score)
            for row, score in zip(pairs, scores.values(), strict=True)
        ]
    return differing(rows)


def judged(task: tasks.Task, rows: Sequence[Row], qualities: Sequence[float]) -> list[Row]:
    """The rows with their qualities, and the labels that follow from those of each pool."""
    pools = collections.defaultdict(list)
    for row, quality in zip(rows, qualities, strict=True):
        pools[row.pool].append(quality)
    return [
        dataclasses.replace(row, label=_label(task, quality, pools[row.pool]), quality=quality)
        for row, quality in zip(rows, qualities, strict=True)
    ]


def differing(rows: Sequence[Row]) -> list[Row]:
    """The rows of pools in which qualities differ: the others teach nothing."""
    qualities = collections.defaultdict(set)
    for row in rows:
        qualities[row.pool].add(row.quality)
    return [row for row in rows if len(qualities[row.pool]) > 1]


def _label(task: tasks.Task, quality: float, pool: Sequence[float]) -> float:
    if task.kind in ("classification", "rating"):
        return float(quality >= 1.0)
    return float(quality > sum(pool) / len(pool) + 1e-9)
