import numpy as np
import pytest
from sklearn import linear_model

from hydrajax.data import tasks
from hydrajax.methods.union import classifier as factorised_classifier
from hydrajax.types import DataError, Query, Record, Split, User

TASK = tasks.LAMP["LaMP_2M"]
WORDS = ("laugh", "fight", "past", "robot", "filler")
LABEL_OF = {"laugh": "comedy", "fight": "action", "past": "classic", "robot": "sci-fi"}
ONE = (factorised_classifier.Settings(regularisation=1.0, user_weight=1.0, smoothing=1.0),)


def embed(texts):
    """Counts of the known words."""
    return np.array([[text.split().count(word) for word in WORDS] for text in texts], np.float32)


def _user(name, records):
    return User(
        id=name,
        profile=tuple(Record(id=str(i), fields={"description": d, "tag": t}) for i, (d, t) in enumerate(records)),
    )


def _query(user, text, gold=None, record_id=None):
    return Query(id=f"{user}-{text}", user_id=user, inputs={"text": text}, gold=gold, record_id=record_id)


def _split(users, queries=()):
    return Split(name="train", users={user.id: user for user in users}, queries=tuple(queries))


def _train(users=8, seed=0):
    rng = np.random.default_rng(seed)
    made, asked = [], []
    for u in range(users):
        words = rng.choice(list(LABEL_OF), size=5)
        made.append(_user(f"u{u}", [(f"{w} filler {u} {i}", LABEL_OF[w]) for i, w in enumerate(words)]))
        asked.append(_query(f"u{u}", f"{words[0]} question {u}", LABEL_OF[words[0]]))
    return _split(made, asked)


def test_texts_are_classified_by_what_all_users_wrote():
    model = factorised_classifier.fit(TASK, _train(), embed, grid=ONE)
    stranger = User(id="new")
    queries = [_query("new", f"a {word} here") for word in LABEL_OF]
    assert factorised_classifier.predict(model, TASK, queries, [stranger] * 4, embed) == list(LABEL_OF.values())


def test_where_the_text_says_nothing_the_user_decides():
    model = factorised_classifier.fit(TASK, _train(), embed, grid=ONE)
    user = _user("new", [("anything", "psychology")] * 6)
    assert factorised_classifier.predict(model, TASK, [_query("new", "filler")], [user], embed) == ["psychology"]


def test_the_answer_is_the_argmax_of_the_formula():
    train = _train()
    settings = factorised_classifier.Settings(regularisation=0.3, user_weight=0.7, smoothing=0.5)
    model = factorised_classifier.fit(TASK, train, embed, grid=[settings])
    user = _user("new", [("x", "comedy"), ("y", "action"), ("z", "action")])
    records = [record for u in train.users.values() for record in u.profile]
    features = embed([record.fields["description"] for record in records]).astype(float)
    target = np.array([TASK.labels.index(record.fields["tag"]) for record in records])
    mean, spread = features.mean(0), features.std(0) + (features.std(0) == 0)
    regression = linear_model.LogisticRegression(C=0.3, max_iter=2000).fit((features - mean) / spread, target)
    present = regression.classes_
    for text in ("laugh filler", "fight laugh", "robot past", "filler"):
        scores = np.zeros(len(TASK.labels))
        log_posterior = regression.predict_log_proba((embed([text]) - mean) / spread)[0]
        scores[present] = log_posterior - np.log(np.bincount(target)[present] / len(target))
        counts = np.zeros(len(TASK.labels))
        counts[[TASK.labels.index("comedy"), TASK.labels.index("action")]] = 1, 2
        scores += 0.7 * np.log((counts + 0.5) / (3 + 0.5 * len(counts)))
        expected = TASK.labels[int(np.argmax(scores))]
        assert factorised_classifier.predict(model, TASK, [_query("new", text)], [user], embed) == [expected]


def test_a_record_does_not_help_to_label_itself():
    model = factorised_classifier.fit(TASK, _train(), embed, grid=ONE)
    user = _user("new", [("filler", "psychology"), ("filler", "romance")])
    asked = [_query("new", "filler", record_id=record) for record in ("0", "1")]
    assert factorised_classifier.predict(model, TASK, asked, [user] * 2, embed) == ["romance", "psychology"]


