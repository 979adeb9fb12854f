import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydrajax import metrics
from hydrajax.data import tasks
from hydrajax.methods import controls
from hydrajax.types import Query, Record

TAGS, STARS, HEADLINES = tasks.LAMP["LaMP_2M"], tasks.LAMP["LaMP_3"], tasks.LAMP["LaMP_4"]
ANSWERS = {
    TAGS.name: st.sampled_from(["comedy", "action", "classic", "no label", ""]),
    STARS.name: st.sampled_from(["1", "2", "3", "4", "5", "none", ""]),
    HEADLINES.name: st.lists(st.sampled_from(["rain", "over", "town", "at", "night"]), max_size=5).map(" ".join),
}


def _profile(task, answers):
    return tuple(
        Record(id=str(i), fields={field: f"text {i}" for field in task.fields} | {task.answer: answer})
        for i, answer in enumerate(answers)
    )


@pytest.mark.parametrize("task", [TAGS, STARS, HEADLINES], ids=lambda task: task.name)
def test_every_choice_is_one_of_the_pool(task):
    @settings(max_examples=60, deadline=None)
    @given(st.lists(ANSWERS[task.name], min_size=1, max_size=6, unique=True), st.data())
    def check(pool, data):
        votes = data.draw(st.lists(st.integers(1, 4), min_size=len(pool), max_size=len(pool)))
        assert controls.vote(task, pool, votes) in range(len(pool))
        assert set(controls.random_choices(votes, seed=1, query_id="q")) <= {*range(len(pool))}

    check()


def test_random_choices_repeat_and_do_not_depend_on_other_queries():
    first = controls.random_choices([1, 1, 1, 1], seed=0, query_id="a")
    assert len(first) == 20
    assert controls.random_choices([1, 1, 1, 1], seed=0, query_id="a") == first
    assert controls.random_choices([1, 1, 1, 1], seed=0, query_id="b") != first
    assert controls.random_choices([1, 1, 1, 1], seed=1, query_id="a") != first


def test_a_candidate_is_drawn_as_often_as_it_was_sampled():
    drawn = collections.Counter(controls.random_choices([6, 3, 1], seed=0, query_id="a", draws=20_000))
    np.testing.assert_allclose([drawn[i] / 20_000 for i in range(3)], [0.6, 0.3, 0.1], atol=0.015)


def test_the_majority_counts_votes_and_not_candidates():
    assert controls.vote(TAGS, ["action", "classic", "comedy"], [1, 1, 3]) == 2


def test_tied_labels_go_to_the_first_of_the_pool():
    assert controls.vote(TAGS, ["classic", "action", "comedy"], [1, 2, 2]) == 1


def test_what_is_no_label_gets_the_vote_only_where_nothing_is_one():
    assert controls.vote(TAGS, ["I think", "action"], [7, 1]) == 1
    assert controls.vote(TAGS, ["I think", "maybe"], [1, 2]) == 1


@pytest.mark.parametrize(
    ("pool", "votes", "chosen"),
    [
        (["5", "1", "3"], [1, 1, 1], "3"),
        (["5", "1"], [3, 2], "5"),
        (["2", "none", "4"], [1, 9, 2], "4"),
        (["4", "2"], [1, 1], "4"),  # two middle ratings: the first of the pool
        (["none", "5 stars"], [1, 2], "none"),
    ],
)
def test_the_median_rating_is_one_of_the_pool(pool, votes, chosen):
    assert pool[controls.vote(STARS, pool, votes)] == chosen


def test_minimum_bayes_risk_takes_the_text_most_alike_to_all_samples():
    pool = ["sun on hills", "rain at night", "rain over town at night", "rain at night in town"]
    agreement = [sum(sum(metrics.rouge_pair(a, b)) for b in pool) for a in pool]
    assert controls.vote(HEADLINES, pool, [1, 1, 1, 1]) == int(np.argmax(agreement))
    assert controls.vote(HEADLINES, pool, [9, 1, 1, 1]) == 0


