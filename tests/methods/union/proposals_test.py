"""What sources propose, and that nothing proposed for a pseudo-query has seen its record."""

import dataclasses

import numpy as np
import pytest

from hydrajax.data import cross_fitting, draws, pseudo, tasks
from hydrajax.methods.union import classifier, proposals
from hydrajax.prompting import contract
from hydrajax.types import Query, Record, Split, User, profile_for

TASK = dataclasses.replace(tasks.LAMP["LaMP_2M"], labels=("a", "b", "c", "planted"))


def embed(texts):
    """A direction for each first letter, and a little noise for each text."""
    found = np.zeros((len(texts), 27))
    for row, text in zip(found, texts, strict=True):
        row[ord(text[0]) - ord("a")] = 1.0
        row[26] = sum(map(ord, text)) % 7 / 70
    return found


def user(user_id, *records):
    profile = [Record(id=str(i), fields={"description": text, "tag": tag}) for i, (text, tag) in enumerate(records)]
    return User(id=user_id, profile=tuple(profile))


def asked(own, text, record_id=None):
    return Query(id=f"{own.id}: {text}", user_id=own.id, inputs={"text": text}, gold="a", record_id=record_id)


def known(task=TASK):
    return proposals.Known(task=task, embed=embed, default="c")


def ask(own, query):
    return contract.Asked(query=query, profile=profile_for(query, own))


def test_labels_come_by_their_share_with_the_logarithm_as_number():
    own = user("u", ("apple", "a"), ("pear", "b"), ("plum", "b"))
    (found,) = proposals.every_label(known(), [ask(own, asked(own, "fig"))])
    total = 3 + 4 * proposals.SMOOTHING
    assert [p.text for p in found] == ["b", "a", "c", "planted"]
    np.testing.assert_allclose(found[0].numbers, np.log((2 + proposals.SMOOTHING) / total))
    np.testing.assert_allclose(found[2].numbers, np.log(proposals.SMOOTHING / total))


def test_a_rating_is_worth_its_expected_quality():
    task = tasks.LAMP["LaMP_3"]
    logits = np.log([0.4, 0.0001, 0.0001, 0.25, 0.35])
    p = np.exp(logits) / np.exp(logits).sum()
    expected = [sum(p[j] * (1 - abs(i - j) / 4) for j in range(5)) for i in range(5)]
    found = classifier.worth(task, logits)
    np.testing.assert_allclose(found, expected)
    assert np.argmax(found) == 3  # the median, not the mode


def test_the_nearest_records_are_found_by_words_and_by_meaning():
    own = user("u", ("zebra crossing", "b"), ("apple tree", "a"), ("zoo", "c"))
    query = asked(own, "apple pie")
    assert proposals.nearest_by_words(known(), [ask(own, query)])[0][0].text == "a"
    (found,) = proposals.nearest_by_meaning(known(), [ask(own, query)])
    assert found[0].text == "a"
    assert found[0].numbers > found[1].numbers


def test_a_user_without_records_gets_what_others_answer_most():
    own = user("u")
    query = asked(own, "apple")
    for propose in (proposals.most_frequent, proposals.nearest_by_words, proposals.nearest_by_meaning):
        assert propose(known(), [ask(own, query)])[0][0].text == "c"


def test_texts_of_the_query_are_proposed():
    task = tasks.LAMP["LaMP_7"]
    own = User(id="u")
    query = Query(id="q", user_id="u", inputs={"text": "One. Two."}, gold="One")
    assert proposals.query_text(known(task), [ask(own, query)]) == [[proposals.Proposal(text="One. Two.")]]
    assert proposals.first_sentence(known(task), [ask(own, query)]) == [[proposals.Proposal(text="One.")]]


@pytest.fixture
def people():
    """Users of whom each has one record with a text and a label that occur nowhere else."""
    return [
        user(f"u{i}", ("apple", "a"), ("bread", "b"), ("cake", "c"), (f"xylophone {i}", "planted")) for i in range(6)
    ]


def planted(own):
    """The pseudo-query of the planted record."""
    queries = pseudo.pseudo_queries(TASK, own, None, seed=0)
    return next(query for query in queries if query.gold == "planted")


