import dataclasses

import numpy as np
import pytest

from hydrajax import metrics
from hydrajax.data import tasks
from hydrajax.types import DataError

STARS = tasks.LAMP["LaMP_3"]


def test_errors_are_in_stars():
    predictions, golds = ["4", "1", "5"], ["5", "3", "5"]
    computed = metrics.compute(STARS, predictions, golds)
    assert computed["mae"] == (1 + 2 + 0) / 3
    np.testing.assert_allclose(computed["rmse"], np.sqrt((1 + 4 + 0) / 3))


@pytest.mark.parametrize(("gold", "error"), [("1", 4), ("2", 3), ("3", 2), ("4", 3), ("5", 4)])
@pytest.mark.parametrize("unreadable", ["", "good", "4 stars", "nan", "inf", "-inf"])
def test_what_is_no_number_counts_as_the_farther_end(unreadable, gold, error):
    assert metrics.compute(STARS, [unreadable], [gold]) == {"mae": error, "rmse": error}


def test_numbers_are_read_as_python_reads_them_in_range_or_not():
    assert metrics.compute(STARS, ["4.5", "10"], ["5", "5"])["mae"] == (0.5 + 5) / 2


def test_a_gold_that_is_no_number_is_a_fault_of_the_data():
    with pytest.raises(DataError, match="'great', expected a number from 1 to 5"):
        metrics.compute(STARS, ["4"], ["great"])


@pytest.mark.parametrize("labels", [[str(n) for n in range(1, 11)], ["-1", "0", "1"], ["0", "50", "100"]])
def test_another_scale_is_judged_by_its_own_ends(labels):
    lowest, highest = float(labels[0]), float(labels[-1])
    task = dataclasses.replace(STARS, name="own", labels=tuple(labels))
    assert task.scale == (lowest, highest)
    assert metrics.quality(task, labels[-1], labels[-1]) == 1.0
    assert metrics.quality(task, labels[0], labels[-1]) == 0.0
    assert metrics.quality(task, "rubbish", labels[-1]) == 0.0
    step = (float(labels[1]) - lowest) / (highest - lowest)
    np.testing.assert_allclose(metrics.quality(task, labels[1], labels[0]), 1 - step)
    found = metrics.compute(task, ["rubbish", task.normalise(f"{labels[1]}/{labels[-1]}")], labels[:2])
    np.testing.assert_allclose(found["mae"], (highest - lowest) / 2)


def test_what_rates_nothing_has_no_scale():
    with pytest.raises(ValueError, match="it has no scale"):
        tasks.LAMP["LaMP_4"].scale  # noqa: B018
