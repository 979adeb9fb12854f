import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from hydrajax import metrics
from hydrajax.data import tasks

LABELS = ("red", "green", "blue", "never used")
COLOURS = dataclasses.replace(tasks.LAMP["LaMP_2M"], name="colours", labels=LABELS)
ANSWERS = st.lists(
    st.tuples(st.sampled_from([*LABELS[:3], "reddish", ""]), st.sampled_from(LABELS[:3])), min_size=1, max_size=30
)


@given(ANSWERS)
def test_accuracy_and_macro_f1_are_those_of_scikit_learn(answers):
    predictions, golds = zip(*answers, strict=True)
    index = {label: i for i, label in enumerate(LABELS)}
    predicted, true = [index.get(p, -1) for p in predictions], [index[g] for g in golds]
    expected = sklearn_metrics.f1_score(true, predicted, labels=range(len(LABELS)), average="macro", zero_division=0)
    computed = metrics.compute(COLOURS, predictions, golds)
    np.testing.assert_allclose(computed["macro_f1"], expected, atol=1e-12)
    np.testing.assert_allclose(computed["accuracy"], sklearn_metrics.accuracy_score(true, predicted))


def test_an_answer_that_contains_the_gold_is_wrong():
    assert metrics.compute(COLOURS, ["red", "reddish", "not red", ""], ["red"] * 4)["accuracy"] == 1 / 4


def test_blanks_around_a_prediction_are_stripped_as_by_lamp():
    alone = dataclasses.replace(COLOURS, labels=("red",))
    assert metrics.compute(alone, [" red\n"], ["red"]) == {"accuracy": 1.0, "macro_f1": 1.0}


def test_macro_f1_averages_over_labels_that_nobody_uses():
    assert metrics.compute(COLOURS, ["red"], ["red"])["macro_f1"] == 1 / len(LABELS)


@pytest.mark.parametrize("task", ["LaMP_2M", "LaMP_3", "LaMP_4"])
def test_what_the_metrics_were_not_given_is_named(task):
    with pytest.raises(ValueError, match="2 predictions and 1 golds"):
        metrics.compute(tasks.LAMP[task], ["4", "5"], ["4"])
    with pytest.raises(ValueError, match="at least one"):
        metrics.compute(tasks.LAMP[task], [], [])
