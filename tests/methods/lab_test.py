import dataclasses

import pytest

from hydrajax.methods import sampling


def test_rewards_judge_where_there_are_any_and_golds_elsewhere(world, bench):
    place = world()
    query = place.people.new_queries[0]
    assert bench(place).quality(query, query.gold) == 1.0
    assert bench(place).quality(query, "") == 0.0
    rewarded = bench(place, reward=lambda asked, text: float(len(text)) if asked == query else -1.0)
    assert rewarded.quality(query, '"four"') == 4.0
    with pytest.raises(ValueError, match=query.id):
        bench(place).quality(dataclasses.replace(query, gold=None), "anything")


@pytest.mark.parametrize("retriever", ["bm25", "recency", "random", None])
def test_no_retriever_returns_the_record_that_a_pseudo_query_was_made_of(world, bench, retriever):
    place = world()
    here = bench(place)
    for query in sampling.pseudo_queries(here, list(place.users)):
        found = here.retrieve(query, 99, retriever)
        assert len(found) == 3
        assert query.record_id not in [record.id for record in found]
