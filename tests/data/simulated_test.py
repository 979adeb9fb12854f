"""Simulated users: what is planted is there, can be learned, and nothing gives it away."""

import collections

import numpy as np
import pytest
from sklearn import linear_model

from hydrajax import types
from hydrajax.data import demo_texts, folds, pseudo, simulated, style
from hydrajax.data.simulated import answers
from hydrajax.types import DataError, Query


def choices(simulation):
    for split in (simulation.train, simulation.dev):
        for user in split.users.values():
            for record in user.profile:
                yield user.id, record


def ask(user_id, topic):
    return Query(id="q", user_id=user_id, inputs={"text": topic})


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
    [("brevity", "brief"), ("warmth", "warm"), ("questions", "asking"), ("vividness", "vivid")],
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
        query = ask(user_id, record.fields["topic"])
        assert record.fields["text"] == max(variants, key=lambda text: simulation.reward(query, text))


def test_golds_have_the_highest_reward_whatever_the_noise():
    simulation = simulated.simulate(train_users=5, dev_users=5, noise=2.0)
    for query in (*simulation.train.queries, *simulation.dev.queries):
        rewards = [simulation.reward(query, text) for text in simulated.variants(query)]
        assert simulation.reward(query, query.gold) == max(rewards) > 0
    noisy = [r.fields["text"] for _, r in choices(simulation)]
    exact = [r.fields["text"] for _, r in choices(simulated.simulate(train_users=5, dev_users=5))]
    assert noisy != exact


def test_the_reward_is_its_formula_where_the_request_is_answered():
    weights = dict.fromkeys(style.SCORES, 0.0) | {"warmth": 0.6, "questions": -0.8}
    texts = [(topic, text) for topic, variants in demo_texts.TOPICS.items() for text in variants]
    warmth, questions = (np.array([style.SCORES[name](t) for _, t in texts]) for name in ("warmth", "questions"))
    z = 0.6 * (warmth - warmth.mean()) / warmth.std() - 0.8 * (questions - questions.mean()) / questions.std()
    rewards = [simulated.reward(weights, topic, text) for topic, text in texts]
    np.testing.assert_allclose(rewards, 1 / (1 + np.exp(-4 * z)), atol=1e-12)
    assert all(simulated.reward(dict.fromkeys(style.SCORES, 0.0), topic, text) == 0.5 for topic, text in texts)


def test_every_text_answers_its_own_request_and_no_other():
    for topic in demo_texts.TOPICS:
        answering = [text for variants in demo_texts.TOPICS.values() for text in variants if answers(topic, text)]
        assert tuple(answering) == demo_texts.TOPICS[topic]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The view from the train was breathtaking!", True),
        ("I saw hills and a river on the TRAINS.", True),
        ("I'm so glad that I could help you out!", True),  # a poor answer, but an answer
        ("Describe the view from a train.", False),
        ("...", False),
        (" ", False),
        ("Barbecue at ours on Saturday. Come hungry.", False),
        ("Barbecue at ours on Saturdays! Come hungry, friend.", False),
        ("From the train I see a barbecue on Saturday, and everybody is hungry.", True),
    ],
)
def test_an_answer_does_not_repeat_the_request_and_was_not_written_for_another_one(text, expected):
    assert answers("Describe the view from a train", text) is expected


def test_an_answer_may_have_all_its_words_in_common_with_a_text_on_another_topic():
    """In plain answers most words occur anywhere."""
    assert answers("Wish someone a happy birthday", "Happy birthday to you.")
    assert not answers("Tell the teacher that your child is ill", "Happy birthday to you.")


def test_what_does_not_answer_the_request_is_worth_nothing_however_well_it_is_written():
    simulation = simulated.simulate(train_users=5, dev_users=5)
    for query in (*simulation.train.queries, *simulation.dev.queries):
        own = simulation.feedback[query.user_id]
        assert all(simulation.reward(query, text) == 0 for item in own for text in item.scores)
        assert simulation.reward(query, "") == simulation.reward(query, query.inputs["text"]) == 0
        assert max(simulation.reward(query, text) for text in simulated.variants(query)) > 0


