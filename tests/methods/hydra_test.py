import dataclasses

import numpy as np
import pytest

from hydrajax.methods import baselines, hydra, rows, sampling, scorers
from hydrajax.methods import settings as settings_lib
from hydrajax.methods.answers import Pool, Prompt
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
    queries = sampling.pseudo_queries(here, list(place.users))
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
    return [row for given in learner.given.values() for part in ("train", "personal") for row in given[part]]


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
        assert {row.user_id for row in given["personal"]} == {*place.people.validation, *place.people.new}


def said(result):
    """Everything that was shown, sampled and chosen, without the queries themselves."""
    return [
        (answer.query.id, answer.records, answer.candidates, answer.scores, answer.choice)
        for answer in (*result.answers, *result.zero_shot)
    ]


def test_the_golds_of_new_users_change_nothing_before_the_report(finished, world):
    place = world()
    spoilt = [dataclasses.replace(q, gold=f"spoilt {i}") for i, q in enumerate(place.people.new_queries)]
    other = dataclasses.replace(place, people=dataclasses.replace(place.people, new_queries=spoilt))
    _, here, learner, result = finished(place=place)
    _, there, spoilt_learner, spoilt_result = finished(place=other)
    assert learner.given == spoilt_learner.given
    assert here.ctx.llm.requests() == there.ctx.llm.requests()
    assert said(result) == said(spoilt_result)


def test_the_same_seed_gives_the_same_run(finished):
    _, here, learner, result = finished()
    _, there, again, repeated = finished()
    assert learner.given == again.given
    assert said(result) == said(repeated)
    assert here.ledger == there.ledger


def test_where_pools_are_shared_one_adapter_serves_both_methods(finished):
    _, _, learner, result = finished(pools="shared")
    assert set(learner.given) == {"reranker", "adapter"}


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


