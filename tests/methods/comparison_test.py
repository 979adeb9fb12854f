"""Every method answers every new query, and the new users decide nothing."""

import dataclasses

import numpy as np
import pytest

from hydrajax.methods import baselines, comparison, hydra
from hydrajax.types import Split


def embed(texts):
    return np.array([[len(text), text.count("a"), 1.0] for text in texts])


@pytest.fixture
def compare(world, bench, settings, learns):
    def make(place, **changes):
        here, people = bench(place, settings(**changes)), place.people
        prompts = {
            name: baselines.answer(here, name, people.validation_queries, people.asked) for name in baselines.STRATEGIES
        }
        result = hydra.hydra(here, learns(), people, prompts["rag"].k)
        groups = ((people.train, people.label_queries), (people.validation, people.validation_queries))
        train = tuple(
            Split(name=str(i), users={user_id: place.users[user_id] for user_id in ids}, queries=tuple(queries))
            for i, (ids, queries) in enumerate(groups)
        )
        return here, result, comparison.compare(here, people, prompts, result, train, embed)

    return make


@pytest.mark.parametrize("task", ["LaMP_4", "LaMP_2M", "LaMP_3"])
def test_every_method_answers_every_new_query_and_chooses_from_its_pool(world, compare, task):
    place = world(task)
    here, result, compared = compare(place, derangements=2)
    new = place.people.new_queries
    assert compared.queries == new and set(compared.chosen) == {"reranked", "zero_shot"}
    assert set(baselines.STRATEGIES) | {"hydra_reranker", "pooled_reranker", "nearest_record"} <= set(compared.single)
    for given in compared.single.values():
        assert [answer.query for answer in given] == new
    for by_method in compared.chosen.values():
        pools = [draws[0].candidates for draws in next(iter(by_method.values()))]
        for draws in by_method.values():
            assert [answer.query for answer, *_ in draws] == new
            assert all(draw.candidates == pool for own, pool in zip(draws, pools, strict=True) for draw in own)
    assert [answer for (answer,) in compared.chosen["reranked"]["hydra"]] == result.answers[-len(new) :]
    assert {len(draws) for draws in compared.chosen["reranked"]["shuffled_heads"]} == {2}
    for (best,) in compared.chosen["reranked"]["oracle"]:
        qualities = [here.quality(best.query, candidate.text) for candidate in best.candidates]
        assert here.quality(best.query, best.text) == max(qualities)
    assert compared.best_source in compared.single and compared.best_prompt in baselines.STRATEGIES
    assert set(compared.validation) == set(compared.single)


def test_the_golds_of_new_users_choose_nothing_but_the_oracle(world, compare):
    place = world()
    spoilt = [dataclasses.replace(query, gold=f"spoilt {i}") for i, query in enumerate(place.people.new_queries)]
    other = dataclasses.replace(place, people=dataclasses.replace(place.people, new_queries=spoilt))
    first, second = (compare(there)[2] for there in (place, other))
    assert (first.best_source, first.best_prompt, first.validation) == (
        second.best_source, second.best_prompt, second.validation
    )  # fmt: skip

    def texts(compared):
        methods = {method: draws for by_method in compared.chosen.values() for method, draws in by_method.items()}
        chosen = {m: [[one.text for one in own] for own in draws] for m, draws in methods.items() if "oracle" not in m}
        return chosen | {method: [answer.text for answer in given] for method, given in compared.single.items()}

    assert texts(first) == texts(second)
