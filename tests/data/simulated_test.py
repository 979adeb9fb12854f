"""Simulated users: what is planted is there, can be learned, and nothing gives it away."""

import collections

import numpy as np
import pytest
from sklearn import linear_model

from hydrajax import types
from hydrajax.data import demo_texts, folds, pseudo, simulated, style
from hydrajax.types import DataError, Query


def choices(simulation):
    for split in (simulation.train, simulation.dev):
        for user in split.users.values():
            for record in user.profile:
                yield user.id, record


def features(text):
    return np.array([score(text) for score in style.SCORES.values()], np.float64)


def test_every_topic_has_every_style_and_no_text_occurs_twice():
    texts = [text for variants in demo_texts.TOPICS.values() for text in variants]
    assert len(demo_texts.TOPICS) == 24
    assert all(len(variants) == len(demo_texts.STYLES) == 6 for variants in demo_texts.TOPICS.values())
    assert len({pseudo.same_text(text) for text in texts}) == len(texts)
    assert all(text == text.strip() and text[-1] in ".!?" for text in texts)


@pytest.mark.parametrize(
    ("score", "wanted"),
    [
        ("detail", "formal"),
        ("brevity", "brief"),
        ("formality", "formal"),
        ("warmth", "warm"),
        ("concreteness", "factual"),
        ("questions", "asking"),
        ("vividness", "vivid"),
        ("courtesy", "asking"),
    ],
)
def test_every_scoring_function_finds_its_style(score, wanted):
    best = [
        demo_texts.STYLES[int(np.argmax([style.SCORES[score](text) for text in variants]))]
        for variants in demo_texts.TOPICS.values()
    ]
    assert collections.Counter(best)[wanted] >= 20


@pytest.mark.parametrize("score", style.SCORES)
def test_scores_are_bounded_and_nothing_is_worth_nothing(score):
    function = style.SCORES[score]
    assert function("") == function("  ") == 0
    endless = "Please thank Anna, darling! Golden 12 considerable? " * 200
    assert function(endless) <= 40
    assert function(endless) == function(endless * 2) or score == "brevity"


def test_a_user_chooses_what_the_user_likes_best():
    simulation = simulated.simulate(train_users=5, dev_users=5)
    for user_id, record in choices(simulation):
        variants = demo_texts.TOPICS[record.fields["topic"]]
        assert record.fields["text"] == max(variants, key=lambda text: simulation.reward(user_id, text))


def test_golds_have_the_highest_reward_whatever_the_noise():
    simulation = simulated.simulate(train_users=5, dev_users=5, noise=2.0)
    for query in (*simulation.train.queries, *simulation.dev.queries):
        rewards = [simulation.reward(query.user_id, text) for text in simulated.variants(query)]
        assert simulation.reward(query.user_id, query.gold) == max(rewards)
    noisy = [r.fields["text"] for _, r in choices(simulation)]
    exact = [r.fields["text"] for _, r in choices(simulated.simulate(train_users=5, dev_users=5))]
    assert noisy != exact


def test_the_reward_is_its_formula():
    weights = dict.fromkeys(style.SCORES, 0.0) | {"warmth": 0.75, "questions": 0.25}
    texts = [text for variants in demo_texts.TOPICS.values() for text in variants]
    warmth, questions = (np.array([style.SCORES[name](t) for t in texts]) for name in ("warmth", "questions"))
    expected = 0.75 * (warmth - warmth.mean()) / warmth.std() + 0.25 * (questions - questions.mean()) / questions.std()
    np.testing.assert_allclose([simulated.reward(weights, text) for text in texts], expected, atol=1e-12)


def test_an_empty_answer_is_worse_than_any_text():
    assert simulated.reward({"warmth": 1.0}, "") < simulated.reward({"warmth": 1.0}, "No.")
    simulation = simulated.simulate(train_users=10, dev_users=0)
    texts = [text for variants in demo_texts.TOPICS.values() for text in variants]
    for user_id in simulation.train.users:
        worst = min(simulation.reward(user_id, text) for text in [*texts, "No.", "x " * 500])
        assert simulation.reward(user_id, " ") < worst


def test_weights_are_shares_and_sparse_where_alpha_is_small():
    def largest(alpha):
        drawn = simulated.simulate(train_users=60, dev_users=0, alpha=alpha).weights.values()
        assert all(min(w.values()) >= 0 and abs(sum(w.values()) - 1) < 1e-9 for w in drawn)
        return np.mean([max(w.values()) for w in drawn])

    assert largest(0.05) > 0.8 > 0.5 > largest(2.0)


