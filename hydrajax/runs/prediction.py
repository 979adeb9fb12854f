"""What a line of `predictions.jsonl` says of candidates and answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydrajax.methods.lab import Lab
from hydrajax.types import Candidate, Query


def candidate(lab: Lab, query: Query, one: Candidate, scores: Mapping[str, float]) -> dict[str, Any]:
    """A candidate of a pool, with its quality and the scores that methods gave it."""
    return {
        "text": one.text,
        "source": one.source,
        "votes": one.votes,
        "stop_reason": one.stop_reason,
        "prediction": lab.ctx.task.normalise(one.text),
        "quality": lab.quality(query, one.text),
        "scores": {method: round(score, 6) for method, score in scores.items()},
    }


def answer(lab: Lab, query: Query, texts: Sequence[str], place: list[Any] | None) -> dict[str, Any]:
    """A method's answer, or several draws of it.

    Args:
      lab: judges it.
      query: what was asked.
      texts: as answered.
      place: [pool, index] of the candidate that it is; None where it is not one of a pool.
    """
    found: dict[str, Any] = {"predictions": [lab.ctx.task.normalise(text) for text in texts], "candidate": place}
    if lab.reward is not None:
        found["rewards"] = [lab.quality(query, text) for text in texts]
    return found
