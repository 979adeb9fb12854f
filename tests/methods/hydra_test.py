import dataclasses

import numpy as np
import pytest

from hydrajax.methods import baselines, hydra, scorers, surface
from hydrajax.types import Candidate, Feedback

TASKS = ("LaMP_4", "LaMP_2M", "LaMP_5", "LaMP_7")


def paraphrase(asked):
    """Answers that never repeat the words planted in a text; everything else is left to the script."""
    if asked.messages[-1].text.startswith("Say the following"):
        text = asked.messages[-1].text.split()
        return " ".join(["said", *text[-4:]])
    return None


@pytest.fixture
def finished(world, bench, settings, learns, answering):
    """All baselines and HYDRA on a world with fake scorers."""

    def make(task="LaMP_4", pools="shared", place=None, **changes):
        place = place or world(task)
        here = bench(place, settings(adapter_pools=pools, **changes), transport=answering(paraphrase))
        learner = learns()
        asked = [*place.people.validation_queries, *place.people.new_queries]
        for name in baselines.STRATEGIES:
            baselines.answer(here, name, place.people.validation_queries, asked)
        result = hydra.hydra(here, learner, place.people, 2)
        return place, here, learner, result

    return make


@pytest.mark.parametrize(
    ("pools", "form", "styles"),
    [("shared", "chat", ()), ("reranked", "one_prompt", ()), ("zero_shot", "chat", ("Be short.", "Be loud!"))],
)
@pytest.mark.parametrize("task", TASKS)
def test_nothing_asked_for_a_pseudo_query_shows_its_own_record(finished, settings, task, pools, form, styles):
    prompts = dataclasses.replace(settings().prompts, form=form)
    place, here, _, _ = finished(task, pools, prompts=prompts, styles=styles)
    queries = here.pseudo_queries(list(place.users))
    seen = 0
    for query in queries:
        question = place.task.question(query.inputs)
        own = place.record(query).fields
        for asked in here.ctx.llm.requests():
            if question not in asked.messages[-1].text:
                continue
            seen += 1
            text = "\n".join(message.text for message in asked.messages)
            for planted in (f"ask{query.user_id}{query.record_id}z", f"own{query.user_id}{query.record_id}z"):
                assert text.count(planted) == question.count(planted), (planted, text)
            assert text.count(own[place.task.corpus[0]]) == question.count(own[place.task.corpus[0]])
    # Every pseudo-query: its records alone, and one or two pools.
    assert seen >= len(queries) * (3 + 4)


def test_other_authors_papers_come_from_training_users_alone(finished):
    place, _, learner, _ = finished("LaMP_1")
    for row in rows_learned_from(learner):
        others = [user_id for user_id in (*place.people.validation, *place.people.new) if user_id != row.user_id]
        assert not [user_id for user_id in others if f"own{user_id}r" in row.first]
    assert any("ownt" in row.first and row.user_id.startswith("n") for row in rows_learned_from(learner))


def rows_learned_from(learner):
    return [row for given in learner.given.values() for part in ("train", "heads") for row in given[part]]


@pytest.mark.parametrize("pools", ["shared", "reranked"])
def test_no_new_users_query_or_gold_is_learned_from_or_judged(finished, pools):
    place, _, learner, _ = finished("LaMP_4", pools)
    rows = [*rows_learned_from(learner), *(row for given in learner.given.values() for row in given["judged"])]
    assert rows
    for row in rows:
        for query in place.people.new_queries:
            assert row.query_id != query.id
            planted = query.id.replace("q-", "").replace("-", "q")
            assert f"real{planted}z" not in row.first + row.second
            assert f"truth{planted}z" not in row.first + row.second


@pytest.mark.parametrize("pools", ["shared", "reranked"])
def test_validation_users_real_queries_judge_and_teach_nothing(finished, pools):
    place, _, learner, _ = finished("LaMP_4", pools)
    real = {query.id for query in place.people.validation_queries}
    assert not real & {row.query_id for row in rows_learned_from(learner)}
    for name, given in learner.given.items():
        assert {row.query_id for row in given["judged"]} <= real, name
        assert given["judged"], name
    taught = " ".join(row.first + " " + row.second for row in rows_learned_from(learner))
    assert "realv" not in taught and "truthv" not in taught and "realt" in taught


