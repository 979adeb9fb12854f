"""What a plan guesses where answers that are not there yet will decide."""

import dataclasses

import numpy as np

from hydrajax.data import draws, tasks
from hydrajax.llm import planner, store
from hydrajax.methods import hydra, lab, llm_stages, scorers
from hydrajax.methods import settings as settings_lib
from hydrajax.methods.collaborative import learn, retriever
from hydrajax.methods.rows import Row
from hydrajax.prompting import contract, reasoning, registry
from hydrajax.prompting.strategies import hypotheses
from hydrajax.runs import plan
from hydrajax.types import Query, Record, User

TRAIN, HEADS, JUDGED = (
    [Row(user_id=user_id, query_id=user_id, pool=user_id, first="q", second=f"{i}") for i in range(2)]
    for user_id in ("t0", "n0", "v0")
)


def person(name, records):
    texts = [{"text": f"{name} story {i}", "title": f"{name} says {i}"} for i in range(records)]
    return User(id=name, profile=tuple(Record(id=f"{name}{i}", fields=own) for i, own in enumerate(texts)))


def test_a_guess_keeps_the_first_row_of_a_third_of_the_questions_and_treats_equal_texts_alike():
    def rows(user_id, q):
        texts = [f"{q} record {i}" for i in range(8)]
        return [Row(user_id=user_id, query_id=f"{user_id}{q}", pool="p", first=q, second=t) for t in texts]

    guess = plan.GuessedScorer(seed=1)
    orders = {q: np.argsort(-guess.scores(rows("u", q))).tolist() for q in (f"q{i}" for i in range(300))}
    kept = sum(order[0] == 0 for order in orders.values())
    assert abs(kept / 300 - (1 / 3 + 2 / 3 / 8)) < 3 * (0.24 / 300) ** 0.5
    assert len({tuple(order[1:]) for order in orders.values()}) > 250
    for q in ("q0", "q1", "q2"):
        assert np.argsort(-guess.scores(rows("v", q))).tolist() == orders[q]
    both = guess.scores([*rows("u", "q0"), *rows("u", "q1")])
    assert both.tolist() == [*guess.scores(rows("u", "q0")), *guess.scores(rows("u", "q1"))]
    assert guess.scores([]).shape == (0,)


def test_the_least_is_a_reranker_that_changes_nothing_and_the_most_one_that_changes_all_by_user():
    rows = {
        user: [Row(user_id=user, query_id=user, pool="p", first="q", second=f"{i}") for i in range(8)] for user in "uv"
    }
    assert not plan.GuessedScorer(keeps=1).scores([*rows["u"], *rows["v"]]).any()
    u, v = (plan.GuessedScorer(keeps=0).scores(of_user).tolist() for of_user in rows.values())
    assert u != v and len({*u, *v}) == 16


def test_a_planned_learner_trains_nothing_where_answers_are_missing():
    planned = plan.GuessingLearner(seed=3)
    for name in ("reranker", learn.RERANKER):
        assert planned.fit(name, train=TRAIN, personal=HEADS, judged=JUDGED) == plan.GuessedScorer(seed=3)
    assert isinstance(planned.fit("adapter", train=TRAIN, personal=HEADS, judged=JUDGED), scorers.Untrained)


def test_a_planned_learner_learns_what_can_be_learned():
    class Known:
        def fit(self, name, *, train, personal, judged):
            assert (name, train, personal, judged) == ("reranker", TRAIN, HEADS, JUDGED)
            return plan.GuessedScorer(seed=77)

    planned = plan.GuessingLearner(Known)
    assert planned.fit("reranker", train=TRAIN, personal=HEADS, judged=JUDGED) == plan.GuessedScorer(seed=77)
    assert isinstance(planned.fit("adapter", train=TRAIN, personal=HEADS, judged=JUDGED), scorers.Untrained)


def test_what_was_learned_is_cross_fitted_by_its_own_learner_and_a_guess_by_none():
    learned, crossed = scorers.Untrained(), scorers.Untrained()

    class Known:
        def fit(self, name, *, train, personal, judged):
            return learned

        def cross_fit(self, name, scorer, *, train, personal):
            assert (name, train, personal) == ("reranker", TRAIN, HEADS) and scorer is learned
            return crossed

    for known, expected in ((Known(), crossed), (None, plan.GuessedScorer())):
        stored = [known]  # what is asked between the two leaves answers missing
        planned = plan.GuessingLearner(lambda stored=stored: stored.pop())
        scorer = planned.fit("reranker", train=TRAIN, personal=HEADS, judged=JUDGED)
        assert planned.cross_fit("reranker", scorer, train=TRAIN, personal=HEADS) == expected