def test_what_is_proposed_for_a_pseudo_query_is_what_it_would_be_without_the_record(people):
    queries = [planted(own) for own in people]
    whole = {own.id: own for own in people}
    bare = {own.id: dataclasses.replace(own, profile=own.profile[:-1]) for own in people}
    sources = {
        name: proposals.SOURCES[name] for name in ("labels", "most frequent", "nearest by words", "nearest by meaning")
    }
    seen = proposals.propose(known(), whole, queries, sources)
    assert seen == proposals.propose(known(), bare, queries, sources)
    for by_query in seen.values():
        assert all(by_query[query.id][0].text != "planted" for query in queries)


def test_a_shared_model_has_seen_neither_the_user_nor_the_text(people):
    shared = [user(f"s{i}", ("shared film", "planted"), ("apple", "a"), (f"bread {i}", "b")) for i in range(4)]
    everybody = [*people, *shared]
    split = Split(name="train", users={own.id: own for own in everybody}, queries=())
    queries = [planted(own) for own in everybody]
    fitted = []

    def fit(about, train):
        fitted.append(train)

    answered = []

    def propose(about, own):
        answered.append([one.query for one in own])
        return [[proposals.Proposal(text="a")] for _ in own]

    source = proposals.Source(propose=propose, suits=lambda task: True, fit=fit)
    proposals.out_of_fold(known(), split, queries, {"spy": source}, parts=4)
    assert sum(map(len, answered)) == len(queries)
    for train, own in zip(fitted, answered, strict=True):
        texts = {record.fields["description"] for other in train.users.values() for record in other.profile}
        assert not {query.user_id for query in own} & set(train.users)
        assert not {TASK.query_text(query) for query in own} & texts


def test_a_source_that_copies_from_the_profile_is_right_by_chance_alone():
    """It looks for the record with the query's input. Labels are drawn at random, so only a leak could be right."""
    rng = np.random.default_rng(0)
    people = {
        f"u{i}": user(f"u{i}", *((f"text {i} {j}", TASK.labels[rng.integers(4)]) for j in range(8))) for i in range(30)
    }
    queries = [query for own in people.values() for query in pseudo.pseudo_queries(TASK, own, None, seed=0)]

    def copy(about, asked):
        found = []
        for one in asked:
            same = [r.fields["tag"] for r in one.profile if r.fields["description"] == one.query.inputs["text"]]
            guess = same[0] if same else TASK.labels[draws.number(one.query.id) % 4]
            found.append([proposals.Proposal(text=guess)])
        return found

    def share(found):
        return np.mean([found["copy"][query.id][0].text == query.gold for query in queries])

    sources = {"copy": proposals.Source(propose=copy, suits=lambda task: True)}
    split = Split(name="train", users=people, queries=())
    chance, n = 1 / len(TASK.labels), len(queries)
    most = chance + 3 * np.sqrt(chance * (1 - chance) / n)
    assert share(proposals.propose(known(), people, queries, sources)) < most
    assert share(proposals.out_of_fold(known(), split, queries, sources)) < most
    unmarked = [dataclasses.replace(query, record_id=None) for query in queries]
    assert share(proposals.propose(known(), people, unmarked, sources)) == 1.0  # the test can fail
    halved = [cross_fitting.half(people[q.user_id], cross_fitting.part_for(q, people[q.user_id])) for q in queries]
    assert not any(q.record_id in {r.id for r in own.profile} for q, own in zip(queries, halved, strict=True))


@pytest.mark.parametrize("task", ["LaMP_2M", "LaMP_7"])
def test_a_source_that_finds_nobody_to_learn_from_proposes_nothing(task):
    task = tasks.LAMP[task]
    own = User(id="new", profile=(Record(id="0", fields=dict.fromkeys(task.fields, "apple pie")),))
    query = Query(id="q", user_id="new", inputs={"text": "fig and plum"}, gold="fig")
    new = Split(name="new", users={"new": own}, queries=(query,))
    sources = proposals.suiting(task)
    fitted = proposals.fit_models(known(task), Split(name="train", users={}, queries=()), new, sources)
    found = proposals.propose(fitted, new.users, new.queries, sources)
    learned = {name for name, source in sources.items() if source.fit is not None}
    assert learned and all(not found[name].get("q") for name in learned)
    assert any(found[name].get("q") for name in set(sources) - learned)
