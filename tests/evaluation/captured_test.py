import dataclasses

import numpy as np
import pytest

from hydrajax.evaluation import captured, intervals
from hydrajax.types import DataError


def _as(rows, **answers):
    """The rows with the answers of one method given to another."""
    return [row | {"answers": row["answers"] | {a: row["answers"][b] for a, b in answers.items()}} for row in rows]


@pytest.mark.parametrize("name", ["LaMP_2M", "LaMP_3", "LaMP_4", "demo"])
def test_the_source_captures_nothing_and_the_oracle_everything(make_rows, name):
    task, rows = make_rows(name)
    for stands_in, share in (("zero_shot", 0.0), ("oracle", 1.0)):
        measured = intervals.measure(task, _as(rows, hydra=stands_in), resamples=100)
        found = captured.captured_share(measured, source="zero_shot")
        assert (found.value, found.low, found.high) == (share, share, share)


@pytest.mark.parametrize("name", ["LaMP_3", "LaMP_4"])
def test_the_share_is_gain_by_room_whatever_the_direction(make_rows, name):
    measured = intervals.measure(*make_rows(name), resamples=200)
    metric = measured.metrics[0]
    hydra, source, oracle = (measured.values[m, metric] for m in ("hydra", "random", "oracle"))
    found = captured.captured_share(measured, source="random")
    np.testing.assert_allclose(found.value, (hydra - source) / (oracle - source))
    assert found.low <= found.value <= found.high
    assert 0 < found.value < 1


def test_worse_than_the_source_is_negative(make_rows):
    task, rows = make_rows("LaMP_4")
    measured = intervals.measure(task, _as(rows, hydra="zero_shot"), resamples=100)
    assert captured.captured_share(measured, source="rag").high < 0


def test_without_room_there_is_no_share(make_rows):
    task, rows = make_rows("LaMP_4")
    measured = intervals.measure(task, _as(rows, rag="oracle"), resamples=100)
    assert captured.captured_share(measured, source="rag") is None
    # An oracle below the source, which a pool without the source's answers allows.
    measured = intervals.measure(task, _as(rows, oracle="zero_shot"), resamples=100)
    assert captured.captured_share(measured, source="rag") is None


def test_room_that_most_resamples_lack_gives_a_value_without_an_interval(make_rows):
    task, rows = make_rows("LaMP_4", users=8)
    measured = intervals.measure(task, rows, resamples=100)
    key = ("oracle", "rouge1")
    without = measured.resampled[key].copy()
    without[:10] = measured.resampled["rag", "rouge1"][:10]
    measured = dataclasses.replace(measured, resampled={**measured.resampled, key: without})
    found = captured.captured_share(measured, source="rag")
    assert np.isfinite(found.value)
    assert (found.low, found.high) == (None, None)


def test_an_unknown_source_is_named(make_rows):
    measured = intervals.measure(*make_rows(users=2), resamples=5)
    with pytest.raises(DataError, match="'nothing' was not measured"):
        captured.captured_share(measured, source="nothing")