def test_no_topic_is_asked_that_is_in_a_profile_and_dev_topics_are_new_to_everybody():
    simulation = simulated.simulate(records=14, queries=4)
    parts = {"train": simulation.train, "dev": simulation.dev}
    known = collections.defaultdict(set)
    for user_id, record in choices(simulation):
        known[user_id].add(record.fields["topic"])
    everybody = set().union(*known.values())
    asked = {name: {q.inputs["text"] for q in split.queries} for name, split in parts.items()}
    assert not asked["train"] & everybody and not asked["dev"] & (everybody | asked["train"])
    assert not set(simulation.train.users) & set(simulation.dev.users)
    assert folds.hold_out(simulation.task, simulation.train, simulation.dev).removed == folds.Removed()
    fit, validation = (folds.part(simulation.train, ids) for ids in folds.validation_cut(simulation.train, 0.2, seed=0))
    assert folds.hold_out(simulation.task, fit, validation).removed.train_records == 0


def test_a_user_does_not_depend_on_how_many_there_are():
    few, many = (simulated.simulate(train_users=n, dev_users=3, seed=4) for n in (2, 9))
    for user_id in few.weights:
        assert few.weights[user_id] == many.weights[user_id]
        assert few.feedback[user_id] == many.feedback[user_id]
    assert few.dev == many.dev
    assert simulated.simulate(seed=5).weights["dev-0"] != simulated.simulate(seed=4).weights["dev-0"]


def test_feedback_belongs_to_the_records_and_hides_them():
    simulation = simulated.simulate(train_users=3, dev_users=0, shown=4)
    for user_id, user in simulation.train.users.items():
        for item, record in zip(simulation.feedback[user_id], user.profile, strict=True):
            assert item.query.record_id == record.id and len(item.scores) == 4
            assert max(item.scores, key=item.scores.__getitem__) == record.fields["text"] == item.query.gold
            assert record not in types.profile_for(item.query, user)
        asked = {q.id: q for q in pseudo.pseudo_queries(simulation.task, user, None, seed=0)}
        assert asked == {item.query.id: item.query for item in simulation.feedback[user_id]}


def test_what_a_user_likes_can_be_learned_from_the_profile_and_not_from_another_users():
    """Logistic regression on pairs (chosen, not chosen), judged on topics that nobody has seen."""
    simulation = simulated.simulate(train_users=0, dev_users=24, queries=4, noise=0.3)
    texts = np.stack([features(text) for variants in demo_texts.TOPICS.values() for text in variants])
    mean, deviation = texts.mean(0), texts.std(0)
    heads = {}
    for user_id, given in simulation.feedback.items():
        pairs = np.stack(
            [
                (features(f.query.gold) - features(text)) / deviation
                for f in given
                for text in f.scores
                if text != f.query.gold
            ]
        )
        labels = np.repeat([1, 0], len(pairs))
        model = linear_model.LogisticRegression(fit_intercept=False, max_iter=500)
        heads[user_id] = model.fit(np.concatenate([pairs, -pairs]), labels).coef_[0]

    def hits(head_of):
        right = []
        for query in simulation.dev.queries:
            variants = simulated.variants(query)
            scores = [head_of(query.user_id) @ ((features(text) - mean) / deviation) for text in variants]
            right.append(variants[int(np.argmax(scores))] == query.gold)
        return np.mean(right)

    users = list(heads)
    following = dict(zip(users, users[1:] + users[:1], strict=True))
    pooled = np.mean(list(heads.values()), axis=0)
    assert hits(heads.__getitem__) > 0.7
    assert hits(lambda user_id: heads[following[user_id]]) < 0.45
    assert hits(lambda user_id: pooled) < 0.5


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"queries": 5}, "queries is 5, expected 1 to 4"),
        ({"records": 15}, "records is 15, expected 1 to 14"),
        ({"shown": 1}, "shown is 1, expected 2 to 6"),
        ({"alpha": 0.0}, "expected no negative number, and alpha above 0"),
    ],
)
def test_numbers_out_of_range_are_named(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        simulated.simulate(**wrong)


def test_strangers_and_strange_topics_are_named():
    simulation = simulated.simulate(train_users=1, dev_users=0)
    with pytest.raises(DataError, match="no simulated user 'ann'"):
        simulation.reward("ann", "x")
    with pytest.raises(DataError, match="asks 'Sing', which is no topic"):
        simulated.variants(Query(id="q", user_id="u", inputs={"text": "Sing"}))
