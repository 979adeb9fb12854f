import numpy as np
import pytest
from scipy import stats

from hydrajax.evaluation import intervals, two_way

RATE = (0.0, 1.0)


def cells(values):
    return [(f"u{i}", f"p{j}", value) for i, row in enumerate(values) for j, value in enumerate(row)]


def draw(rng, users, prompts, *, of_users=0.0, of_prompts=0.0, of_cells=0.0):
    shape = (users, prompts)
    return (
        of_users * rng.normal(size=(users, 1))
        + of_prompts * rng.normal(size=(1, prompts))
        + of_cells * rng.normal(size=shape)
    )


def test_the_table_holds_each_cell_in_its_place_whatever_the_order():
    given = cells([[0.0, 1.0], [None, 0.5], [1.0, 0.0]])
    table = two_way.table(given)
    np.testing.assert_array_equal(table, [[0.0, 1.0], [np.nan, 0.5], [1.0, 0.0]])
    np.testing.assert_array_equal(two_way.table(given[::-1]), table)


def test_a_cell_that_occurs_twice_is_refused():
    with pytest.raises(ValueError, match="more than once"):
        two_way.table([("u", "p", 1.0), ("u", "p", 1.0)])


def test_the_value_is_the_mean_of_known_cells_and_the_others_are_counted():
    values = draw(np.random.default_rng(0), 8, 9, of_cells=1.0)
    values[0, :4] = np.nan
    found = two_way.estimate(values, (-9.0, 9.0))
    assert found.value == pytest.approx(np.nanmean(values))
    assert (found.cells, found.missing) == (8 * 9 - 4, 4)
    assert found.low < found.value < found.high


def test_where_nothing_is_known_nothing_is_said():
    found = two_way.estimate(np.full((7, 7), np.nan), RATE)
    assert found == two_way.Estimate(value=None, low=None, high=None, detectable=None, cells=0, missing=49)


@pytest.mark.parametrize("shape", [(5, 30), (30, 5)])
def test_fewer_than_six_users_or_prompts_have_no_interval(shape):
    found = two_way.estimate(draw(np.random.default_rng(0), *shape, of_cells=1.0), (-9.0, 9.0))
    assert found.low is found.high is found.detectable is None and found.value is not None


def test_users_and_prompts_without_a_known_cell_do_not_count():
    values = draw(np.random.default_rng(0), 6, 8, of_cells=1.0)
    assert two_way.estimate(values, (-9.0, 9.0)).low is not None
    values[0] = np.nan
    assert two_way.estimate(values, (-9.0, 9.0)).low is None


@pytest.mark.parametrize("n", [6, 30])
def test_unanimous_cells_are_known_no_better_than_so_many_clusters_can_say(n):
    """n clusters in agreement are seen with probability alpha / 2 where a share `reach` is otherwise."""
    reach = 1 - (intervals.ALPHA / 2) ** (1 / n)
    assert (1 - reach) ** n == pytest.approx(intervals.ALPHA / 2)
    none, all_ = (two_way.estimate(np.full((n, n + 4), value), RATE) for value in RATE)
    assert (none.low, none.high) == pytest.approx((0.0, reach))
    assert (all_.low, all_.high) == pytest.approx((1 - reach, 1.0))
    same = two_way.estimate(np.zeros((n + 4, n)), (-1.0, 1.0))
    assert (same.low, same.high) == pytest.approx((-reach, reach))
    assert none.detectable is same.detectable is None


def test_turning_users_into_prompts_changes_no_more_than_the_draws():
    values = draw(np.random.default_rng(3), 12, 12, of_users=1.0, of_prompts=0.3, of_cells=0.5)
    one, other = (two_way.estimate(v, (-9.0, 9.0)) for v in (values, values.T))
    assert one.value == pytest.approx(other.value)
    assert one.high - one.low == pytest.approx(other.high - other.low, rel=0.15)


@pytest.mark.parametrize(("of_users", "of_prompts", "of_cells"), [(1.0, 0.0, 0.2), (0.0, 1.0, 0.2), (0.7, 0.7, 0.5)])
def test_the_interval_covers_the_truth_where_users_differ_and_where_prompts_do(of_users, of_prompts, of_cells):
    rng = np.random.default_rng(1)
    size = {"of_users": of_users, "of_prompts": of_prompts, "of_cells": of_cells}
    hits = 0
    for i in range(200):
        found = two_way.estimate(draw(rng, 10, 14, **size), (-99.0, 99.0), resamples=400, seed=2 * i)
        hits += found.low <= 0.0 <= found.high
    # Cells drawn one by one would cover less than half of the time.
    assert hits >= 0.9 * 200


def test_the_detectable_difference_is_that_of_students_test():
    users, prompts = 40, 50
    values = draw(np.random.default_rng(5), users, prompts, of_users=1.0)
    found = two_way.estimate(values, (-9.0, 9.0))
    standard_error = values.mean(axis=1).std() / users**0.5
    assert found.detectable == pytest.approx(sum(stats.t.ppf([0.975, 0.8], 39)) * standard_error, rel=0.1)


def test_users_and_prompts_are_drawn_apart_also_where_there_are_as_many():
    """Of a_i - a_j every resample would be 0, were the i and the j the same draws."""
    a = np.random.default_rng(7).normal(size=40)
    found = two_way.estimate(a[:, None] - a, (-9.0, 9.0))
    assert found.detectable == pytest.approx(sum(stats.t.ppf([0.975, 0.8], 39)) * (2 / 40) ** 0.5 * a.std(), rel=0.1)