def test_settings_are_chosen_by_users_left_out():
    # Labels follow the user alone, so a grid that offers to ignore the user must not take that offer.
    users = [_user(f"u{i}", [("filler", label)] * 4) for i, label in enumerate(LABEL_OF.values())]
    asked = [_query(user.id, "filler too", user.profile[0].fields["tag"]) for user in users]
    grid = [factorised_classifier.Settings(user_weight=w) for w in (0.0, 1.0)]
    model = factorised_classifier.fit(TASK, _split(users, asked), embed, grid=grid)
    assert model.settings.user_weight == 1.0
    assert model.validation_accuracy == 1.0


def _numbered(texts):
    """Features that tell every number apart and say nothing else: what is known of one was learned from that one."""
    return np.eye(40)[[int(text.split()[1]) for text in texts]]


def test_a_text_that_is_asked_is_not_learned_from_others():
    # Every question stands, with its answer, in somebody else's profile.
    labels = np.random.default_rng(0).choice(TASK.labels, size=40)
    users = [_user(f"u{i}", [(f"question {(i + 1) % 40}", labels[(i + 1) % 40])]) for i in range(40)]
    asked = [_query(f"u{i}", f"question {i}", labels[i]) for i in range(40)]
    grid = [factorised_classifier.Settings(regularisation=c, user_weight=0.0) for c in (1.0, 10.0)]
    model = factorised_classifier.fit(TASK, _split(users, asked), _numbered, grid=grid)
    assert model.validation_accuracy < 0.5
    others = [_query(f"u{i}", f"reworded {i}", labels[i]) for i in range(40)]
    assert factorised_classifier.fit(TASK, _split(users, others), _numbered, grid=grid).validation_accuracy > 0.5


def test_nothing_is_learned_from_the_users_who_validate():
    # Every user writes of one thing alone and always answers the same: only the user's own records tell the answer.
    labels = np.random.default_rng(0).choice(TASK.labels, size=40)
    users = [_user(f"u{i}", [(f"record {i}", labels[i]), (f"another {i}", labels[i])]) for i in range(40)]
    asked = [_query(f"u{i}", f"question {i}", labels[i]) for i in range(40)]
    grid = [factorised_classifier.Settings(regularisation=c, user_weight=0.0) for c in (1.0, 10.0)]
    model = factorised_classifier.fit(TASK, _split(users, asked), _numbered, grid=grid)
    assert model.validation_accuracy < 0.5


def test_without_questions_the_records_validate_each_with_the_rest():
    train = _split(_train().users.values())
    model = factorised_classifier.fit(TASK, train, embed)
    assert model.settings in factorised_classifier.GRID
    assert model.validation_accuracy > 0.5


def test_fitting_repeats():
    a, b = (factorised_classifier.fit(TASK, _train(), embed, seed=3) for _ in range(2))
    assert a.settings == b.settings
    features = factorised_classifier.query_features(TASK, [_query("new", f"{word} filler") for word in LABEL_OF], embed)
    np.testing.assert_array_equal(*(factorised_classifier.text_evidence(model, features) for model in (a, b)))


@pytest.mark.parametrize("labels", [["comedy"], ["comedy", "action"]])
def test_few_labels_among_the_records(labels):
    words = {label: word for word, label in LABEL_OF.items()}
    users = [_user(f"u{i}", [(f"{words[label]} {i}", label) for label in labels]) for i in range(4)]
    model = factorised_classifier.fit(TASK, _split(users), embed, grid=ONE)
    queries = [_query("new", f"{words[label]} here") for label in labels]
    assert factorised_classifier.predict(model, TASK, queries, [User(id="new")] * len(labels), embed) == labels
    other = _user("new", [("x", "romance")] * 9)
    assert factorised_classifier.predict(model, TASK, queries[:1], [other], embed) == ["romance"]


def test_no_query_is_no_answer():
    model = factorised_classifier.fit(TASK, _train(), embed, grid=ONE)
    assert factorised_classifier.predict(model, TASK, [], [], embed) == []


@pytest.mark.parametrize("name", ["LaMP_1", "LaMP_4"])
def test_tasks_without_labels_in_their_records_are_refused(name):
    with pytest.raises(DataError, match=f"task {name} .* cannot have a factorised classifier"):
        factorised_classifier.fit(tasks.LAMP[name], _train(), embed)


def test_training_users_without_any_label_are_refused():
    with pytest.raises(DataError, match="no record of the 1 training users has a label"):
        factorised_classifier.fit(TASK, _split([_user("u", [("text", "no such tag")])]), embed)
