import dataclasses

import pytest

from hydrajax.methods import baselines, sampling
from hydrajax.methods.answers import Prompt


def golden(place, good):
    """An LLM that knows the golds, and says them where `good` holds for the request."""
    golds = {q.inputs["text"]: q.gold for q in (*place.people.validation_queries, *place.people.new_queries)}

    def answer(asked):
        gold = next((g for text, g in golds.items() if asked.messages[-1].text.endswith(text)), None)
        return gold if gold is not None and good(asked) else None

    return answer


@pytest.mark.parametrize("best", [1, 2, 3])
@pytest.mark.parametrize("strategy", ["icl_random", "rag", "pag"])
def test_k_is_what_serves_validation_users_best(world, bench, settings, answering, strategy, best):
    place = world()
    transport = answering(golden(place, lambda r: len(r.messages) == 2 * best + 1))
    here = bench(place, settings(shown=(1, 2, 3)), transport=transport)
    found = baselines.answer(here, strategy, place.people.validation_queries, place.people.new_queries)
    assert found.k == best
    assert max(found.validation, key=found.validation.get) == best and found.validation[best] == 1.0
    assert [answer.query for answer in found.answers] == list(place.people.new_queries)
    assert all(here.quality(answer.query, answer.text) == 1.0 for answer in found.answers)
    assert {len(answer.records) for answer in found.answers} == {best}


def test_a_summary_may_do_without_records(world, bench, settings, answering):
    place = world()
    transport = answering(golden(place, lambda r: len(r.messages) == 1))
    here = bench(place, settings(shown=(1, 2)), transport=transport)
    found = baselines.answer(here, "pag", place.people.validation_queries, place.people.new_queries)
    assert found.k == 0 and set(found.validation) == {0, 1, 2}


def test_new_users_have_no_say_in_k(world, bench, settings, answering):
    place = world()
    queries = place.people.new_queries
    spoilt = [dataclasses.replace(q, gold="spoilt") for q in queries]
    here = bench(place, settings(shown=(1, 2, 3)))
    for strategy in baselines.STRATEGIES:
        found = baselines.answer(here, strategy, place.people.validation_queries, queries)
        other = baselines.answer(here, strategy, place.people.validation_queries, spoilt)
        assert (found.k, found.validation) == (other.k, other.validation)
        assert [(a.records, a.text) for a in found.answers] == [(a.records, a.text) for a in other.answers]


def test_zero_shot_shows_nothing_of_the_user(world, bench):
    place = world()
    here = bench(place)
    found = baselines.answer(here, "zero_shot", place.people.validation_queries, place.people.new_queries)
    assert not any(answer.records for answer in found.answers)
    for asked in here.ctx.llm.requests():
        assert len(asked.messages) == 1 and "own" not in asked.messages[0].text


def test_users_without_a_profile_are_answered_by_every_baseline(world, bench):
    place = world(cold=("n0",))
    here = bench(place)
    query = place.people.new_queries[0]
    for strategy in baselines.STRATEGIES:
        found = baselines.answer(here, strategy, place.people.validation_queries, place.people.new_queries)
        answer = found.answers[0]
        assert answer.query == query
        (zero_shot,) = sampling.answer(here, "zero_shot", [Prompt(query=query)], stage="t")
        assert answer.records == () and answer.text == zero_shot.text


def test_a_summary_is_booked_on_the_user_it_is_of(world, bench, settings):
    place = world(cold=("n0",))
    here = bench(place, settings(shown=(1,)))
    baselines.answer(here, "pag", [], place.people.new_queries)
    booked = {user for stage, user in here.ledger if stage == "pag: user models"}
    assert booked == {"n1", "n2"}


def test_the_retriever_of_the_settings_is_the_one_of_rag(world, bench, settings):
    place = world()
    here = bench(place, settings(retriever="recency", shown=(2,)))
    found = baselines.answer(here, "rag", [], place.people.new_queries)
    for answer in found.answers:
        assert [record.id for record in answer.records] == ["r3", "r2"]
