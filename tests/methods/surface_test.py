"""Surface features are the numbers that they say they are."""

import math

import pytest

from hydrajax.methods import surface

NAMES = (
    "words", "relative length", "letters a word", "capitals", "digits", "exclamations", "questions", "repetition",
    "overlap with the query",
)  # fmt: skip


def test_every_number_is_its_formula():
    got = dict(zip(NAMES, surface.features("Ask the old man", "The man, the man! Is 7 up?"), strict=True))
    words = ["The", "man", "the", "man", "Is", "7", "up"]
    assert got == {
        "words": math.log1p(7),
        "relative length": math.log(8 / 5),
        "letters a word": sum(map(len, words)) / 7 / 5,
        "capitals": 2 / 7,
        "digits": 1 / 7,
        "exclamations": math.log1p(1),
        "questions": math.log1p(1),
        "repetition": 2 / 7,
        "overlap with the query": 2 / 5,
    }


@pytest.mark.parametrize(("query", "candidate"), [("", ""), ("q", ""), ("", "?!"), ("q", "...")])
def test_texts_without_words_have_finite_features(query, candidate):
    assert all(math.isfinite(number) for number in surface.features(query, candidate))
