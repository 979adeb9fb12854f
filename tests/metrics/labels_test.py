import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from hydrajax import metrics

LABELS = ("red", "green", "blue", "never used")
ANSWERS = st.lists(
    st.tuples(st.sampled_from([*LABELS[:3], "reddish", ""]), st.sampled_from(LABELS[:3])), min_size=1, max_size=30
)


@given(ANSWERS)
def test_accuracy_and_macro_f1_are_those_of_scikit_learn(answers):
    predictions, golds = zip(*answers, strict=True)
    index = {label: i for i, label in enumerate(LABELS)}
    predicted, true = [index.get(p, -1) for p in predictions], [index[g] for g in golds]
    expected = sklearn_metrics.f1_score(true, predicted, labels=range(len(LABELS)), average="macro", zero_division=0)
    np.testing.assert_allclose(metrics.macro_f1(predictions, golds, LABELS), expected, atol=1e-12)
    np.testing.assert_allclose(metrics.accuracy(predictions, golds), sklearn_metrics.accuracy_score(true, predicted))


def test_an_answer_that_contains_the_gold_is_wrong():
    assert metrics.accuracy(["red", "reddish", "not red", ""], ["red"] * 4) == 1 / 4


def test_blanks_around_a_prediction_are_stripped_as_by_lamp():
    assert metrics.accuracy([" red\n"], ["red"]) == 1.0
    assert metrics.macro_f1([" red\n"], ["red"], ["red"]) == 1.0


def test_macro_f1_averages_over_labels_that_nobody_uses():
    assert metrics.macro_f1(["red"], ["red"], LABELS) == 1 / len(LABELS)


@pytest.mark.parametrize("metric", [metrics.accuracy, metrics.mae, metrics.rmse, metrics.rouge1, metrics.bleu])
def test_every_metric_names_what_it_was_not_given(metric):
    with pytest.raises(ValueError, match="2 predictions and 1 golds"):
        metric(["4", "5"], ["4"])
    with pytest.raises(ValueError, match="at least one"):
        metric([], [])
