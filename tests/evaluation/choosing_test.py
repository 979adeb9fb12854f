"""What a run says of how much its choices rest on."""

import pytest

from hydrajax.evaluation import choosing

CHOICES = {
    "validation_users": 4,
    "validation_queries": 12,
    "shown": {"rag": {"k": 1, "quality": {"1": 0.5, "2": 0.4}}, "zero_shot": {"k": 0, "quality": {}}},
    "scorers": {
        "reranker": {"epochs": 0, "pools": 5, "quality": {"pairwise/0": 0.5}},
        "adapter": {"epochs": 2, "pools": 31, "quality": {"pairwise/0": 0.5, "pairwise/2": 0.6}},
    },
    "best_source": "rag",
    "best_prompt": None,
}


def test_it_says_on_how_much_each_choice_with_alternatives_rests():
    (said,) = choosing.sentences(CHOICES)
    assert "12 questions of 4 users" in said
    assert "records that 1 prompt strategy shows" in said
    assert "loss and epochs of the adapter among 2 by 31 pools" in said and "reranker" not in said
    assert "best single source" in said and "baseline" not in said


@pytest.mark.parametrize(("questions", "warned"), [(1, True), (9, True), (10, False), (500, False)])
def test_few_are_warned_of(questions, warned):
    said = choosing.sentences(CHOICES | {"validation_queries": questions})
    assert [sentence for sentence in said if "too little to choose by" in sentence] == said[1:]
    assert len(said) == 1 + warned
    assert ("1 question of" in said[0]) == (questions == 1)


def test_of_parts_the_one_with_the_fewest_speaks():
    said = choosing.sentences({"fold-0": CHOICES, "fold-1": CHOICES | {"validation_queries": 3}})
    assert said[0].startswith("Of 2 parts") and "3 questions" in said[1] and "too little" in said[2]


def test_nothing_chosen_is_said_in_few_words():
    nothing = {"validation_users": 0, "validation_queries": 0, "shown": {}, "scorers": {}}
    assert choosing.sentences(nothing) == ["Nothing was chosen on validation users."]
    assert choosing.sentences({}) == []
