"""Ordinal ratings as examples: cumulative logits.

    P(rating >= level_j) = sigmoid(s_j),  s_j = head([z; e_j]),  j = 1..K-1

with e_j the one-hot of the level among the extras: every rating makes K - 1 examples, one for each level but the
lowest, and the cross-entropy of all of them is the loss (Cao, Mirjalili and Raschka, arXiv 1901.07884, where levels
have intercepts of their own and share all weights). What is predicted is the rating with the least expected absolute
error, the median: one above as many levels as are more likely reached than not.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Num

from hydrajax.training import checks
from hydrajax.training.examples import Examples
from hydrajax.types import DataError


def of_ratings(
    user: Num[np.ndarray, " N"],
    x: Float[np.ndarray, "N D"],
    rating: Num[np.ndarray, " N"],
    levels: Sequence[Any],
) -> Examples:
    """N ratings as N (K - 1) examples, those of one rating beside each other and in one pool.

    Args:
      user: of each rating.
      x: features of what is rated.
      rating: one of the levels.
      levels: K of them, rising.

    Raises:
      DataError: levels that do not rise, or a rating that is none of them.
    """
    order = np.asarray(levels, np.float64)
    if order.ndim != 1 or len(order) < 2 or not (np.diff(order) > 0).all():
        raise DataError(f"levels are {list(levels)}, expected two or more that rise")
    rating = checks.floats(rating, "rating").astype(np.float64)
    if len(strange := np.flatnonzero(~np.isin(rating, order))):
        raise DataError(f"rating of row {strange[0]} is {rating[strange[0]]:g}, expected one of {list(levels)}")
    thresholds = len(order) - 1
    reached = (rating[:, None] >= order[1:]).ravel()
    return Examples(
        user=np.repeat(user, thresholds),
        x=np.repeat(x, thresholds, axis=0),
        extras=np.tile(np.eye(thresholds, dtype=np.float32), (len(rating), 1)),
        label=reached,
        score=reached,
        pool=np.repeat(np.arange(len(rating)), thresholds),
    )


def of_scores(scores: Float[np.ndarray, " M"], levels: Sequence[Any]) -> Float[np.ndarray, " N"]:
    """The ratings, float64, with the least expected absolute error, from the scores of `of_ratings`' examples."""
    reached = (np.asarray(scores).reshape(-1, len(levels) - 1) > 0).sum(axis=1)
    return np.asarray(levels, np.float64)[reached]
