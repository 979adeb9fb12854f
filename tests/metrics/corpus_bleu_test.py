import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from hydrajax import metrics
from hydrajax.data import tasks
from hydrajax.metrics import corpus_bleu

TEXTS = st.lists(st.sampled_from(["the", "cat", "sat", "on,", "a", "Mat."]), max_size=9).map(" ".join)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS.filter(bool)), min_size=1, max_size=8), st.integers(0, 2**16))
def test_bleu_of_any_resample_follows_from_the_counts(pairs, seed):
    predictions, golds = zip(*pairs, strict=True)
    counts = corpus_bleu.bleu_counts(predictions, golds)
    drawn = np.random.default_rng(seed).integers(len(pairs), size=len(pairs))
    for rows in (np.arange(len(pairs)), drawn):
        expected = sacrebleu.corpus_bleu([predictions[i] for i in rows], [[golds[i] for i in rows]]).score
        np.testing.assert_allclose(corpus_bleu.bleu_value(counts[rows].sum(0)), expected, atol=1e-9)


def test_bleu_is_the_corpus_score_of_sacrebleu():
    predictions = ["the cat sat on the mat today", "a dog"]
    golds = ["the cat sat on a mat today", "a dog barked at the cat"]
    expected = sacrebleu.corpus_bleu(predictions, [golds]).score
    np.testing.assert_allclose(metrics.compute(tasks.LAMP["LaMP_4"], predictions, golds)["bleu"], expected, rtol=1e-12)
    assert 0 < expected < 100


def test_values_are_computed_for_a_whole_stack_of_sums():
    counts = corpus_bleu.bleu_counts(["the cat sat on a mat", "a cat sat"], ["the cat sat on the mat", "a cat sat"])
    stacked = corpus_bleu.bleu_value(np.stack([counts, 2 * counts]))
    assert stacked.shape == (2, 2)
    np.testing.assert_allclose(stacked[0, 0], corpus_bleu.bleu_value(counts[0]))
    np.testing.assert_allclose(stacked[0], stacked[1])


@pytest.mark.parametrize("predictions", [[""], ["something else entirely here"]])
def test_nothing_in_common_is_zero_without_a_warning(predictions):
    assert corpus_bleu.bleu_value(corpus_bleu.bleu_counts(predictions, ["the cat sat on the mat"]).sum(0)) == 0.0


def test_the_signature_says_what_was_counted():
    assert metrics.bleu_signature() == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{sacrebleu.__version__}"
