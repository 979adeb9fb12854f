import numpy as np
import pytest

from hydrajax import metrics
from hydrajax.data import tasks

ANSWERS = {
    "LaMP_2M": (["comedy", "no label", "action", "comedy"], ["comedy", "action", "action", "classic"]),
    "LaMP_3": (["5", "no number", "2", "4.5"], ["4", "5", "2", "1"]),
    "LaMP_4": (
        ["the cat sat on the mat", "a dog", "", "rain falls on the town at night"],
        ["the cat sat on a mat", "a dog barks", "nothing", "rain falls on a town at night"],
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_all_metrics_of_a_task_are_computed_in_their_order(name):
    task = tasks.LAMP[name]
    assert tuple(metrics.compute(task, *ANSWERS[name])) == task.metrics


@pytest.mark.parametrize("name", ANSWERS)
def test_a_metric_of_a_resample_follows_from_added_counts(name):
    task, (predictions, golds) = tasks.LAMP[name], ANSWERS[name]
    times = np.array([2, 0, 1, 3])
    drawn = np.repeat(np.arange(4), times)
    expected = metrics.compute(task, [predictions[i] for i in drawn], [golds[i] for i in drawn])
    for metric in task.metrics:
        statistic = metrics.STATISTICS[metric]
        value = statistic.value(times @ statistic.counts(task, predictions, golds))
        np.testing.assert_allclose(value, expected[metric], rtol=1e-12)


def test_every_metric_of_every_task_has_a_statistic_and_only_errors_are_better_when_low():
    reported = {metric for names in tasks.METRICS.values() for metric in names}
    assert reported == set(metrics.STATISTICS)
    assert {name for name, s in metrics.STATISTICS.items() if not s.higher_is_better} == {"mae", "rmse"}
