import copy
import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from hydrajax import metrics
from hydrajax.evaluation import intervals
from hydrajax.types import DataError

TASKS = ("LaMP_2M", "LaMP_3", "LaMP_4", "demo")


@pytest.mark.parametrize("name", TASKS)
def test_every_interval_contains_its_value(make_rows, name):
    measured = intervals.measure(*make_rows(name), resamples=200)
    for method in measured.methods:
        for metric in measured.metrics:
            found = intervals.interval(measured, method, metric)
            assert found.low <= found.value <= found.high
            difference = intervals.difference(measured, "hydra", method, metric)
            assert difference.low <= difference.value <= difference.high


def test_an_interval_reaches_to_a_value_that_biased_resamples_leave_out():
    resampled = np.linspace(0.2, 0.4, 1001)
    tail = 0.2 * intervals.tail_share(25)
    assert intervals.bounds(0.9, resampled, users=25) == pytest.approx((0.2 + tail, 0.9))
    assert intervals.bounds(0.1, resampled, users=25) == pytest.approx((0.1, 0.4 - tail))
    assert intervals.bounds(0.3, resampled, users=25) == pytest.approx((0.2 + tail, 0.4 - tail))


def test_the_interval_of_a_mean_is_students():
    # A mean's resamples are normal with the spread sqrt((n - 1) / n) s / sqrt(n).
    for n in (6, 10, 25, 100):
        spread = np.sqrt((n - 1) / n) / np.sqrt(n)
        low, high = stats.norm.ppf([intervals.tail_share(n), 1 - intervals.tail_share(n)], scale=spread)
        np.testing.assert_allclose([low, high], stats.t.interval(0.95, n - 1, scale=1 / np.sqrt(n)))
    assert intervals.tail_share(10**7) == pytest.approx(0.025, abs=1e-6)


@pytest.mark.parametrize("name", ["LaMP_2M", "LaMP_3", "LaMP_4"])
def test_a_value_is_the_plain_metric_and_draws_are_averaged(make_rows, name):
    task, rows = make_rows(name, draws=4)
    measured = intervals.measure(task, rows, resamples=2)
    golds = [row["gold"] for row in rows]
    for method in ("hydra", "random"):
        draws = zip(*(row["answers"][method]["predictions"] for row in rows), strict=True)
        plain = [metrics.compute(task, draw, golds) for draw in draws]
        for metric in task.metrics:
            np.testing.assert_allclose(measured.values[method, metric], np.mean([p[metric] for p in plain]), rtol=1e-9)


@pytest.mark.parametrize("name", ["LaMP_2M", "LaMP_3", "LaMP_4"])
def test_a_resample_is_the_plain_metric_of_the_users_drawn(make_rows, name):
    task, rows = make_rows(name, users=6)
    measured = intervals.measure(task, rows, resamples=3, seed=5)
    for weights, r in zip(measured.weights, range(3), strict=True):
        times = {user: int(n) for user, n in zip(measured.users, weights, strict=True)}
        drawn = [row for row in rows for _ in range(times[row["user"]])]
        plain = metrics.compute(
            task, [row["answers"]["hydra"]["predictions"][0] for row in drawn], [row["gold"] for row in drawn]
        )
        for metric in task.metrics:
            np.testing.assert_allclose(measured.resampled["hydra", metric][r], plain[metric], rtol=1e-9)


def test_the_mean_reward_is_measured_on_rewards(make_rows):
    task, rows = make_rows("demo")
    measured = intervals.measure(task, rows, resamples=2)
    expected = np.mean([row["answers"]["hydra"]["rewards"][0] for row in rows])
    np.testing.assert_allclose(measured.values["hydra", "reward"], expected)


@pytest.mark.parametrize("name", TASKS)
def test_asking_the_same_again_does_not_make_the_interval_narrower(make_rows, name):
    task, rows = make_rows(name)
    again = [copy.deepcopy(row) | {"query": f"{row['query']}-again-{n}"} for row in rows for n in range(3)]
    once, often = (intervals.measure(task, r, resamples=300) for r in (rows, rows + again))
    assert often.queries == 4 * once.queries
    for metric in task.metrics:
        a, b = (intervals.interval(measured, "hydra", metric) for measured in (once, often))
        assert b.high - b.low >= (a.high - a.low) * (1 - 1e-9)
        # The same answers from other users would be knowledge: there the interval has to shrink.
        others = [
            row | {"user": f"{row['user']}-{n}", "query": f"{row['query']}-{n}"} for row in rows for n in range(4)
        ]
        c = intervals.interval(intervals.measure(task, others, resamples=300), "hydra", metric)
        assert c.high - c.low < 0.75 * (a.high - a.low)


def test_the_order_of_rows_and_methods_changes_nothing(make_rows):
    task, rows = make_rows("LaMP_4")
    order = np.random.default_rng(1).permutation(len(rows))
    turned = [rows[i] | {"answers": dict(reversed(rows[i]["answers"].items()))} for i in order]
    a, b = intervals.measure(task, rows, resamples=50), intervals.measure(task, turned, resamples=50)
    assert a.users == b.users
    assert a.values == b.values
    for key, values in a.resampled.items():
        np.testing.assert_array_equal(values, b.resampled[key])


@pytest.mark.parametrize("name", TASKS)
def test_a_method_does_not_differ_from_itself(make_rows, name):
    measured = intervals.measure(*make_rows(name), resamples=50)
    for method in measured.methods:
        for metric in measured.metrics:
            d = intervals.difference(measured, method, method, metric)
            assert (d.value, d.low, d.high, d.detectable) == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("name", TASKS)
