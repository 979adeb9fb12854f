import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from hydrajax import metrics
from hydrajax.data import tasks

TEXTS = st.lists(st.sampled_from(["alpha", "Beta", "gamma,", "delta-one", "42", "é"]), max_size=8).map(" ".join)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6))
def test_rouge_is_the_plain_mean_of_f_of_rouge_score(pairs):
    predictions, golds = zip(*pairs, strict=True)
    scorer = rouge_scorer.RougeScorer(["rouge1", "rougeL"], use_stemmer=False)
    scores = [scorer.score(gold, prediction) for prediction, gold in pairs]
    computed = metrics.compute(tasks.LAMP["LaMP_4"], predictions, golds)
    for name in ("rouge1", "rougeL"):
        np.testing.assert_allclose(computed[name], np.mean([s[name].fmeasure for s in scores]), atol=1e-12)


def test_words_are_not_stemmed():
    assert metrics.rouge_pair("running dogs", "run dog") == (0.0, 0.0)


def test_order_matters_for_rouge_l_alone():
    # Shared words 3 of 3; longest common subsequence 2 of 3.
    assert metrics.rouge_pair("a c b", "a b c") == pytest.approx((1.0, 2 / 3))


@pytest.mark.parametrize("empty", ["", "  ", "?!"])
def test_nothing_scores_zero(empty):
    assert metrics.rouge_pair(empty, "a b c") == (0.0, 0.0)
    assert metrics.rouge_pair("a b c", empty) == (0.0, 0.0)


def test_importing_metrics_imports_none_of_the_heavy_packages():
    heavy = {"rouge_score", "nltk", "sklearn", "sacrebleu", "jax"}
    code = f"import sys, hydrajax.metrics; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
