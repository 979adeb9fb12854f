import dataclasses

import numpy as np
import pytest

from hydrajax.methods import rows, sampling, surface
from hydrajax.methods.answers import Pool, Prompt
from hydrajax.types import Candidate, Feedback


def test_each_of_the_top_records_is_shown_alone_and_never_the_own_one(world, bench):
    place = world()
    here = bench(place)
    queries = sampling.pseudo_queries(here, list(place.users))
    tried = rows.tried_records(here, queries)
    assert len(tried) == 3 * len(queries) == len(here.ctx.llm.requests("record trials"))
    shown = [(query, record) for query in queries for record in here.retrieve(query, 3)]
    for row, (query, record), asked in zip(tried, shown, here.ctx.llm.requests("record trials"), strict=True):
        assert record.id != query.record_id
        assert (row.query_id, row.second) == (query.id, place.task.record_text(record))
        assert asked.messages == (*place.task.demonstration_turns(record), asked.messages[-1])
        assert asked.messages[-1].text == place.task.question(query.inputs)
        assert asked.temperature == 0.0
    assert here.ledger["record trials", "n0"]["calls"] == 2 * 3


def test_a_record_helped_where_its_answer_is_above_the_mean_of_its_own_query(world, bench, answering):
    # Everything said for n0 is right in most words, everything for n1 hardly in any: a mean over both would call all
    # of n0's records helpful and none of n1's.
    place = world()

    def answer(asked):
        question = asked.messages[-1].text
        level = 3 if "askn0" in question else 1
        shown = asked.messages[0].text
        gold = next(r.fields["title"] for u in place.users.values() for r in u.profile if r.fields["text"] in question)
        better = "r0z" in shown or "r2z" in shown
        return " ".join(gold.split()[: level + better])

    here = bench(place, transport=answering(answer))
    queries = sampling.pseudo_queries(here, ["n0", "n1"])
    tried = rows.tried_records(here, queries)
    by_query = {q.id: [t for t in tried if t.query_id == q.id] for q in queries}
    means = {q: np.mean([t.quality for t in own]) for q, own in by_query.items()}
    assert min(m for q, m in means.items() if "n0" in q) > max(m for q, m in means.items() if "n1" in q) + 0.1
    for own in by_query.values():
        assert {t.label for t in own} == {0.0, 1.0}
        mean = np.mean([t.quality for t in own])
        assert [t.label for t in own] == [float(t.quality > mean) for t in own]


def test_labels_of_a_query_do_not_depend_on_what_else_is_tried(world, bench):
    place = world()
    here = bench(place)
    queries = sampling.pseudo_queries(here, list(place.users))
    together = rows.tried_records(here, queries)
    alone = [row for query in queries for row in rows.tried_records(here, [query])]
    assert together == alone
    assert {row.label for row in together} == {0.0, 1.0}


def test_records_of_equal_quality_help_none_of_them(world, bench, answering):
    place = world()
    here = bench(place, transport=answering(lambda r: "always the same"))
    tried = rows.tried_records(here, sampling.pseudo_queries(here, ["n0"]))
    assert {row.label for row in tried} == {0.0}


def test_of_labels_only_the_right_one_helps(world, bench, answering):
    place = world("LaMP_2M")
    query = place.people.validation_queries[0]
    for said, label in ((query.gold, 1.0), (f"not {query.gold}", 0.0), ("", 0.0)):
        here = bench(place, transport=answering(lambda r, said=said: said))
        assert {row.label for row in rows.tried_records(here, [query])} == {label}


def test_a_rating_that_is_near_is_not_right(world, bench, answering):
    place = world("LaMP_3")
    query = place.people.validation_queries[0]
    near = str(int(query.gold) - 1 or 2)
    here = bench(place, transport=answering(lambda r: near))
    (row, *_) = rows.tried_records(here, [query])
    assert row.label == 0.0 and row.quality == 0.75


