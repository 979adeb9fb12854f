"""Pools, features and the whole union on a small world."""

import dataclasses

import numpy as np
import pytest

from hydrajax.data import pseudo
from hydrajax.llm import scripted
from hydrajax.methods import sampling
from hydrajax.methods.union import pool as union_pool
from hydrajax.methods.union import proposals, union
from hydrajax.types import Candidate, Split

ONE = union.configs()[:1]


def asked_of(world, lab, *, own_records=True):
    """Training users of a world, validation users among them, and its new users."""
    people = world.people
    train = (*people.train, *people.validation)

    def split(name, ids, queries):
        return Split(name=name, users={u: world.users[u] for u in ids}, queries=tuple(queries))

    learned = sampling.pseudo_queries(lab, (*train, *people.new)) if own_records else []
    return union.Questions(
        train=split("train", train, [*people.label_queries, *people.validation_queries]),
        new=split("new", people.new, people.new_queries),
        train_pseudo=[query for query in learned if query.user_id in train],
        new_pseudo=[query for query in learned if query.user_id in people.new],
    )


def embed(texts):
    return np.array([[len(text), text.count("a"), text.count("e"), 1.0] for text in texts])


def known(world):
    return proposals.Known(task=world.task, embed=embed)


def said(text, strategy, votes=1, *, greedy=False):
    return Candidate(text=text, source=strategy, votes=votes, greedy=greedy)


def test_equal_answers_become_one_that_remembers_everybody(world, bench):
    lab = bench(world("LaMP_2M"))
    query = lab.users and world("LaMP_2M").people.new_queries[0]
    spoken = {
        "rag": {query.id: [said("Comedy.", "rag", 2, greedy=True), said("action", "rag")]},
        "zero_shot": {query.id: [said("comedy", "zero_shot", 3)]},
    }
    silent = {"labels": {query.id: [proposals.Proposal(text="comedy", numbers=(0.5,))]}}
    (pool,) = union_pool.merge(lab, [query], spoken, silent)
    assert [merged.text for merged in pool.candidates] == ["comedy", "action"]
    merged = pool.candidates[0]
    assert merged.samples == {"rag": 2, "zero_shot": 3}
    assert merged.owners == ("rag", "labels") and merged.source == "rag, labels"
    assert merged.numbers == {"labels: prior": 0.5}
    assert merged.votes == 2 + 3 + 1


def texts_of(pools):
    return [merged.text for pool in pools for merged in pool.candidates]


def test_what_is_no_label_is_left_out_where_a_label_is_there(world, bench):
    lab = bench(world("LaMP_2M"))
    query = world("LaMP_2M").people.new_queries[0]
    spoken = {"rag": {query.id: [said("no idea", "rag", greedy=True), said("action", "rag")]}}
    assert texts_of(union_pool.merge(lab, [query], spoken, {})) == ["action"]
    alone = {"rag": {query.id: [said("no idea", "rag", greedy=True)]}}
    assert texts_of(union_pool.merge(lab, [query], alone, {})) == ["no idea"]
    assert texts_of(union_pool.merge(lab, [query], {"rag": {}}, {})) == [""]


def test_a_source_says_its_lowest_of_what_it_did_not_propose(world, bench):
    lab = bench(world("LaMP_2M"))
    query = world("LaMP_2M").people.new_queries[0]
    pool = [
        union_pool.Merged(text="action", first=("labels",), numbers={"labels: prior": -1.0}),
        union_pool.Merged(text="comedy", numbers={"labels: prior": -2.0}),
        union_pool.Merged(text="fantasy"),
    ]
    found = union_pool.features(lab, union_pool.UnionPool(query=query, candidates=tuple(pool)), (), ("labels",))
    np.testing.assert_allclose(found, [[1, -1], [0, -2], [0, -2]])


def test_votes_read_as_smoothed_log_shares(world, bench):
    lab = bench(world("LaMP_2M"))
    query = world("LaMP_2M").people.new_queries[0]
    pool = [union_pool.Merged(text="action", samples={"rag": 3}, greedy_of=("rag",)), union_pool.Merged(text="comedy")]
    found = union_pool.features(lab, union_pool.UnionPool(query=query, candidates=tuple(pool)), ("rag",), ())
    total = 3 + proposals.SMOOTHING * len(lab.ctx.task.labels)
    np.testing.assert_allclose(found[:, 0], np.log([(3 + proposals.SMOOTHING) / total, proposals.SMOOTHING / total]))
    np.testing.assert_allclose(found[:, 1], [1, 0])


