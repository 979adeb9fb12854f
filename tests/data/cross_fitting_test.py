import pytest

from hydrajax.data import cross_fitting
from hydrajax.types import Query, Record, User


def a_user(n, user_id="u"):
    return User(id=user_id, profile=tuple(Record(id=f"r{i}", fields={"text": str(i)}) for i in range(n)))


def ids(user):
    return [record.id for record in user.profile]


@pytest.mark.parametrize("n", [0, 1, 2, 5, 8])
def test_the_halves_are_the_profile_in_its_order(n):
    user = a_user(n)
    first, second = (cross_fitting.half(user, part) for part in (cross_fitting.FIRST, cross_fitting.SECOND))
    assert sorted(ids(first) + ids(second)) == sorted(ids(user))
    assert not set(ids(first)) & set(ids(second)) and 0 <= len(ids(first)) - len(ids(second)) <= 1
    for part in (first, second):
        assert ids(part) == [i for i in ids(user) if i in ids(part)]
    assert cross_fitting.half(user, cross_fitting.WHOLE) == user


def test_they_do_not_depend_on_the_order_of_the_profile():
    user = a_user(7)
    turned = User(id="u", profile=user.profile[::-1])
    assert set(ids(cross_fitting.half(user, cross_fitting.FIRST))) == set(
        ids(cross_fitting.half(turned, cross_fitting.FIRST))
    )


@pytest.mark.parametrize("n", [1, 2, 7])
def test_a_pseudo_query_gets_the_half_without_its_record(n):
    user = a_user(n)
    for record in user.profile:
        query = Query(id="q", user_id="u", inputs={"text": "t"}, record_id=record.id)
        assert record.id not in ids(cross_fitting.half(user, cross_fitting.part_for(query, user)))
    assert cross_fitting.part_for(Query(id="q", user_id="u", inputs={"text": "t"}), user) == cross_fitting.WHOLE