def test_positive_means_better_whatever_the_metric(make_rows, name):
    task, rows = make_rows(name)
    measured = intervals.measure(task, rows, resamples=200)
    metric = task.metrics[0]
    forth, back = (
        intervals.difference(measured, *pair, metric) for pair in (("oracle", "random"), ("random", "oracle"))
    )
    assert forth.low > 0
    np.testing.assert_allclose((back.value, back.low, back.high), (-forth.value, -forth.high, -forth.low))


def test_methods_that_err_together_are_told_apart_by_pairing(make_rows):
    task, rows = make_rows("LaMP_4", users=20)
    for row in rows:
        text = row["answers"]["rag"]["predictions"][0]
        row["answers"]["rag_and_more"] = {"predictions": [f"{text} zest"], "candidate": None}
    measured = intervals.measure(task, rows, resamples=500)
    alone = [intervals.interval(measured, method, "rouge1") for method in ("rag", "rag_and_more")]
    assert alone[0].low < alone[1].high
    assert intervals.difference(measured, "rag", "rag_and_more", "rouge1").low > 0


@pytest.mark.parametrize("users", [8, 60])
def test_the_detectable_difference_is_that_of_students_test(make_rows, users):
    task, rows = make_rows("LaMP_4", users=users, questions=1)
    measured = intervals.measure(task, rows, resamples=4000)
    gains = measured.by_user["hydra", "rouge1"] - measured.by_user["rag", "rouge1"]
    errors = stats.t.ppf(0.975, users - 1) + stats.t.ppf(0.8, users - 1)
    expected = errors * np.std(gains, ddof=1) / np.sqrt(users)
    found = intervals.difference(measured, "hydra", "rag", "rouge1").detectable
    np.testing.assert_allclose(found, expected, rtol=0.05)


@pytest.mark.parametrize("users", [6, 12, 40])
def test_a_difference_as_large_as_the_detectable_one_is_shown_in_four_of_five_repetitions(users):
    rng = np.random.default_rng(1)
    true = intervals.detectable(((users - 1) / users / users) ** 0.5, users)  # users' gains are N(true, 1)
    gains = rng.normal(true, 1.0, size=(4000, users))
    t = gains.mean(axis=1) / gains.std(axis=1, ddof=1) * users**0.5
    assert np.mean(t > stats.t.ppf(0.975, users - 1)) == pytest.approx(0.8, abs=0.04)


def test_what_differs_by_rounding_is_level(make_rows):
    task, rows = make_rows("LaMP_4", users=8, questions=1)
    measured = intervals.measure(task, rows, resamples=50)
    key, same = ("rag", "rouge1"), ("hydra", "rouge1")
    values = {**measured.values, same: measured.values[key] - 1e-15}
    resampled = {**measured.resampled, same: measured.resampled[key] - 1e-15}
    found = intervals.difference(dataclasses.replace(measured, values=values, resampled=resampled), *("hydra", *key))
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0) and math.copysign(1, found.value) == 1


@pytest.mark.parametrize("users", [8, 40])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(users):
    # Users with 1 to 4 questions, right with a probability of their own.
    covered, runs, rng = 0, 300, np.random.default_rng(0)
    for run in range(runs):
        skill = rng.beta(2, 2, size=users)
        asked = rng.integers(1, 5, size=users)
        right = rng.binomial(asked, skill)
        weights = intervals.resample_weights(users, resamples=1000, seed=run)
        low, high = intervals.bounds(right.sum() / asked.sum(), (weights @ right) / (weights @ asked), users=users)
        covered += low <= 0.5 <= high
    assert 0.92 <= covered / runs <= 0.98


def test_per_user_averages_count_users_not_questions(make_rows):
    task, rows = make_rows("LaMP_2M", users=2, questions=3)
    for row in rows:
        right = row["user"] == "u00"
        row["answers"]["rag"]["predictions"] = [row["gold"] if right else "no label"]
    kept = [row for row in rows if row["query"] not in ("u01-1", "u01-2")]
    measured = intervals.measure(task, kept, resamples=100)
    assert intervals.interval(measured, "rag", "accuracy").value == 3 / 4
    assert intervals.per_user_interval(measured, "rag", "accuracy").value == 1 / 2
    assert intervals.per_user_interval(measured, "rag", "macro_f1") is None


@pytest.mark.parametrize("users", [1, 5])
def test_fewer_users_than_a_sign_test_needs_have_values_and_no_intervals(make_rows, users):
    measured = intervals.measure(*make_rows(users=users), resamples=20)
    found = intervals.interval(measured, "hydra", "accuracy")
    assert (found.low, found.high) == (None, None)
    d = intervals.difference(measured, "hydra", "rag", "accuracy")
    assert (d.low, d.high, d.detectable) == (None, None, None)


def test_the_seed_decides_the_draws():
    a, b, c = (intervals.resample_weights(9, resamples=5, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    np.testing.assert_array_equal(a.sum(axis=1), np.full(5, 9.0))


def test_an_unknown_method_is_named(make_rows):
    measured = intervals.measure(*make_rows(users=2), resamples=5)
    with pytest.raises(DataError, match="method 'magic' was not measured on metric 'accuracy', expected one of"):
        intervals.difference(measured, "hydra", "magic", "accuracy")