def test_an_empty_text_never_wins_against_one_that_others_share_words_with():
    assert controls.vote(HEADLINES, ["", "rain at night", "rain by day"], [3, 1, 1]) != 0


@pytest.mark.parametrize("votes", [[], [0, 0]])
def test_an_empty_pool_is_an_error(votes):
    with pytest.raises(ValueError, match="expected at least one vote"):
        controls.vote(TAGS, ["a"] * len(votes), votes)
    with pytest.raises(ValueError, match="expected at least one vote"):
        controls.random_choices(votes, seed=0, query_id="q")


def test_the_most_frequent_label_and_its_ties():
    assert controls.most_frequent_label(TAGS, _profile(TAGS, ["action", "comedy", "comedy"])) == "comedy"
    assert controls.most_frequent_label(TAGS, _profile(TAGS, ["action", "comedy", "comedy", "action"])) == "action"
    assert controls.most_frequent_label(TAGS, _profile(TAGS, ["odd", "odd", "action"])) == "action"
    assert controls.most_frequent_label(TAGS, (), default="classic") == "classic"


@pytest.mark.parametrize(
    ("scores", "median"), [(["5", "1", "4"], "4"), (["5", "4"], "4.5"), (["5", "?"], "5"), ([], "3")]
)
def test_ratings_are_answered_by_their_median(scores, median):
    assert controls.most_frequent_label(STARS, _profile(STARS, scores), default="3") == median


@pytest.mark.parametrize("name", ["LaMP_1", "LaMP_4"])
def test_a_task_without_labels_in_its_records_has_no_most_frequent_one(name):
    with pytest.raises(ValueError, match=f"task {name} .* has no labels in its records"):
        controls.most_frequent_label(tasks.LAMP[name], ())


def test_the_nearest_record_answers_as_the_user_did():
    assert controls.nearest_record(TAGS, _profile(TAGS, ["Comedy", "action"])) == "comedy"
    assert controls.nearest_record(TAGS, (), default="action") == "action"


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Rain again. The town is wet.", "Rain again."),
        ("Is it 3.5 degrees? Yes", "Is it 3.5 degrees?"),
        ("a line\nanother line", "a line"),
        ("no end", "no end"),
    ],
)
def test_the_query_answers_itself(text, first):
    query = Query(id="q", user_id="u", inputs={"text": text})
    assert controls.query_text(HEADLINES, query) == text
    assert controls.query_first_sentence(HEADLINES, query) == first


@given(st.integers(2, 12), st.integers(0, 1000))
def test_a_derangement_moves_everybody_and_leaves_no_head_unused(size, seed):
    users = [f"u{i}" for i in range(size)]
    for lent in controls.derangements(users, seed=seed, n=3):
        assert sorted(lent) == sorted(lent.values()) == sorted(users)
        assert all(user != other for user, other in lent.items())


def test_derangements_repeat_differ_and_ignore_the_order_of_users():
    users = [f"u{i}" for i in range(10)]
    found = controls.derangements(users, seed=0, n=5)
    assert controls.derangements(users[::-1], seed=0, n=5) == found
    assert len({tuple(lent.values()) for lent in found}) == 5


def test_derangements_are_drawn_uniformly():
    # Four users have nine derangements, three of which (two swaps) a rotation would never give.
    drawn = collections.Counter(tuple(lent.values()) for lent in controls.derangements("abcd", seed=0, n=9000))
    assert len(drawn) == 9
    assert max(abs(n - 1000) for n in drawn.values()) < 150


@pytest.mark.parametrize("users", [[], ["a"], ["a", "a", "b"]])
def test_nobody_can_be_served_by_another_where_there_is_none(users):
    with pytest.raises(ValueError, match="expected two or more distinct"):
        controls.derangements(users, seed=0, n=1)
