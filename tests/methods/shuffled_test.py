"""Somebody else's records under one's own question."""

import dataclasses

from hydrajax.methods import sampling, shuffled


def test_the_records_shown_are_the_lenders(world, bench):
    place = world(queries=2)
    here = bench(place)
    queries = place.people.new_queries
    users = {query.user_id for query in queries}
    lender = dict(zip(sorted(users), [*sorted(users)[1:], sorted(users)[0]], strict=True))
    for query, other in zip(queries, shuffled.lent(queries, lender), strict=True):
        own = {record.fields["text"] for record in here.users[query.user_id].profile}
        (prompt,) = sampling.prompts(here, "rag", [other], 2)
        assert (other.id, other.inputs, other.gold) == (query.id, query.inputs, query.gold)
        assert other.draw_name == f"{query.id} as {lender[query.user_id]}" != query.draw_name
        assert prompt.records and not {record.fields["text"] for record in prompt.records} & own


def test_every_query_is_answered_and_nobody_pays(world, bench):
    place = world(queries=2)
    here = bench(place)
    found = shuffled.answers(here, {"zero_shot": 0, "rag": 2, "pag": 1}, place.people.new_queries)
    assert list(found) == ["rag_shuffled", "pag_shuffled"]
    for answers in found.values():
        assert [answer.query.id for answer in answers] == [query.id for query in place.people.new_queries]
        assert all(answer.text for answer in answers)
    assert here.ledger == {}


def test_a_single_user_has_nobody_to_borrow_from(world, bench):
    place = world(queries=2)
    alone = [query for query in place.people.new_queries if query.user_id == place.people.new[0]]
    assert shuffled.answers(bench(place), {"rag": 1}, alone) == {}


def test_what_is_the_same_for_everybody_is_the_same_with_other_records(world, bench):
    place = world(queries=1)
    same = next(iter(place.users.values())).profile
    users = {user_id: dataclasses.replace(user, profile=same) for user_id, user in place.users.items()}
    here = dataclasses.replace(bench(place), users=users)
    queries = place.people.new_queries
    own = sampling.answer(here, "rag", sampling.prompts(here, "rag", queries, 2), stage="own")
    lent = shuffled.answers(here, {"rag": 2}, queries)["rag_shuffled"]
    assert [answer.text for answer in lent] == [answer.text for answer in own]


def test_a_strategy_that_compares_is_not_shown_the_asker_among_others(world, bench):
    place = world(queries=2)
    plain = bench(place)
    here = dataclasses.replace(plain, ctx=dataclasses.replace(plain.ctx, population=place.users))
    assert shuffled.apart("rag", here, place.people.new_queries) == [(here, place.people.new_queries)]
    parts = shuffled.apart("cfrag", here, place.people.new_queries)
    assert [query for _, own in parts for query in own] == list(place.people.new_queries)
    for lab, own in parts:
        (asker,) = {query.user_id for query in own}
        assert set(lab.ctx.population) == set(place.users) - {asker}