def test_what_a_retriever_will_learn_to_find_is_guessed():
    """It finds most of what the base finds, and some of what that does not."""
    rng = np.random.default_rng(0)
    turned = plan.guessed_retriever(64, seed=1)
    np.testing.assert_array_equal(turned.text, plan.guessed_retriever(64, seed=1).text)
    found = []
    for _ in range(100):
        question, records = rng.normal(size=(1, 64)) + 1.0, rng.normal(size=(40, 64)) + 1.0
        of_each = [part.texts(records) @ part.texts(question)[0] for part in (turned, retriever.untaught(64))]
        first, second = (set(np.argsort(-scores)[:4].tolist()) for scores in of_each)
        found.append(len(first & second) / 4)
    assert 0.3 < np.mean(found) < 0.9


def test_records_that_are_tried_for_cfrag_are_counted(monkeypatch):
    """Two rounds: what the base finds, and what a retriever that is not learned yet may find besides."""
    monkeypatch.setattr(learn, "_user_encoder", lambda profiles: None)
    counting = planner.Planner("scripted", store.Store.without_making())
    users = {name: person(name, 5) for name in ("t0", "t1", "t2")}
    ctx = contract.Context(
        task=tasks.LAMP["LaMP_4"],
        llm=counting,
        population=users,
        embed=lambda texts: np.array([[draws.number(text, i) % 97 for i in range(6)] for text in texts], np.float32),
    )
    settings = settings_lib.Settings(shown=(1, 2))
    asked = [Query(id=name, user_id=name, inputs={"text": f"{name} asks"}, gold="gold") for name in users]
    people = hydra.People(
        train=tuple(users), validation=(), new=(), label_queries=asked, validation_queries=(), new_queries=asked
    )
    here = lab.Lab(ctx=ctx, users=users, settings=settings)
    plan.ask(here, people, ("zero_shot", "rag", "cfrag"), (), lambda: None)
    first = 3 * 3 * 2  # questions, users, records of each
    assert first <= counting.stages[llm_stages.COLLABORATIVE_TRIALS].calls <= 2 * first
    without = planner.Planner("scripted", store.Store.without_making())
    prompts = contract.PromptSettings(peer_ranking="frozen")
    frozen = dataclasses.replace(here, ctx=dataclasses.replace(ctx, llm=without, settings=prompts))
    plan.ask(frozen, people, ("zero_shot", "rag", "cfrag"), (), lambda: None)
    assert llm_stages.COLLABORATIVE_TRIALS not in without.stages


def test_what_is_tried_on_pairs_is_counted_at_its_most():
    counting = planner.Planner("scripted", store.Store.without_making())
    others = {user.id: user for user in (person("x", 8), person("y", 3))}
    ctx = contract.Context(task=tasks.LAMP["LaMP_4"], llm=counting, population=others)
    found = plan.strategy("hypothesis_bank").learn([person("a", 7), person("b", 2)], ctx)
    assert {stage: planned.calls for stage, planned in counting.stages.items() if planned.calls} == {
        "hypotheses": 2,
        "hypotheses tried": 4 * 4 + 3 * 4 + 2 * 4,
        "more hypotheses": 1,
    }
    assert all(model.text for model in found.values())


def test_a_persona_is_counted_at_its_most():
    counting = planner.Planner("scripted", store.Store.without_making())
    ctx = contract.Context(task=tasks.LAMP["LaMP_4"], llm=counting)
    found = plan.strategy("persona").learn([person("a", 30), person("b", 2)], ctx)
    assert {stage: planned.calls for stage, planned in counting.stages.items() if planned.calls} == {
        "personas: reasoning": 14,
        "personas: without reasoning": 14,
        "personas: reasoning tried": 6 * 10,
        "personas": 2,
        "personas: demonstrations tried": 6 * 10,
    }
    assert all(model.text and not model.fault for model in found.values())


def test_only_what_is_not_there_yet_is_guessed():
    bank, persona = plan.strategy("hypothesis_bank"), plan.strategy("persona")
    assert bank.read("style: calm") == hypotheses.parse("style: calm")
    assert persona.read("Reasoning: dry\nAnswer: 4") == reasoning.Prediction(reasoning="dry", answer="4")
    assert persona.read("dry") is None
    ctx = contract.Context(task=tasks.LAMP["LaMP_3"], llm=planner.Planner("scripted", store.Store.without_making()))
    assert [persona.holds(answer, "4", "", ctx) for answer in ("4", "5", "0a1b2c-3 the word.")] == [True, False, True]
    assert planner.is_placeholder("0a1b2c-3 the word.") and not planner.is_placeholder("word 0a1b2c-3")
    guessed = {"hypothesis_bank", "persona"}
    assert all(plan.strategy(name) is registry.get(name) for name in registry.names() if name not in guessed)
