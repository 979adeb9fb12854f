"""Pseudo-queries: what they hold, what they hide, and that draws are stable."""

import collections

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydrajax import types
from hydrajax.data import pseudo, tasks
from hydrajax.types import DataError, Record, User

TAGS = tasks.LAMP["LaMP_2M"]
TWEETS = tasks.LAMP["LaMP_7"]
CITATIONS = tasks.LAMP["LaMP_1"]


def films(user_id="ann", count=9, empty=()):
    profile = tuple(
        Record(id=str(i), fields={"description": "" if i in empty else f"film {i}", "tag": TAGS.labels[i % 3]})
        for i in range(count)
    )
    return User(id=user_id, profile=profile)


def papers(user_id, *titles):
    profile = tuple(Record(id=f"p{i}", fields={"title": t, "abstract": ""}) for i, t in enumerate(titles))
    return User(id=user_id, profile=profile)


def test_a_record_is_asked_with_the_template_of_a_real_query():
    user = films()
    for query in pseudo.pseudo_queries(TAGS, user, None, seed=0):
        record = next(r for r in user.profile if r.id == query.record_id)
        assert query.id == f"pseudo:ann/{record.id}" and query.user_id == "ann"
        assert TAGS.question(query.inputs) == TAGS.demonstration_turns(record)[0].text
        assert query.gold == record.fields["tag"]


def test_the_own_record_is_hidden_and_all_others_are_not():
    user = films()
    for query in pseudo.pseudo_queries(TAGS, user, None, seed=0):
        shown = types.profile_for(query, user)
        assert len(shown) == len(user.profile) - 1
        assert query.inputs["text"] not in [record.fields["description"] for record in shown]


def test_records_with_an_empty_input_or_answer_are_never_drawn():
    user = films(empty=(2, 5))
    blank = Record(id="x", fields={"description": "film x", "tag": " "})
    drawn = pseudo.pseudo_queries(TAGS, User(id="ann", profile=(*user.profile, blank)), None, seed=3)
    assert {query.record_id for query in drawn} == {"0", "1", "3", "4", "6", "7", "8"}


def test_a_record_that_is_in_the_profile_twice_is_never_drawn():
    """Its twin would show the answer."""
    user = films(count=3)
    twin = Record(id="twin", fields={"description": " FILM  1", "tag": TAGS.labels[0]})
    drawn = pseudo.pseudo_queries(TAGS, User(id="ann", profile=(*user.profile, twin)), None, seed=0)
    assert {query.record_id for query in drawn} == {"0", "2"}


@given(seed=st.integers(0, 2**32), small=st.integers(0, 9), large=st.integers(0, 12))
@settings(max_examples=30, deadline=None)
def test_a_smaller_draw_is_the_beginning_of_a_larger_one(seed, small, large):
    small, large = sorted((small, large))
    user = films()
    drawn = pseudo.pseudo_queries(TAGS, user, large, seed=seed)
    assert pseudo.pseudo_queries(TAGS, user, small, seed=seed) == drawn[:small]
    assert len(drawn) == min(large, 9) == len({query.record_id for query in drawn})


def test_draws_differ_between_users_and_seeds_and_repeat():
    def order(user_id, seed):
        return [q.record_id for q in pseudo.pseudo_queries(TAGS, films(user_id), None, seed=seed)]

    assert order("ann", 0) == order("ann", 0)
    assert order("ann", 0) != order("bea", 0)
    assert order("ann", 0) != order("ann", 1)


def test_every_record_is_drawn_first_about_equally_often():
    first = [pseudo.pseudo_queries(TAGS, films(count=4), 1, seed=seed)[0].record_id for seed in range(400)]
    assert all(60 < count < 140 for count in collections.Counter(first).values())


def test_a_negative_count_is_refused():
    with pytest.raises(ValueError, match="count is -1"):
        pseudo.pseudo_queries(TAGS, films(), -1, seed=0)


def test_an_empty_profile_gives_nothing():
    assert pseudo.pseudo_queries(TAGS, User(id="new"), None, seed=0) == ()


def test_paraphrase_queries_wait_for_their_input():
    user = User(id="ann", profile=(Record(id="1", fields={"text": "so tired today!!"}),))
    (query,) = pseudo.pseudo_queries(TWEETS, user, None, seed=0)
    assert query.inputs == {"text": "so tired today!!"} and query.gold == "so tired today!!"
    asked = pseudo.with_inputs(query, "Ann is tired. ")
    assert asked.inputs == {"text": "Ann is tired."}
    assert (asked.gold, asked.record_id, asked.id) == (query.gold, query.record_id, query.id)
    with pytest.raises(ValueError, match="empty text"):
        pseudo.with_inputs(query, " ")


def test_citations_set_an_own_paper_against_a_strange_one():
    ann = papers("ann", "On Ponds", "On Lakes", "On Rivers", "On Rain")
    bea = papers("bea", "Shared Work", "A Logic", "Another Logic")
    ann = User(id="ann", profile=(*ann.profile, Record(id="shared", fields={"title": "shared work", "abstract": ""})))
    own = {record.fields["title"] for record in ann.profile}
    golds = collections.Counter()
    for seed in range(30):
        for query in pseudo.pseudo_queries(CITATIONS, ann, None, seed=seed, population=[ann, bea]):
            related, other = (query.inputs["a"], query.inputs["b"])[:: 1 if query.gold == "[1]" else -1]
            assert related in own and other in {"A Logic", "Another Logic"}
            assert query.inputs["title"] in own - {related}
            shown = [record.fields["title"] for record in types.profile_for(query, ann)]
            assert related not in shown and other not in shown
            golds[query.gold] += 1
    assert min(golds.values()) > 0.3 * golds.total()


def test_citations_need_other_authors_and_two_papers():
    assert pseudo.pseudo_queries(CITATIONS, papers("ann", "On Ponds"), None, seed=0) == ()
    ann = papers("ann", "On Ponds", "On Lakes")
    with pytest.raises(DataError, match="user 'ann': .* the population holds none"):
        pseudo.pseudo_queries(CITATIONS, ann, None, seed=0, population=[ann])


def test_citations_do_not_depend_on_the_order_of_the_population():
    ann, others = papers("ann", "On Ponds", "On Lakes"), [papers(f"u{i}", f"Logic {i}") for i in range(5)]
    forward = pseudo.pseudo_queries(CITATIONS, ann, None, seed=0, population=others)
    assert forward == pseudo.pseudo_queries(CITATIONS, ann, None, seed=0, population=others[::-1])


def test_no_two_records_have_one_id():
    pairs = [("a", "b/c"), ("a/b", "c"), ("a%2Fb", "c"), ("a", "b%2Fc")]
    assert len({pseudo.pseudo_id(*pair) for pair in pairs}) == len(pairs)
