import itertools

import numpy as np
import pytest

from hydrajax.training import examples
from hydrajax.types import DataError

LEVELS = (1, 2, 3, 4, 5)


def test_a_rating_is_one_example_for_each_level_but_the_lowest():
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    made = examples.of_ratings(np.array([1, 0, 1]), x, np.array([1, 3, 5]), LEVELS)
    np.testing.assert_array_equal(made.label.reshape(3, 4), [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]])
    np.testing.assert_array_equal(made.extras.reshape(3, 4, 4), np.tile(np.eye(4), (3, 1, 1)))
    np.testing.assert_array_equal(made.x.reshape(3, 4, 2), np.repeat(x[:, None], 4, axis=1))
    np.testing.assert_array_equal(made.user, np.repeat([1, 0, 1], 4))
    np.testing.assert_array_equal(made.pool, np.repeat([0, 1, 2], 4))


@pytest.mark.parametrize("levels", [LEVELS, (0, 0.5, 3)])
def test_what_is_predicted_has_the_least_expected_error(levels):
    """P(rating >= level) falls with the level; the expected error is taken of every level."""
    rng = np.random.default_rng(0)
    scores = -np.sort(-rng.normal(size=(50, len(levels) - 1)), axis=1)
    reach = np.column_stack([np.ones(50), 1 / (1 + np.exp(-scores)), np.zeros(50)])
    share = reach[:, :-1] - reach[:, 1:]
    values = np.array(levels, float)
    error = np.abs(values[None, :] - values[:, None]) @ share.T
    np.testing.assert_array_equal(examples.of_scores(scores.ravel(), levels), values[error.argmin(axis=0)])


def test_scores_that_do_not_fall_are_weighed_all_the_same():
    reach = np.array([0.1, 0.9, 0.9, 0.9])
    error = [reach[k:].sum() + (1 - reach[:k]).sum() for k in range(5)]
    assert np.argmin(error) == 4
    assert examples.of_scores(np.log(reach / (1 - reach)).astype(np.float32), LEVELS) == [5]


def test_levels_need_not_be_numbers_of_float32():
    levels = (0.1, 0.2, 0.3)
    for rating in (np.array([0.1, 0.3, 0.2]), np.array([0.1, 0.3, 0.2], np.float32)):
        made = examples.of_ratings(np.zeros(3, int), np.zeros((3, 1), np.float32), rating, levels)
        np.testing.assert_array_equal(made.label.reshape(3, 2), [[0, 0], [1, 1], [1, 0]])


@pytest.mark.parametrize("scores, says", [(np.zeros(5), "expected 4 of each rating"), (np.full(4, np.nan), "scores")])
def test_strange_scores_are_refused(scores, says):
    with pytest.raises(DataError, match=says):
        examples.of_scores(scores, LEVELS)


def test_scores_that_are_certain_give_the_rating_back():
    rating = np.array([1, 2, 3, 4, 5, 5, 1])
    made = examples.of_ratings(np.zeros(7, int), np.zeros((7, 1), np.float32), rating, LEVELS)
    np.testing.assert_array_equal(examples.of_scores(2 * made.label - 1, LEVELS), rating)


def test_strange_levels_and_ratings_are_refused():
    x, user = np.zeros((2, 1), np.float32), np.zeros(2, int)
    for levels in ((3,), (1, 1, 2), (2, 1)):
        with pytest.raises(DataError, match="expected two or more that rise"):
            examples.of_ratings(user, x, np.array([1, 2]), levels)
    for rating, said in itertools.product((2.5, 6), ("rating of row 1 is",)):
        with pytest.raises(DataError, match=said):
            examples.of_ratings(user, x, np.array([1, rating]), LEVELS)
