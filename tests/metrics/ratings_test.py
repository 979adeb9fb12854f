import numpy as np
import pytest

from hydrajax import metrics
from hydrajax.types import DataError


def test_errors_are_in_stars():
    predictions, golds = ["4", "1", "5"], ["5", "3", "5"]
    assert metrics.mae(predictions, golds) == (1 + 2 + 0) / 3
    np.testing.assert_allclose(metrics.rmse(predictions, golds), np.sqrt((1 + 4 + 0) / 3))


@pytest.mark.parametrize(("gold", "error"), [("1", 4), ("2", 3), ("3", 2), ("4", 3), ("5", 4)])
@pytest.mark.parametrize("unreadable", ["", "good", "4 stars", "nan", "inf", "-inf"])
def test_what_is_no_number_counts_as_the_farther_end(unreadable, gold, error):
    assert metrics.mae([unreadable], [gold]) == error
    assert metrics.rmse([unreadable], [gold]) == error


def test_numbers_are_read_as_python_reads_them_in_range_or_not():
    assert metrics.mae(["4.5", "10"], ["5", "5"]) == (0.5 + 5) / 2


def test_a_gold_that_is_no_number_is_a_fault_of_the_data():
    with pytest.raises(DataError, match="'great', expected a number from 1 to 5"):
        metrics.mae(["4"], ["great"])
