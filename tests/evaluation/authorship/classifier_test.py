"""The classifier of authors: chunks, habits that it finds, and what it refuses."""

import random

import numpy as np
import pytest

from hydrajax.evaluation.authorship import classifier
from hydrajax.types import DataError
from tests.evaluation.habits import HABITS, corpus, text


def accuracy(fitted, held_out):
    right = [
        fitted.authors[fitted.log_probabilities([text])[0].argmax()] == author
        for author, own in held_out.items()
        for text in own
    ]
    return np.mean(right)


def embed(texts):
    """Stands for the base: how often each habit occurs."""
    return np.array([[t.count(habit) for habit in HABITS.values()] for t in texts], np.float32)


@pytest.mark.parametrize("base", [None, embed])
def test_habits_are_found_in_texts_that_were_not_trained_on(base):
    fitted = classifier.fit(corpus(HABITS, 8, 0), embed=base, chunk_words=40)
    assert accuracy(fitted, corpus(HABITS, 6, 1)) > 0.9
    assert fitted.accuracy > 0.9


def test_without_habits_it_guesses():
    nobody = dict.fromkeys(HABITS)
    fitted = classifier.fit(corpus(nobody, 8, 0), chunk_words=60)
    assert abs(accuracy(fitted, corpus(nobody, 60, 1)) - 1 / 3) < 0.15
    assert fitted.accuracy < 0.7


def test_a_base_that_knows_nothing_gets_no_say():
    def noise(texts):
        return np.array([[hash(t) % 97] for t in texts], np.float32)

    fitted = classifier.fit(corpus(HABITS, 8, 0), embed=noise, chunk_words=40)
    assert fitted.weight >= 0.5
    assert accuracy(fitted, corpus(HABITS, 6, 1)) > 0.9


def test_probabilities_sum_to_one():
    fitted = classifier.fit(corpus(HABITS, 6, 0), embed=embed, chunk_words=40)
    found = fitted.log_probabilities(["river stone indeed", "", text(random.Random(3), None, size=300)])
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1.0)


@pytest.mark.parametrize("size", [0, 1, 10, 14, 15, 16, 25, 100])
def test_chunks_hold_every_word_once(size):
    words = [str(i) for i in range(size)]
    found = classifier.chunks(" ".join(words), 10)
    assert " ".join(found).split() == words
    assert len(found) >= 1 and all(len(chunk.split()) < 15 for chunk in found)
    assert all(len(chunk.split()) >= 5 for chunk in found[1:])


def test_too_little_to_learn_from():
    with pytest.raises(DataError, match="got 1 authors"):
        classifier.fit({"ann": ["a", "b"]})
    with pytest.raises(DataError, match="'bob' has 1"):
        classifier.fit({"ann": ["a", "b"], "bob": ["a"]})