def test_candidates_are_judged_inside_their_pool(world, bench):
    place = world()
    here = bench(place)
    queries = sampling.pseudo_queries(here, list(place.users))
    prompts = [Prompt(query=query) for query in queries]
    pools = sampling.sample(here, "zero_shot", prompts, samples=3, stage="s")
    qualities = [[here.quality(pool.query, candidate.text) for candidate in pool.candidates] for pool in pools]
    told = [(pool, own) for pool, own in zip(pools, qualities, strict=True) if len(set(own)) > 1]
    tried = rows.tried_candidates(here, pools, "s")
    assert told and [(row.query_id, row.quality, row.label) for row in tried] == [
        (pool.query.id, quality, float(quality > np.mean(own) + 1e-9)) for pool, own in told for quality in own
    ]
    assert [row.second for row in tried] == [
        here.ctx.task.normalise(candidate.text) for pool, _ in told for candidate in pool.candidates
    ]


def test_of_ratings_pools_without_a_difference_are_kept_with_the_users_own(world, bench, answering):
    place = world("LaMP_3")
    here = bench(place, transport=answering(lambda r: "3"))
    queries = sampling.pseudo_queries(here, list(place.users))
    pools = sampling.sample(here, "zero_shot", [Prompt(query=query) for query in queries], samples=3, stage="s")
    tried = rows.tried_candidates(here, pools, "s")
    assert [(row.query_id, row.rating) for row in tried] == [(query.id, float(query.gold)) for query in queries]


def test_gold_labels_set_the_gold_against_every_other_candidate(world, bench, settings):
    place = world()
    query, other = place.people.validation_queries
    candidates = [Candidate(text=text, source="reranked") for text in ("one", f'"{query.gold}"', "two")]
    pools = [
        Pool(query=query, candidates=candidates),
        Pool(query=other, candidates=[Candidate(text=other.gold, source="reranked")]),
    ]
    here = bench(place, settings(adapter_labels="gold", votes=False))
    made = rows.learned_candidates(here, pools, "name")
    assert [(row.second, row.label, row.quality) for row in made] == [
        (here.ctx.task.normalise(query.gold), 1.0, 1.0),
        ("one", 0.0, 0.0),
        ("two", 0.0, 0.0),
    ]
    # Nothing but the text tells which of them is the gold.
    assert {row.extras for row in made} == {(1.0, 0.0)} and {row.pool for row in made} == {f"name|{query.id}"}
    plain = bench(place, settings(votes=False))
    assert rows.learned_candidates(plain, pools, "name") == rows.tried_candidates(plain, pools, "name") != made


def test_gold_labels_change_nothing_where_candidates_are_right_or_wrong(world, bench, settings):
    place = world("LaMP_2M")
    query = place.people.validation_queries[0]
    candidates = [Candidate(text=text, source="reranked") for text in (query.gold, "no label")]
    here = bench(place, settings(adapter_labels="gold", votes=False))
    pools = [Pool(query=query, candidates=candidates)]
    assert rows.learned_candidates(here, pools, "name") == rows.tried_candidates(here, pools, "name") != []


def test_a_user_without_records_tries_none(world, bench):
    place = world(cold=("n0",))
    here = bench(place)
    assert rows.tried_records(here, place.people.new_queries[:1]) == []
    assert here.ctx.llm.seen == []


def test_a_candidate_comes_with_its_source_its_share_of_votes_and_whether_it_is_greedy(world, bench, settings):
    place = world()
    query = place.people.new_queries[0]
    candidates = [
        Candidate(text='"first"', source="reranked", votes=3, greedy=True),
        Candidate(text="second", source="zero_shot", votes=1),
    ]
    pool = Pool(query=query, candidates=candidates)
    pairs = rows.of_candidates(bench(place), pool, "name")
    assert [row.extras for row in pairs] == [(1.0, 0.0, 0.75, 1.0), (0.0, 1.0, 0.25, 0.0)]
    assert [row.second for row in pairs] == ["first", "second"]
    assert {row.pool for row in pairs} == {f"name|{query.id}"}
    assert {row.first for row in pairs} == {query.inputs["text"]}
    assert {row.levels for row in pairs} == {()}
    for changes, extras in (
        ({"votes": False}, [(1.0, 0.0), (0.0, 1.0)]),
        ({"identity": False}, [(0.75, 1.0), (0.25, 0.0)]),
        ({"identity": False, "votes": False}, [(), ()]),
    ):
        without = rows.of_candidates(bench(place, settings(**changes)), pool, "name")
        assert without == [dataclasses.replace(row, extras=own) for row, own in zip(pairs, extras, strict=True)]