@pytest.mark.parametrize("pools", ["reranked", "shared", "zero_shot"])
def test_what_the_reranker_learned_from_it_does_not_rank_for_the_adapter(finished, world, scores, pools):
    place, here, learner, _ = finished(pools=pools)
    given = learner.given["reranker"]
    crossed = {"reranker": {part: given[part] for part in ("train", "personal")}} if pools == "reranked" else {}
    assert learner.cross_fitted == crossed
    queries = sampling.pseudo_queries(here, list(place.users))
    scorer = {"reranked": scores("reranker, cross-fitted"), "shared": scorers.Untrained()}.get(pools)
    shown = hydra.rerank(here, scorer, hydra.retrieve(here, queries), 2) if scorer else []
    asked = here.ctx.llm.requests("candidates with records to learn from")
    texts = ["\n".join(message.text for message in request.messages) for request in asked]
    assert len(texts) == len(shown) * (1 + (1 if pools == "shared" else 3))
    for i, prompt in enumerate(shown):
        greedy = texts[i * len(texts) // len(shown)]
        assert all(record.fields["text"] in greedy for record in prompt.records), prompt


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
    learned = [row for part in ("train", "personal") for row in learner.given["reranker"][part]]
    first = {query.user_id: query.id for query in sampling.pseudo_queries(here, list(place.users))[::-1]}
    assert {row.query_id for row in learned} == {*first.values(), *(q.id for q in place.people.label_queries)}
    assert here.ledger["record trials", "n0"]["calls"] == 3
    assert here.ledger["zero-shot candidates to learn from", "n0"]["calls"] == 2 * (1 + 1)


def test_the_papers_reranker_learns_of_ten_random_records_and_one_real_query_a_user(world, bench, learns):
    place = world(train=2, validation=0, new=2, records=14, queries=2)
    people = dataclasses.replace(place.people, label_queries=[q for q in place.people.label_queries if q.id[-1] == "0"])
    drawn = {}
    for seed in (0, 1):
        here, learner = bench(place, settings_lib.PAPER, seed=seed), learns()
        pseudo = sampling.pseudo_queries(here, people.everybody)
        hydra.learn_reranker(here, learner, people, pseudo)
        given = learner.given["reranker"]
        of_user = {
            user_id: [row for row in (*given["train"], *given["personal"]) if row.user_id == user_id]
            for user_id in people.everybody
        }
        assert {user_id: len(own) for user_id, own in of_user.items()} == {"t0": 110, "t1": 110, "n0": 100, "n1": 100}
        records = {query.id: query.record_id for query in pseudo}
        for user_id, own in of_user.items():
            asked = list(dict.fromkeys(row.query_id for row in own))
            assert len([query_id for query_id in asked if query_id in records]) == 10
            assert len(asked) == 10 + (user_id in people.train)
        drawn[seed] = [records[q] for q in dict.fromkeys(row.query_id for row in of_user["n0"])]
    assert drawn[0] != drawn[1] and drawn[0] != sorted(drawn[0], key=lambda name: int(name[1:]))


def test_the_paper_samples_eight_candidates_of_every_record_for_each_adapter(world, bench, learns):
    place = world(train=2, validation=0, new=2, records=6)
    here, learner = bench(place, settings_lib.PAPER), learns()
    hydra.hydra(here, learner, place.people, 4)
    for stage in ("zero-shot candidates to learn from", "candidates with records to learn from"):
        asked = here.ctx.llm.requests(stage)
        assert len(asked) == 8 * 6 * 4 and {request.temperature for request in asked} == {1.0}
    rows = rows_learned_from(learner)
    assert rows and {row.extras for row in rows} == {()}


def test_gold_labels_are_for_what_is_learned_and_never_judge(finished):
    place, here, learner, _ = finished(adapter_labels="gold", votes=False)
    golds = {query.id: query.gold for query in sampling.pseudo_queries(here, list(place.users))}
    given = learner.given["adapter"]
    for row in (*given["train"], *given["personal"]):
        assert row.label == float(row.second == here.ctx.task.normalise(golds[row.query_id]))
    queries = {query.id: query for query in place.people.validation_queries}
    assert given["judged"]
    for row in given["judged"]:
        assert row.quality == here.quality(queries[row.query_id], row.second)
        assert row.second != here.ctx.task.normalise(queries[row.query_id].gold)


def test_zero_shot_pools_teach_one_adapter_for_both(finished):
    _, here, learner, result = finished(pools="zero_shot")
    assert {row.extras[0] for part in ("train", "personal") for row in learner.given["adapter"][part]} == {0.0}
    assert {row.extras[0] for row in learner.given["adapter"]["judged"]} == {0.0, 1.0}
    assert here.ledger["zero-shot candidates to learn from", "n0"]["calls"] == 2 * (3 + 1)
    assert not [stage for stage, _ in here.ledger if stage == "candidates with records to learn from"]


def test_users_without_a_profile_are_asked_without_records(finished, world):
    place = world(cold=("n1", "v0", "t2"))
    _, here, learner, result = finished(place=place)
    query = next(q for q in place.people.new_queries if q.user_id == "n1")
    answer = next(answer for answer in result.answers if answer.query == query)
    zero_shot = next(answer for answer in result.zero_shot if answer.query == query)
    assert answer.records == ()
    alone = [r for r in here.ctx.llm.requests() if "realn1" in r.messages[-1].text]
    assert alone and all(len(r.messages) == 1 for r in alone)
    assert {c.text for c in answer.candidates} == {c.text for c in zero_shot.candidates}
    assert "n1" not in {row.user_id for row in rows_learned_from(learner)}


def test_rerank_shows_the_k_records_of_the_highest_score(world, bench, scores):
    place = world()
    here = bench(place)
    queries = [*place.people.new_queries, *sampling.pseudo_queries(here, ["n0"])]
    scorer = scores()
    for k in (1, 2, 3, 9):
        reranked = hydra.rerank(here, scorer, hydra.retrieve(here, queries), k)
        for query, prompt in zip(queries, reranked, strict=True):
            retrieved = here.retrieve(query, 3)
            own = scorer.scores([rows.of_record(here, query, record) for record in retrieved])
            best = [retrieved[i] for i in sorted(range(len(retrieved)), key=lambda i: -own[i])]
            assert prompt.query == query and list(prompt.records) == best[:k]


def test_records_of_equal_score_keep_the_retrievers_order(world, bench):
    place = world()
    here = bench(place)
    queries = place.people.new_queries
    reranked = hydra.rerank(here, scorers.Untrained(), hydra.retrieve(here, queries), 2)
    assert reranked == [Prompt(query=query, records=here.retrieve(query, 2)) for query in queries]


def test_a_score_belongs_to_its_candidate_however_long_the_pools_are(world, bench, scores):
    place = world()
    here = bench(place)
    queries = place.people.new_queries
    pools = [
        Pool(query=query, candidates=[Candidate(text=f"text {i} of {query.id}", source="reranked") for i in range(n)])
        for query, n in zip(queries, (1, 4, 2), strict=True)
    ]
    answers = hydra.adapt(here, scores(), pools)
    for pool, answer in zip(pools, answers, strict=True):
        alone = [Pool(query=pool.query, candidates=[candidate]) for candidate in pool.candidates]
        assert answer.scores == tuple(score for one in hydra.adapt(here, scores(), alone) for score in one.scores)
        assert answer.candidates == pool.candidates and answer.choice == int(np.argmax(answer.scores))
        assert answer.text == pool.candidates[answer.choice].text


def test_of_candidates_of_equal_score_the_first_is_the_answer(world, bench):
    place = world()
    candidates = [Candidate(text=text, source="reranked") for text in "abc"]
    (answer,) = hydra.adapt(
        bench(place), scorers.Untrained(), [Pool(query=place.people.new_queries[0], candidates=candidates)]
    )
    assert answer.text == "a" and answer.scores == (0.0, 0.0, 0.0)


def test_heads_and_the_pooled_head_reach_the_scorer(world, bench, scores):
    place = world()
    here = bench(place)
    queries = place.people.new_queries
    pools = [Pool(query=q, candidates=[Candidate(text=text, source="reranked") for text in "ab"]) for q in queries]
    scorer = scores()
    lent, pooled, own = (
        {answer.query.id: answer.scores for answer in hydra.adapt(here, scorer, pools, **how)}
        for how in ({"heads": {"n0": "n1"}}, {"pooled": True}, {})
    )
    assert [(heads, p) for _, heads, p in scorer.seen] == [({"n0": "n1"}, False), (None, True), (None, False)]
    assert lent["q-n1-0"] == own["q-n1-0"]
    assert not set(lent["q-n0-0"]) & set(own["q-n0-0"]) and not set(pooled["q-n0-0"]) & set(own["q-n0-0"])


@pytest.mark.parametrize("pools", ["shared", "reranked", "zero_shot"])
def test_a_single_question_is_answered_as_the_evaluation_answers_it(finished, pools):
    place, here, _, result = finished(pools=pools)
    for query, evaluated in zip(place.people.asked, result.answers, strict=True):
        assert hydra.answer(here, result.system, [query]) == [evaluated]


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
    for part, user_id in (("train", "t0"), ("personal", "n0")):
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
    assert [row.second for row in given["personal"]] == ["liked by n0", "not by n0"]
    assert given["judged"]
    assert not [stage for stage, _ in here.ledger if "to learn from" in stage]


def test_a_pool_in_which_all_are_as_good_teaches_nothing(world, bench, settings, learns, answering):
    place = world("LaMP_2M")
    here = bench(place, settings(), transport=answering(lambda r: "no label at all"))
    learner = learns()
    hydra.hydra(here, learner, place.people, 1)
    assert learner.given["adapter"] == {"train": [], "personal": [], "judged": []}
    assert learner.given["reranker"]["train"]


def test_rows_carry_the_label_and_quality_of_their_trial(finished):
    place, here, learner, _ = finished()
    queries = {q.id: q for q in sampling.pseudo_queries(here, list(place.users))}
    queries |= {q.id: q for q in (*place.people.label_queries, *place.people.validation_queries)}
    for row in (row for part in learner.given["adapter"].values() for row in part):
        assert row.quality == here.quality(queries[row.query_id], row.second)
    pools = {}
    for row in (row for part in learner.given["adapter"].values() for row in part):
        pools.setdefault(row.pool, []).append(row)
    for pool in pools.values():
        mean = np.mean([row.quality for row in pool])
        assert [row.label for row in pool] == [float(row.quality > mean) for row in pool]
        assert len({row.user_id for row in pool}) == 1