@pytest.mark.parametrize("pools", ["shared", "reranked"])
def test_training_users_teach_and_everybody_else_gets_a_head(finished, pools):
    place, _, learner, _ = finished("LaMP_4", pools)
    for given in learner.given.values():
        assert {row.user_id for row in given["train"]} == set(place.people.train)
        assert {row.user_id for row in given["heads"]} == {*place.people.validation, *place.people.new}


def test_the_golds_of_new_users_change_nothing_before_the_report(finished, world):
    place = world()
    spoilt = [dataclasses.replace(q, gold=f"spoilt {i}") for i, q in enumerate(place.people.new_queries)]
    other = dataclasses.replace(place, people=dataclasses.replace(place.people, new_queries=spoilt))
    _, here, learner, result = finished(place=place)
    _, there, spoilt_learner, spoilt_result = finished(place=other)
    assert learner.given == spoilt_learner.given
    assert here.ctx.llm.requests() == there.ctx.llm.requests()
    assert result.pools == spoilt_result.pools
    assert result.records == spoilt_result.records


def test_the_same_seed_gives_the_same_run(finished):
    _, here, learner, result = finished()
    _, there, again, repeated = finished()
    assert learner.given == again.given
    assert result.pools == repeated.pools and result.records == repeated.records
    assert here.ledger == there.ledger


def test_where_pools_are_shared_one_adapter_serves_both_methods(finished):
    _, _, learner, result = finished(pools="shared")
    assert set(learner.given) == {"reranker", "adapter"}
    assert result.adapters["hydra"] is result.adapters["hydra_adapter"]


def test_reranked_pools_teach_an_adapter_each(finished):
    place, here, learner, _ = finished(pools="reranked")
    assert set(learner.given) == {"reranker", "adapter", "zero-shot adapter"}
    for name, reranked in (("adapter", 1.0), ("zero-shot adapter", 0.0)):
        rows = [row for part in learner.given[name].values() for row in part]
        assert {row.extras[0] for row in rows} == {reranked}
    # b samples and the greedy answer from both prompts
    stages = ("zero-shot candidates to learn from", "candidates with records to learn from")
    for stage in stages:
        assert here.ledger[stage, "n0"]["calls"] == 2 * (3 + 1)


def test_the_ledger_adds_up_to_everything_that_was_asked(finished):
    for task in ("LaMP_4", "LaMP_7"):
        _, here, _, _ = finished(task)
        answers = [answer for *_, answer in here.ctx.llm.seen]
        for name in ("input_tokens", "output_tokens"):
            booked = sum(entry[name] for entry in here.ledger.values())
            assert booked == sum(getattr(answer, name) for answer in answers)
        assert sum(entry["calls"] for entry in here.ledger.values()) == len(answers)


def test_only_the_first_pseudo_queries_of_a_user_try_records(finished):
    place, here, learner, _ = finished(trial_queries=1)
    learned = [row for part in ("train", "heads") for row in learner.given["reranker"][part]]
    first = {query.user_id: query.id for query in here.pseudo_queries(list(place.users))[::-1]}
    assert {row.query_id for row in learned} == {*first.values(), *(q.id for q in place.people.label_queries)}
    assert here.ledger["record trials", "n0"]["calls"] == 3
    assert here.ledger["zero-shot candidates to learn from", "n0"]["calls"] == 2 * (1 + 1)


def test_zero_shot_pools_teach_one_adapter_for_both(finished):
    _, here, learner, result = finished(pools="zero_shot")
    assert result.adapters["hydra"] is result.adapters["hydra_adapter"]
    assert {row.extras[0] for part in ("train", "heads") for row in learner.given["adapter"][part]} == {0.0}
    assert {row.extras[0] for row in learner.given["adapter"]["judged"]} == {0.0, 1.0}
    assert here.ledger["zero-shot candidates to learn from", "n0"]["calls"] == 2 * (3 + 1)
    assert not [stage for stage, _ in here.ledger if stage == "candidates with records to learn from"]


def test_users_without_a_profile_are_asked_without_records(finished, world):
    place = world(cold=("n1", "v0", "t2"))
    _, here, learner, result = finished(place=place)
    query = next(q for q in place.people.new_queries if q.user_id == "n1")
    assert result.records[query.id] == ()
    alone = [r for r in here.ctx.llm.requests() if "realn1" in r.messages[-1].text]
    assert alone and all(len(r.messages) == 1 for r in alone)
    assert {c.text for c in result.pools["reranked"][query.id]} == {c.text for c in result.pools["zero_shot"][query.id]}
    assert "n1" not in {row.user_id for row in rows_learned_from(learner)}


