"""Words that a paraphrase has added are found out, and words keep order and form."""

import pytest

from hydrajax.methods.union import rewording
from hydrajax.types import DataError

NAMES = ("ann", "bob", "cat", "dan", "eve", "fay")


def pairs():
    return [
        (f"The person says {name} had lunch today", f"{name} had lunch today", [f"{name} at noon"]) for name in NAMES
    ]


def test_added_words_go_and_the_whole_text_stays_a_candidate():
    model = rewording.fit(pairs())
    found = rewording.versions(model, "The person says Gus had lunch, today!", ["lunch"])
    assert [text for text, _ in found] == ["Gus had lunch, today!", "The person says Gus had lunch, today!"]
    assert found[0][1] > found[1][1]


def test_expected_rouge_lies_between_zero_and_one():
    model = rewording.fit(pairs())
    assert all(0 < worth <= 1 for _, worth in rewording.versions(model, "The person says so", []))


def test_a_question_does_not_count_for_itself():
    """Without its own question a word that occurs once is unknown: its share is that of any new word."""
    model = rewording.fit(pairs()[::5])
    seen = rewording._features(model, "ann", [], known={"ann"})[0]
    new = rewording._features(model, "zoe", [])[0]
    assert seen[0] == new[0] and seen[4] == new[4]


def test_texts_without_words_are_left_as_they_are():
    model = rewording.fit(pairs())
    assert rewording.versions(model, " :-) ", []) == [(" :-) ", 0.0)]
    assert rewording.versions(model, " ", []) == []


@pytest.mark.parametrize("given", [[], [("a b", "a b", [])], [("a b", "c", [])]])
def test_questions_that_teach_nothing_are_refused(given):
    with pytest.raises(DataError, match="questions do not say"):
        rewording.fit(given)
