"""Dividing users: nothing is lost, nothing leaks, smaller draws begin larger ones."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydrajax.data import folds, tasks
from hydrajax.types import DataError, Query, Record, Split, User

TAGS = tasks.LAMP["LaMP_2M"]
TWEETS = tasks.LAMP["LaMP_7"]
CITATIONS = tasks.LAMP["LaMP_1"]


def film_user(user_id, *films):
    return User(
        id=user_id,
        profile=tuple(Record(id=f"r{i}", fields={"description": f, "tag": "comedy"}) for i, f in enumerate(films)),
    )


def film_query(query_id, user_id, film):
    return Query(id=query_id, user_id=user_id, inputs={"text": film}, gold="comedy")


def made(name, users, queries):
    return Split(name=name, users={user.id: user for user in users}, queries=tuple(queries))


def plain(name="train", users=20, per_user=3, silent=0):
    people = [film_user(f"{name}{i}", f"{name} seen {i}") for i in range(users + silent)]
    queries = [
        film_query(f"{name}{i}q{j}", f"{name}{i}", f"{name} {i} {j}") for j in range(per_user) for i in range(users)
    ]
    return made(name, people, queries)


def films_of(split, user_id):
    return [record.fields["description"] for record in split.users[user_id].profile]


def test_what_a_held_out_question_asks_is_removed_from_everybody_else():
    train = made(
        "train",
        [film_user("ann", "The Pond", "the  POND", "The Lake"), film_user("bea", "The Rain")],
        [
            film_query("a1", "ann", "The River"),
            film_query("a2", "ann", "the pond "),
            film_query("b1", "bea", "The Sea"),
        ],
    )
    dev = made(
        "dev",
        [
            film_user("cid", "The Pond", "The Fog"),
            film_user("dot", "The Pond", "The Fog"),
            film_user("eve", "The Snow"),
        ],
        [film_query("c1", "cid", "The Pond"), film_query("d1", "dot", "The Snow"), film_query("e1", "eve", "The Pond")],
    )
    fold = folds.hold_out(TAGS, train, dev)
    assert films_of(fold.train, "ann") == ["The Lake"]
    assert films_of(fold.train, "bea") == ["The Rain"]
    assert [query.id for query in fold.train.queries] == ["a1", "b1"]
    # eve asks for The Pond as well as cid does, so neither may see the other's record of it.
    assert films_of(fold.held_out, "cid") == ["The Fog"]
    assert films_of(fold.held_out, "dot") == ["The Fog"]
    assert films_of(fold.held_out, "eve") == []
    assert [query.id for query in fold.held_out.queries] == ["c1", "d1", "e1"]
    assert fold.removed == folds.Removed(train_questions=1, train_records=2, held_out_records=3)


def test_a_user_keeps_what_only_the_own_question_asks():
    dev = made("dev", [film_user("cid", "The Pond")], [film_query("c1", "cid", "The Pond")])
    fold = folds.hold_out(TAGS, made("train", [], []), dev)
    assert films_of(fold.held_out, "cid") == ["The Pond"]


def test_where_records_hold_answers_only_the_gold_is_removed_too():
    record = Record(id="r", fields={"text": "rain AGAIN"})
    train = made("train", [User(id="ann", profile=(record,))], [])
    query = Query(id="q", user_id="bea", inputs={"text": "It rains once more."}, gold="Rain again")
    fold = folds.hold_out(TWEETS, train, made("dev", [User(id="bea")], [query]))
    assert fold.train.users["ann"].profile == () and fold.removed.train_records == 1


def test_a_citation_question_is_known_by_the_paper_that_asks():
    profile = tuple(Record(id=t, fields={"title": t, "abstract": ""}) for t in ("Asking", "Option", "Other"))
    query = Query(id="q", user_id="bea", inputs={"title": "asking", "a": "Option", "b": "Other"}, gold="[1]")
    train = made("train", [User(id="ann", profile=profile)], [])
    fold = folds.hold_out(CITATIONS, train, made("dev", [User(id="bea")], [query]))
    assert [record.id for record in fold.train.users["ann"].profile] == ["Option", "Other"]


def test_a_user_cannot_be_on_both_sides():
    with pytest.raises(DataError, match="user 'train0' is in 'train' and in 'dev'"):
        folds.hold_out(TAGS, plain(), dataclasses.replace(plain(), name="dev"))


@given(count=st.integers(2, 7), seed=st.integers(0, 1000), silent=st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_every_user_is_held_out_once_and_folds_are_even(count, seed, silent):
    splits = [plain("train", 11, silent=silent), plain("dev", 6)]
    made_folds = folds.k_folds(TAGS, splits, folds=count, seed=seed)
    held = [user_id for fold in made_folds for user_id in fold.held_out.users]
    assert sorted(held) == sorted([*splits[0].users, *splits[1].users])
    asked = [query.id for fold in made_folds for query in fold.held_out.queries]
    assert sorted(asked) == sorted(query.id for split in splits for query in split.queries)
    sizes = [len({query.user_id for query in fold.held_out.queries}) for fold in made_folds]
    assert max(sizes) - min(sizes) <= 1
    for fold in made_folds:
        assert not set(fold.train.users) & set(fold.held_out.users)
        assert len(fold.train.users) + len(fold.held_out.users) == 17 + silent


def test_folds_are_cleaned():
    """Everybody asks for one film: in each fold it is left to the held-out questions alone."""
    users = [film_user(f"u{i}", "The Pond", f"other {i}") for i in range(6)]
    split = made("train", users, [film_query(f"q{i}", f"u{i}", "The Pond") for i in range(6)])
    for fold in folds.k_folds(TAGS, [split], folds=3, seed=0):
        assert fold.removed == folds.Removed(train_questions=4, train_records=4, held_out_records=2)
        assert len(fold.held_out.queries) == 2 and fold.train.queries == ()


def test_folds_refuse_what_cannot_be_told_apart():
    with pytest.raises(DataError, match="question 'train0q0' is in two splits"):
        folds.k_folds(TAGS, [plain(), plain()], folds=2, seed=0)
    other = made("dev", [film_user("train0")], [film_query("x", "train0", "x")])
    with pytest.raises(DataError, match="user 'train0' is in two splits"):
        folds.k_folds(TAGS, [plain(), other], folds=2, seed=0)
    with pytest.raises(DataError, match="3 users with queries cannot be divided into 5 folds, expected 2 to 3"):
        folds.k_folds(TAGS, [plain(users=3, silent=4)], folds=5, seed=0)


@given(small=st.integers(1, 20), large=st.integers(1, 20), seed=st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_a_smaller_subset_is_the_beginning_of_a_larger_one(small, large, seed):
    small, large = sorted((small, large))
    split = plain(silent=4)
    less = folds.subset(split, users=small, queries_per_user=1, seed=seed)
    more = folds.subset(split, users=large, queries_per_user=2, seed=seed)
    assert list(less.users) == list(more.users)[:small] and len(less.users) == small
    assert {query.id for query in less.queries} <= {query.id for query in more.queries}
    assert len(less.queries) == small and len(more.queries) == 2 * large


def test_a_subset_keeps_the_order_of_the_questions_and_takes_users_with_questions():
    split = plain(silent=4)
    everything = folds.subset(split, users=None, seed=0)
    assert everything.queries == split.queries
    assert set(everything.users) == {query.user_id for query in split.queries}


def test_a_subset_does_not_depend_on_who_else_is_there():
    split = plain()
    drawn = list(folds.subset(split, users=20, seed=5).users)
    fewer = folds.part(split, [user_id for user_id in split.users if user_id != drawn[0]])
    assert list(folds.subset(fewer, users=19, seed=5).users) == drawn[1:]


def test_too_many_users_are_refused():
    silent = dataclasses.replace(plain(), queries=())
    with pytest.raises(DataError, match="has 20 users and no question of theirs, expected some"):
        folds.subset(silent, users=2, seed=0)
    with pytest.raises(DataError, match="has 20 users with queries, got 21 users to draw, expected 1 to 20"):
        folds.subset(plain(silent=4), users=21, seed=0)


def test_validation_users_have_questions_and_nobody_is_lost():
    split = plain(silent=10)
    fit, validation = folds.validation_cut(split, 0.2, seed=0)
    assert sorted([*fit, *validation]) == sorted(split.users)
    assert len(validation) == 4
    assert set(validation) <= {query.user_id for query in split.queries}
    assert len(folds.validation_cut(split, 7, seed=0)[1]) == 7
    assert set(validation) <= set(folds.validation_cut(split, 7, seed=0)[1])
    assert validation != folds.validation_cut(split, 0.2, seed=1)[1]


@pytest.mark.parametrize("amount", [0, 0.0, 20, 25, 0.999])
def test_a_cut_leaves_users_on_both_sides(amount):
    with pytest.raises(ValueError, match="expected at least one on either side"):
        folds.validation_cut(plain(), amount, seed=0)


def test_a_part_has_the_users_asked_for():
    part = folds.part(plain(), ["train3", "train1"], "fit")
    assert list(part.users) == ["train3", "train1"] and part.name == "fit"
    assert {query.user_id for query in part.queries} == {"train1", "train3"}
    with pytest.raises(DataError, match="has no user 'nobody'"):
        folds.part(plain(), ["nobody"])