@pytest.mark.slow
@pytest.mark.parametrize("task", ["LaMP_3", "LaMP_4"])
def test_the_union_answers_every_query_with_all_its_variants(task, world, bench, settings):
    made = world(task, train=5, validation=2, new=3)
    lab = bench(made, settings(candidates=3))
    found = union.union(
        lab, asked_of(made, lab), known(made), union.nothing, strategies=("zero_shot", "rag"), thompson=True, fits=ONE
    )
    assert set(found.answers) == {"union", "union_no_llm", "union_no_proposals"}
    chosen = {method: draws for by_method in found.answers.values() for method, draws in by_method.items()}
    assert {
        "union", "union_pooled", "union_own_heads", "union_random", "union_oracle", "union_vote", "union_no_llm",
        "union_no_proposals",
    } == set(chosen)  # fmt: skip
    best = {}
    for method, draws in chosen.items():
        assert [answer.query for answer, *_ in draws] == made.people.new_queries
        best[method] = np.mean([lab.quality(one.query, one.text) for of_query in draws for one in of_query])
    assert best["union_oracle"] >= max(best["union"], best["union_random"], best["union_no_llm"])
    assert sum(found.spread.values()) == pytest.approx(3)
    assert found.best_source in found.single and set(found.training) == set(found.single)


@pytest.mark.slow
def test_without_strategies_nobody_is_called(world, bench):
    made = world("LaMP_2M", train=5, new=2)
    lab = bench(made)
    found = union.union(lab, asked_of(made, lab), known(made), union.nothing, fits=ONE)
    assert not lab.ctx.llm.seen
    assert set(found.answers) == {"union"}
    assert found.spread == {}


@pytest.mark.slow
def test_the_reported_users_golds_change_no_choice_and_no_answer(world, bench):
    made = world("LaMP_2M", train=5, new=3)
    lab = bench(made)
    asked = asked_of(made, lab)
    wrong = [dataclasses.replace(query, gold=lab.ctx.task.labels[0]) for query in asked.new.queries]
    other = dataclasses.replace(asked, new=dataclasses.replace(asked.new, queries=tuple(wrong)))
    one, two = (union.union(lab, own, known(made), union.nothing, fits=ONE) for own in (asked, other))
    assert one.choices["union"].quality == two.choices["union"].quality
    answered = [[(a.text, a.scores) for (a,) in found.answers["union"]["union"]] for found in (one, two)]
    assert answered[0] == answered[1]
    assert one.best_source == two.best_source


def test_candidates_are_spread_by_the_users_own_bandit(world, bench, settings, answering):
    """Answers with records are right and those without are wrong: real queries get nearly all candidates with them."""
    made = world("LaMP_2M", train=4, new=3, records=5)
    golds = {made.task.query_text(q): q.gold for own in made.users.values() for q in _all(made, own)}

    def answer(request):
        text = request.messages[-1].text
        gold = next((g for asked, g in golds.items() if asked in text), "")
        return gold if len(request.messages) > 1 else "nothing"

    lab = bench(made, settings(candidates=4, pseudo_queries=None), transport=answering(answer))
    asked = asked_of(made, lab)
    _, counts = union.sample(lab, asked, ("zero_shot", "rag"), {}, thompson=True)
    assert all(counts[query.id].sum() == 4 for query in asked.new.queries)
    assert np.mean([counts[query.id][1] for query in asked.new.queries]) > 3
    assert all((counts[query.id] == [2, 2]).all() for query in asked.new_pseudo)


def _all(made, own):
    return pseudo.pseudo_queries(made.task, own, None, seed=0)


def test_no_record_of_a_pseudo_query_is_in_its_prompts(world, bench, settings):
    made = world("LaMP_4", train=3, new=2)
    lab = bench(made, settings(candidates=2), transport=scripted.Scripted())
    asked = asked_of(made, lab)
    union.sample(lab, asked, ("zero_shot", "rag", "full_profile"), {}, thompson=False)
    for query in (*asked.train_pseudo, *asked.new_pseudo):
        planted = made.record(query).fields["title"].split()[0]  # own...z stands in no other text
        assert not [
            r for r in lab.ctx.llm.requests() if r.group == query.user_id and _asks(r, query) and _shows(r, planted)
        ]


def _asks(request, query):
    return query.inputs["text"].split()[0] in request.messages[-1].text


def _shows(request, word):
    return any(word in message.text for message in request.messages)
