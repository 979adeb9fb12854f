import random

import numpy as np
import pytest
import rank_bm25
from hypothesis import given, settings
from hypothesis import strategies as st

from hydrajax.retrieval import bm25
from hydrajax.types import Record

WORDS = st.sampled_from(["the", "The", "a", "cat", "cat.", "sat", "on", "mat", "été", "x"])
TEXTS = st.lists(WORDS, max_size=12).map(" ".join)


def _reference(query: str, corpus: list[str]) -> np.ndarray:
    return rank_bm25.BM25Okapi([text.split() for text in corpus]).get_scores(query.split())


def _rank(query: str, corpus: list[str]) -> list[int]:
    records = [Record(id=str(i), fields={"text": text}) for i, text in enumerate(corpus)]
    return bm25.rank(query, records, corpus, query_id="q", seed=0)


def _natural(draw: random.Random, vocabulary: int, length: int) -> str:
    """Words with the frequencies of natural text: the i-th commonest has a share of 1 / i (Zipf)."""
    weights = [1 / (i + 1) for i in range(vocabulary)]
    return " ".join(f"w{i}" for i in draw.choices(range(vocabulary), weights, k=length))


@settings(max_examples=200, deadline=None)
@given(query=TEXTS, corpus=st.lists(TEXTS, min_size=1, max_size=8).filter(lambda c: any(t.split() for t in c)))
def test_scores_are_those_of_rank_bm25(query, corpus):
    np.testing.assert_allclose(bm25.scores(query, corpus), _reference(query, corpus), rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_scores_and_top_are_those_of_rank_bm25_on_natural_frequencies(seed):
    draw = random.Random(seed)
    corpus = [_natural(draw, 2000, draw.randint(5, 80)) for _ in range(draw.randint(5, 120))]
    query = _natural(draw, 2000, 30)
    expected = _reference(query, corpus)
    np.testing.assert_allclose(bm25.scores(query, corpus), expected, rtol=0, atol=1e-9)
    ranked = expected[_rank(query, corpus)]
    assert (np.diff(ranked) <= 1e-9).all()


def test_the_floor_of_a_frequent_term_is_a_quarter_of_the_mean_idf():
    corpus = ["a b", "a c", "a d"]
    rare, common = np.log(2.5 / 1.5), np.log(0.5 / 3.5)
    floor = 0.25 * (3 * rare + common) / 4
    # Every text is as long as the mean, so with f = 1 the factor is (k1 + 1) / (1 + k1) = 1.
    np.testing.assert_allclose(bm25.scores("a", corpus), [floor] * 3, atol=1e-12)
    np.testing.assert_allclose(bm25.scores("b a", corpus), [rare + floor, floor, floor], atol=1e-12)


def test_case_and_punctuation_belong_to_the_term():
    assert (bm25.scores("Cat", ["cat sat", "Cat. sat", "dog ran"]) == 0).all()


def test_equal_texts_stand_newest_first():
    assert _rank("cat", ["cat a", "dog b", "cat a", "fox c", "cat a", "emu d", "elk e"])[:3] == [4, 2, 0]


def test_a_tie_is_not_decided_by_the_last_bit():
    # The same terms under two names, summed in opposite orders: equal on paper, and apart by one bit.
    corpus = ["a a b b b c c c", "A A B B B C C C", *(f"{i} x" for i in range(6))]
    first, second, *_ = bm25.scores("a b c C B A", corpus)
    assert 0 < first - second < 1e-12
    assert _rank("a b c C B A", corpus)[:2] == [1, 0]
    assert _rank("A B C c b a", corpus)[:2] == [1, 0]


@pytest.mark.parametrize("query", ["", "   ", "unseen words"])
def test_a_query_that_shares_nothing_gets_the_newest(query):
    assert _rank(query, ["one two", "three", "four five"]) == [2, 1, 0]


@pytest.mark.parametrize("corpus", [[], [""], ["", " \n "]])
def test_empty_corpora_score_zero(corpus):
    np.testing.assert_array_equal(bm25.scores("a b", corpus), np.zeros(len(corpus)))
    assert _rank("a b", corpus) == list(range(len(corpus)))[::-1]


@settings(max_examples=100, deadline=None)
@given(query=TEXTS, corpus=st.lists(TEXTS, max_size=8))
def test_any_corpus_gives_finite_scores_and_a_permutation(query, corpus):
    assert np.isfinite(bm25.scores(query, corpus)).all()
    assert sorted(_rank(query, corpus)) == list(range(len(corpus)))