def test_rerank_shows_the_k_records_of_the_highest_score(world, bench, scores):
    place = world()
    here = bench(place)
    queries = [*place.people.new_queries, *here.pseudo_queries(["n0"])]
    scorer = scores()
    for k in (1, 2, 3, 9):
        chosen = hydra.rerank(here, scorer, queries, k)
        for query in queries:
            retrieved = here.retrieve(query, 3)
            own = scorer.scores([hydra.record_row(here, query, record) for record in retrieved])
            best = [retrieved[i] for i in sorted(range(len(retrieved)), key=lambda i: -own[i])]
            assert list(chosen[query.id]) == best[:k]


def test_records_of_equal_score_keep_the_retrievers_order(world, bench):
    place = world()
    here = bench(place)
    chosen = hydra.rerank(here, scorers.Untrained(), place.people.new_queries, 2)
    for query in place.people.new_queries:
        assert chosen[query.id] == here.retrieve(query, 2)


def test_a_score_belongs_to_its_candidate_however_long_the_pools_are(world, bench, scores):
    place = world()
    here = bench(place)
    queries = place.people.new_queries
    pools = {
        query.id: [Candidate(text=f"text {i} of {query.id}", source="reranked") for i in range(size)]
        for query, size in zip(queries, (1, 4, 2), strict=True)
    }
    chosen = hydra.candidate_scores(here, scores(), queries, pools)
    for query in queries:
        alone = [hydra.candidate_scores(here, scores(), [query], {query.id: [c]})[query.id] for c in pools[query.id]]
        np.testing.assert_array_equal(chosen[query.id], np.concatenate(alone))


def test_heads_and_the_pooled_head_reach_the_scorer(world, bench, scores):
    place = world()
    here = bench(place)
    queries = place.people.new_queries
    pools = {q.id: [Candidate(text=text, source="reranked") for text in ("a", "b")] for q in queries}
    scorer = scores()
    lent = hydra.candidate_scores(here, scorer, queries, pools, heads={"n0": "n1"})
    pooled = hydra.candidate_scores(here, scorer, queries, pools, pooled=True)
    own = hydra.candidate_scores(here, scorer, queries, pools)
    assert [(heads, p) for _, heads, p in scorer.seen] == [({"n0": "n1"}, False), (None, True), (None, False)]
    np.testing.assert_array_equal(lent["q-n1-0"], own["q-n1-0"])
    assert (lent["q-n0-0"] != own["q-n0-0"]).all() and (pooled["q-n0-0"] != own["q-n0-0"]).all()


def test_a_candidate_comes_with_its_source_its_share_of_votes_and_whether_it_is_greedy(world, bench):
    place = world()
    query = place.people.new_queries[0]
    pool = [
        Candidate(text='"first"', source="reranked", votes=3, greedy=True),
        Candidate(text="second", source="zero_shot", votes=1),
    ]
    rows = hydra.candidate_rows(bench(place), query, pool, "name")
    assert [row.extras for row in rows] == [(1.0, 0.75, 1.0), (0.0, 0.25, 0.0)]
    assert [row.second for row in rows] == ["first", "second"]
    assert {row.pool for row in rows} == {f"name|{query.id}"}
    assert {row.first for row in rows} == {query.inputs["text"]}


def test_surface_features_stand_behind_the_other_extras_where_they_are_asked_for(world, bench, settings):
    place = world()
    query = place.people.new_queries[0]
    pool = [Candidate(text="What a day!", source="reranked"), Candidate(text="no", source="zero_shot")]
    plain = hydra.candidate_rows(bench(place), query, pool)
    rows = hydra.candidate_rows(bench(place, settings(surface=True)), query, pool)
    for row, without, candidate in zip(rows, plain, pool, strict=True):
        assert row.extras == (*without.extras, *surface.features(query.inputs["text"], candidate.text))


def test_the_reranker_reads_what_the_user_made_of_a_record(world, bench):
    place = world()
    query = place.people.new_queries[0]
    record = place.users["n0"].profile[0]
    row = hydra.record_row(bench(place), query, record)
    assert "ownn0r0z" in row.second and "askn0r0z" in row.second and "realn0q0z" in row.first


