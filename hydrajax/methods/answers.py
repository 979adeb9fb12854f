"""What methods hand on: a query with the records to show, with the candidates to choose among, with the choice."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from hydrajax.types import Candidate, Query, Record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompt:
    """A query and the records to show with it, most relevant first."""

    query: Query
    records: tuple[Record, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pool(Prompt):
    """And what may be answered, of an LLM's candidates the greedy one first."""

    candidates: Sequence[Candidate]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer(Pool):
    """And what is answered.

    Attributes:
      choice: index into `candidates`.
      scores: [len(candidates)], by which it was chosen; empty where it was chosen otherwise.
    """

    choice: int
    scores: tuple[float, ...] = ()

    @property
    def chosen(self) -> Candidate:
        return self.candidates[self.choice]

    @property
    def text(self) -> str:
        """As the LLM, or whoever proposed it, gave it."""
        return self.chosen.text


Draws = Sequence[tuple[Answer, ...]]  # one a query: an answer, or several draws of it


def choose(pool: Pool, choice: int, scores: Sequence[float] | np.ndarray = ()) -> Answer:
    """The candidate at an index as the answer."""
    return Answer(
        query=pool.query,
        records=pool.records,
        candidates=pool.candidates,
        choice=choice,
        scores=tuple(float(score) for score in scores),
    )


def best(pool: Pool, scores: Sequence[float] | np.ndarray) -> Answer:
    """The candidate of the highest score as the answer, the first of equals."""
    return choose(pool, int(np.argmax(scores)), scores)


def best_of_each(pools: Sequence[Pool], scores: np.ndarray) -> list[Answer]:
    """`best` of every pool; scores: of the candidates of all pools, one after the other."""
    by_pool = split(scores, [len(pool.candidates) for pool in pools])
    return [best(pool, part) for pool, part in zip(pools, by_pool, strict=True)]


def split(values: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    """Values in parts of these sizes."""
    return np.split(values, np.cumsum(sizes)[:-1]) if sizes else []


def one_draw(answers: Sequence[Answer]) -> Draws:
    """Answers that are not drawn: each the only one to its query."""
    return [(answer,) for answer in answers]


def only(query: Query, text: str, source: str) -> Answer:
    """An answer without alternatives."""
    return Answer(query=query, candidates=(Candidate(text=text, source=source),), choice=0)