def test_of_two_answers_the_one_that_is_nearer_to_the_users_taste_is_worth_more():
    plain, warm = "The soup has tomato in it.", "I love this soup with tomato so much, it's a wonderful hug!"
    simulation = simulated.simulate(train_users=30, dev_users=0)
    preferred = collections.Counter()
    for user_id, weights in simulation.weights.items():
        query = ask(user_id, "Describe your favourite soup")
        better = simulated.taste(weights, warm) > simulated.taste(weights, plain)
        assert (simulation.reward(query, warm) > simulation.reward(query, plain)) == better
        preferred[better] += 1
    assert min(preferred.values()) > 5
    assert simulated.taste({"warmth": 1.0}, warm) > simulated.taste({"warmth": 1.0}, plain)
    assert simulated.taste({"brevity": 1.0}, warm) < simulated.taste({"brevity": 1.0}, plain)


def test_users_with_opposite_tastes_order_answers_oppositely():
    for weights in simulated.simulate(train_users=10, dev_users=0).weights.values():
        opposite = {name: -weight for name, weight in weights.items()}
        for topic, variants in demo_texts.TOPICS.items():
            likes, dislikes = ([simulated.reward(w, topic, text) for text in variants] for w in (weights, opposite))
            np.testing.assert_allclose(np.add(likes, dislikes), 1.0)
            # Texts that the user likes equally keep their order in neither.
            assert np.all(np.diff(np.array(dislikes)[np.argsort(likes, kind="stable")]) <= 1e-12)


def test_an_answer_is_worth_a_probability_and_nothing_is_to_everybodys_taste():
    simulation = simulated.simulate(train_users=60, dev_users=0)
    for topic, variants in demo_texts.TOPICS.items():
        rewards = np.array([[simulated.reward(w, topic, t) for t in variants] for w in simulation.weights.values()])
        assert rewards.min() > 0 and rewards.max() < 1
        assert np.all(rewards.mean(0) > 0.2) and np.all(rewards.mean(0) < 0.8)


def test_a_reward_depends_on_who_asks_what_and_not_on_the_other_users():
    few, many = (simulated.simulate(train_users=n, dev_users=1, seed=4) for n in (1, 9))
    query = few.dev.queries[0]
    for text in simulated.variants(query):
        assert few.reward(query, text) == many.reward(query, text)
    others = [ask(user_id, query.inputs["text"]) for user_id in many.weights]
    assert len({many.reward(other, query.gold) for other in others}) > 5


def test_tastes_have_length_one_and_both_signs():
    drawn = np.array([list(w.values()) for w in simulated.simulate(train_users=200, dev_users=0).weights.values()])
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1.0)
    assert np.all(np.abs(np.mean(drawn > 0, axis=0) - 0.5) < 0.15)


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


def test_fewer_topics_for_dev_users_change_only_what_these_are_asked():
    few, many = (simulated.simulate(train_users=2, dev_users=9, dev_topics=n) for n in (2, 6))
    assert (few.train, few.dev.users, few.feedback) == (many.train, many.dev.users, many.feedback)
    topics = {query.inputs["text"] for query in few.dev.queries}
    assert len(topics) == 2 and topics <= {query.inputs["text"] for query in many.dev.queries}


def test_everybody_has_records_on_the_same_topics():
    simulation = simulated.simulate(records=5)
    topics = {
        frozenset(record.fields["topic"] for record in user.profile)
        for split in (simulation.train, simulation.dev)
        for user in split.users.values()
    }
    assert len(topics) == 1 and len(*topics) == 5


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
        ({"queries": 3, "dev_topics": 2}, "dev_topics is 2, expected 3 to 6"),
        ({"shown": 1}, "shown is 1, expected 2 to 6"),
        ({"noise": -1.0}, "expected no negative number"),
    ],
)
def test_numbers_out_of_range_are_named(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        simulated.simulate(**wrong)


def test_strangers_and_strange_topics_are_named():
    simulation = simulated.simulate(train_users=1, dev_users=0)
    with pytest.raises(DataError, match="no simulated user 'ann'"):
        simulation.reward(ask("ann", "Describe your favourite soup"), "x")
    with pytest.raises(DataError, match="asks 'Sing', which is no topic"):
        simulation.reward(ask("train-0", "Sing"), "x")
    with pytest.raises(DataError, match="asks 'Sing', which is no topic"):
        simulated.variants(Query(id="q", user_id="u", inputs={"text": "Sing"}))