def test_what_users_said_of_answers_becomes_pairs_of_query_and_answer(world, bench):
    place = world()
    here = bench(place)
    first, second, third, fourth = here.pseudo_queries(["n0", "n1"])
    said = [
        Feedback(query=first, scores={"best": 5.0, "middle": 2.0, "worst": 1.0}),
        Feedback(query=second, preferred=("better", "worse")),
        Feedback(query=third, gold="a gold alone has nothing to be better than"),
        Feedback(query=fourth, scores={"as good": 3.0, "as bad": 3.0}),
    ]
    rows = hydra.feedback_rows(here, said)
    assert [(row.second, row.label, row.quality) for row in rows] == [
        ("best", 1.0, 5.0),
        ("middle", 0.0, 2.0),
        ("worst", 0.0, 1.0),
        ("better", 1.0, 1.0),
        ("worse", 0.0, 0.0),
    ]
    assert [row.query_id for row in rows] == [first.id] * 3 + [second.id] * 2
    assert len({row.pool for row in rows}) == 2
    assert {row.extras[0] for row in rows} == {row.extras[2] for row in rows} == {0.0}


def test_feedback_teaches_where_its_user_belongs(finished, world):
    place = world()
    said = [
        Feedback(query=dataclasses.replace(place.people.label_queries[0], id=f"seen by {u}", user_id=u), preferred=pair)
        for u, pair in (("t0", ("liked by t0", "not by t0")), ("n0", ("liked by n0", "not by n0")))
    ]
    people = dataclasses.replace(place.people, feedback=said)
    _, here, learner, _ = finished(place=dataclasses.replace(place, people=people))
    _, there, without, _ = finished(place=place)
    given = learner.given["adapter"]
    for part, user_id in (("train", "t0"), ("heads", "n0")):
        told = [row for row in given[part] if "by" in row.second]
        assert [row.second for row in told] == [f"liked by {user_id}", f"not by {user_id}"]
        assert [row for row in given[part] if row not in told] == without.given["adapter"][part]
    assert given["judged"] == without.given["adapter"]["judged"]
    assert learner.given["reranker"] == without.given["reranker"]
    assert here.ctx.llm.requests() == there.ctx.llm.requests()


def test_feedback_alone_teaches_the_adapter_without_a_call(finished, world):
    place = world()
    said = [
        Feedback(query=dataclasses.replace(place.people.label_queries[0], id=f"seen by {u}", user_id=u), preferred=pair)
        for u, pair in (("t0", ("liked by t0", "not by t0")), ("n0", ("liked by n0", "not by n0")))
    ]
    people = dataclasses.replace(place.people, feedback=said)
    _, here, learner, _ = finished(pools="feedback", place=dataclasses.replace(place, people=people))
    given = learner.given["adapter"]
    assert [row.second for row in given["train"]] == ["liked by t0", "not by t0"]
    assert [row.second for row in given["heads"]] == ["liked by n0", "not by n0"]
    assert given["judged"]
    assert not [stage for stage, _ in here.ledger if "to learn from" in stage]


def test_a_pool_in_which_all_are_as_good_teaches_nothing(world, bench, settings, learns, answering):
    place = world("LaMP_2M")
    here = bench(place, settings(), transport=answering(lambda r: "no label at all"))
    learner = learns()
    hydra.hydra(here, learner, place.people, 1)
    assert learner.given["adapter"] == {"train": [], "heads": [], "judged": []}
    assert learner.given["reranker"]["train"]


def test_rows_carry_the_label_and_quality_of_their_trial(finished):
    place, here, learner, _ = finished()
    queries = {q.id: q for q in here.pseudo_queries(list(place.users))}
    queries |= {q.id: q for q in (*place.people.label_queries, *place.people.validation_queries)}
    for row in (row for part in learner.given["adapter"].values() for row in part):
        assert row.quality == here.quality(queries[row.query_id], row.second)
    pools = {}
    for row in (row for part in learner.given["adapter"].values() for row in part):
        pools.setdefault(row.pool, []).append(row)
    for rows in pools.values():
        mean = np.mean([row.quality for row in rows])
        assert [row.label for row in rows] == [float(row.quality > mean) for row in rows]
        assert len({row.user_id for row in rows}) == 1