@pytest.mark.parametrize(("task", "values"), [("LaMP_2M", {}), ("LaMP_3", {"1": -1.0, "3": 0.0, "4": 0.5, "5": 1.0})])
def test_candidates_of_label_tasks_come_with_their_label(world, bench, settings, task, values):
    place = world(task)
    labels = place.task.labels
    named = list(values) or list(labels[:3])
    candidates = [Candidate(text=text, source="zero_shot") for text in (*named, "no label", "7")]
    pool = Pool(query=place.people.new_queries[0], candidates=candidates)
    *known, none, out_of_scale = rows.of_candidates(bench(place, settings(votes=False)), pool)
    for row, label in zip(known, named, strict=True):
        one_hot = [float(label == other) for other in labels]
        assert list(row.extras) == [0.0, 1.0, *one_hot, *([values[label]] if values else [])]
    assert none.extras == out_of_scale.extras == (0.0, 1.0, *[0.0] * (len(labels) + bool(values)))
    assert {row.levels for row in known} == {(1.0, 2.0, 3.0, 4.0, 5.0) if values else ()}


def test_surface_features_stand_behind_the_other_extras_where_they_are_asked_for(world, bench, settings):
    place = world()
    query = place.people.new_queries[0]
    candidates = [Candidate(text="What a day!", source="reranked"), Candidate(text="no", source="zero_shot")]
    pool = Pool(query=query, candidates=candidates)
    plain = rows.of_candidates(bench(place), pool)
    pairs = rows.of_candidates(bench(place, settings(surface=True)), pool)
    for row, without, candidate in zip(pairs, plain, candidates, strict=True):
        assert row.extras == (*without.extras, *surface.features(query.inputs["text"], candidate.text))


def test_the_reranker_reads_what_the_user_made_of_a_record(world, bench):
    place = world()
    query = place.people.new_queries[0]
    record = place.users["n0"].profile[0]
    row = rows.of_record(bench(place), query, record)
    assert "ownn0r0z" in row.second and "askn0r0z" in row.second and "realn0q0z" in row.first


def test_what_users_said_of_answers_becomes_pairs_of_query_and_answer(world, bench):
    place = world()
    here = bench(place)
    first, second, third, fourth = sampling.pseudo_queries(here, ["n0", "n1"])
    said = [
        Feedback(query=first, scores={"best": 5.0, "middle": 2.0, "worst": 1.0}),
        Feedback(query=second, preferred=("better", "worse")),
        Feedback(query=third, gold="a gold alone has nothing to be better than"),
        Feedback(query=fourth, scores={"as good": 3.0, "as bad": 3.0}),
    ]
    pairs = rows.of_feedback(here, said)
    assert [(row.second, row.label, row.quality) for row in pairs] == [
        ("best", 1.0, 5.0),
        ("middle", 0.0, 2.0),
        ("worst", 0.0, 1.0),
        ("better", 1.0, 1.0),
        ("worse", 0.0, 0.0),
    ]
    assert [row.query_id for row in pairs] == [first.id] * 3 + [second.id] * 2
    assert len({row.pool for row in pairs}) == 2
    assert {source for row in pairs for source in row.extras[:2]} == {0.0}


def test_pools_without_a_difference_teach_nothing():
    def row(pool, quality):
        return rows.Row(user_id="u", query_id=pool, pool=pool, first="", second="", quality=quality)

    given = [row("same", 1.0), row("same", 1.0), row("differs", 1.0), row("differs", 0.0)]
    assert rows.differing(given) == given[2:]
