"""CFRAG learned: planted records that look right and do not help, and records of others that do."""

import collections
import dataclasses

import numpy as np
import pytest

from hydrajax import training
from hydrajax.data import tasks
from hydrajax.llm import planner, store
from hydrajax.methods import hydra, llm_stages, sampling, selection
from hydrajax.methods import settings as settings_lib
from hydrajax.methods.collaborative import learn, retriever
from hydrajax.prompting import contract
from hydrajax.runs import plan
from hydrajax.types import Query, Record, User

WORDS = ("sea", "alpha", "beta", "left", "right")
HELPS = {"left": "alpha", "right": "beta"}  # which records help users of which kind
PROMPTS = contract.PromptSettings(peers=3, peer_records=3)
SETTINGS = settings_lib.Settings(retrieved=4, shown=(1, 2), pseudo_queries=2, prompts=PROMPTS)


def embed(texts):
    """How often a text has each of five words."""
    return np.array([[text.count(word) + 0.01 for word in WORDS] for text in texts], np.float32)


def encode(pairs):
    """What the record is; the question says nothing of who asks."""
    return embed([second for _, second in pairs]).reshape(len(pairs), len(WORDS))


def record(name, text):
    return Record(id=name, fields={"text": f"{text} {name}", "title": f"title {name}"})


def person(name, kind, *texts):
    """`kind` shows in two records, which are about nothing that is asked."""
    return User(
        id=name,
        profile=tuple(record(f"{name}r{i}", text) for i, text in enumerate((f"{kind} {kind}", f"{kind} one", *texts))),
    )


def kind_of(name):
    return ("left", "right")[int(name[1:]) % 2]


PLAIN = "sea sea sea"  # nearest to what is asked, and of no help to anybody
OF_TRAINING = (PLAIN, "sea sea alpha", "sea sea beta")


def make_people(train, new):
    """Everybody is asked about the sea; only training users have records that help, one for either kind of user."""
    known = {f"t{i}": person(f"t{i}", kind_of(f"t{i}"), *OF_TRAINING) for i in range(train)}
    known |= {f"n{i}": person(f"n{i}", kind_of(f"n{i}"), PLAIN, PLAIN, PLAIN) for i in range(new)}
    asked = {
        name: Query(id=f"q{name}", user_id=name, inputs={"text": f"sea asked by {name} now"}, gold=f"gold {name}")
        for name in known
    }
    people = hydra.People(
        train=[name for name in known if name[0] == "t"],
        validation=(),
        new=[name for name in known if name[0] == "n"],
        label_queries=[asked[name] for name in known if name[0] == "t"],
        validation_queries=(),
        new_queries=[asked[name] for name in known if name[0] == "n"],
    )
    return known, people


def helped(request):
    """The gold, where the record shown is of the kind that helps who asks."""
    *shown, question = (message.text for message in request.messages)
    asker = question.partition("asked by ")[2].split()[0]
    return f"gold {asker}" if any(HELPS[kind_of(asker)] in text for text in shown) else "nothing of it"


@dataclasses.dataclass
class World:
    task: tasks.Task
    users: dict


@pytest.fixture
def make_lab(bench, answering):
    def make(train=8, new=4, path=None, **settings):
        users, people = make_people(train, new)
        lab = bench(
            World(task=tasks.LAMP["LaMP_4"], users=users),
            dataclasses.replace(SETTINGS, prompts=dataclasses.replace(PROMPTS, **settings)),
            transport=answering(helped),
            path=path,
        )
        ctx = dataclasses.replace(lab.ctx, embed=embed, population={name: users[name] for name in people.train})
        return dataclasses.replace(lab, ctx=ctx), people

    return make


def shown(lab, queries, k=1):
    return {
        prompt.query.user_id: [record.fields["text"] for record in prompt.records]
        for prompt in sampling.prompts(lab, learn.STRATEGY, queries, k)
    }


def learner(**numbers):
    fit = training.FitConfig(pooled_epochs=40, pooled_learning_rate=3e-2, dropout=0.0, **numbers)
    return selection.ValidatedLearner(
        encode, [fit], families={learn.RERANKER: "shared:width=16"}, losses={learn.RERANKER: learn.LOSS}
    )


@pytest.fixture
def untaught(monkeypatch):
    """Users and retrievers are not learned; what retrievers would be learned from is kept."""
    monkeypatch.setattr(learn, "_user_encoder", lambda profiles: None)
    given = []

    def fit(lab, tried, width):
        given.append(tried)
        made = retriever.untaught(width)
        return dataclasses.replace(made, user=made.user + len(given))  # each is another one

    fit.given = given
    return fit


def test_each_record_that_training_users_may_be_shown_is_shown_alone(make_lab, untaught, learns):
    lab, people = make_lab(train=6, new=2)
    learn.teach(lab, people, ["rag", "cfrag"], learns(), untaught)
    asked = lab.ctx.llm.requests(llm_stages.COLLABORATIVE_TRIALS)
    by_user = collections.Counter(request.group for request in asked)
    assert by_user == {user_id: 2 * (1 + PROMPTS.peers) * PROMPTS.peer_records for user_id in people.train}
    first = asked[: len(asked) // 2]
    texts = [[m.text for m in request.messages] for request in first]
    of_training = [r.fields["text"] for user_id in people.train for r in lab.users[user_id].profile]
    assert all(sum(text in "".join(one) for text in of_training) == 1 for one in texts)
    assert not any("n0" in text or "n1" in text for one in texts for text in one)


def test_the_second_round_is_free_where_the_retriever_finds_the_same(make_lab, untaught, learns):
    lab, people = make_lab(train=6, peer_weight=0.0)  # the question alone decides, which these retrievers leave alone
    learn.teach(lab, people, ["cfrag"], learns(), untaught)
    assert lab.ctx.llm.usage.calls == 6 * 4 * 3


def test_the_reranker_learns_what_each_record_was_worth(make_lab, untaught, learns):
    lab, people = make_lab(train=6)
    learner = learns()
    learn.teach(lab, people, ["cfrag"], learner, untaught)
    given = learner.given[learn.RERANKER]
    assert given["personal"] == given["judged"] == []
    assert {row.pool for row in given["train"]} == {query.id for query in people.label_queries}
    for row in given["train"]:
        helps = HELPS[kind_of(row.user_id)] in row.second
        assert row.quality == (1.0 if helps else 0.0) and row.label == helps
        (same,) = {other.extras[1:] for other in given["train"] if other.query_id == row.query_id}
        np.testing.assert_allclose(np.linalg.norm(same), np.sqrt(len(WORDS)))  # the user, in units of a feature
    (scores,) = {
        tuple(row.extras[0] for row in given["train"] if row.query_id == query.id) for query in people.label_queries[:1]
    }
    np.testing.assert_allclose([np.mean(scores), np.std(scores)], [0, 1], atol=1e-6)
    assert list(scores) == sorted(scores, reverse=True)


def test_nobody_is_ranked_by_what_the_own_answers_taught(make_lab, untaught, learns):
    lab, people = make_lab(train=6, new=2)
    learner = learns()
    taught = learn.teach(lab, people, ["cfrag"], learner, untaught).ctx.taught["cfrag"]
    everybody, *halves = ([one.query.user_id for one, _ in tried] for tried in untaught.given)
    assert set(everybody) == set(people.train) == {*halves[0], *halves[1]} and not {*halves[0]} & {*halves[1]}
    for user_id in people.train:
        (number,) = (n for n, half in enumerate(halves, 1) if user_id not in half)
        assert taught(user_id).retriever.user[0, 1] == 1 + number
        assert taught(user_id).reranker.name == "cfrag reranker, cross-fitted"
    for user_id in (*people.new, "somebody"):
        assert taught(user_id).retriever.user[0, 1] == 1 and taught(user_id).reranker.name == learn.RERANKER
    assert learner.cross_fitted[learn.RERANKER]["train"] == learner.given[learn.RERANKER]["train"]


def test_the_records_of_highest_score_are_shown_of_all_that_were_found(make_lab, untaught, learns):
    lab, people = make_lab(train=6, new=2)
    taught = learn.teach(lab, people, ["cfrag"], learns(), untaught)
    parts = taught.ctx.taught["cfrag"]
    for found in learn.candidates(taught, people.new_queries, parts):
        (scores,) = parts(found.query.user_id).rerank([found])
        best = [found.records[i].fields["text"] for i in np.argsort(-scores)[:2]]
        assert shown(taught, [found.query], 2)[found.query.user_id] == best


def test_where_nothing_is_taught_the_retriever_orders(make_lab, untaught, answering):
    lab, people = make_lab(train=4, new=2)
    nothing = dataclasses.replace(people, label_queries=())
    taught = learn.teach(lab, nothing, ["cfrag"], learner(), lambda lab, tried, width: retriever.untaught(width))
    assert lab.ctx.llm.seen == [] or not lab.ctx.llm.requests()
    assert shown(taught, people.new_queries, 2) == shown(lab, people.new_queries, 2)


def test_new_users_teach_nothing(make_lab, untaught, learns):
    given = []
    for new in (1, 5):
        lab, people = make_lab(train=5, new=new)
        learner = learns()
        untaught.given.clear()
        learn.teach(lab, people, ["cfrag"], learner, untaught)
        asked = [request.messages for request in lab.ctx.llm.requests()]
        given.append((asked, learner.given[learn.RERANKER]["train"]))
    assert given[0] == given[1]


def test_who_has_no_records_or_none_that_may_be_shown_is_no_hindrance(make_lab, untaught, learns):
    lab, people = make_lab(train=5, new=2)
    users = dict(lab.users)
    users["t0"] = dataclasses.replace(users["t0"], profile=())
    everybody_asks = record("x", PLAIN)
    users |= {name: dataclasses.replace(users[name], profile=(everybody_asks,)) for name in ("t1", "t2", "t3", "t4")}
    asked = [dataclasses.replace(query, inputs={"text": f"{PLAIN} x"}) for query in people.label_queries]
    others = dataclasses.replace(people, label_queries=asked)
    population = {name: users[name] for name in people.train}
    lab = dataclasses.replace(lab, users=users, ctx=dataclasses.replace(lab.ctx, population=population))
    taught = learn.teach(lab, others, ["cfrag"], learns(), untaught)
    assert lab.ctx.llm.requests() == []
    assert shown(taught, asked[1:]) == {name: [] for name in people.train[1:]}
    assert all(len(texts) == 1 for texts in shown(taught, people.new_queries).values())


def test_nobody_is_encoded_twice(monkeypatch):
    given = []

    def encode(params, features):
        given.append(len(features))
        return np.array([of_user.sum(axis=0) for of_user in features])

    monkeypatch.setattr(learn.users, "encode", encode)
    encoder = learn._Remembering({})
    profiles = [np.full((2, 3), float(i)) for i in range(4)]
    first = encoder(profiles[:3])
    np.testing.assert_array_equal(encoder([profiles[3], *profiles[:3], profiles[3]])[1:4], first)
    assert given == [3, 1]


@pytest.mark.parametrize("why", ["not asked for", "frozen", "nobody to look at"])
def test_nothing_is_learned(make_lab, learns, why):
    lab, people = make_lab(peer_ranking="frozen" if why == "frozen" else "learned")
    if why == "nobody to look at":
        lab = dataclasses.replace(lab, ctx=dataclasses.replace(lab.ctx, population=None))
    assert learn.teach(lab, people, ["rag"] if why == "not asked for" else ["cfrag"], learns()) is lab
    assert lab.ctx.llm.requests() == []


@pytest.mark.slow
def test_what_helps_is_learned_from_answers_where_likeness_misleads(make_lab, tmp_path):
    path = tmp_path / "answers.sqlite"
    lab, people = make_lab(train=16, new=4, path=path)
    assert all(PLAIN in text for (text,) in shown(lab, people.new_queries).values())  # the frozen base
    taught = learn.teach(lab, people, ["cfrag"], learner())
    found = shown(taught, people.new_queries)
    assert {name: HELPS[kind_of(name)] in text for name, (text,) in found.items()} == dict.fromkeys(people.new, True)
    answers = sampling.answer(taught, "cfrag", sampling.prompts(taught, "cfrag", people.new_queries, 1), stage="asked")
    assert [answer.text for answer in answers] == [f"gold {name}" for name in people.new]
    # Once all answers are there, a plan learns what was learned.
    counting = planner.Planner(lab.ctx.llm.model, store.Store(path))
    planned = dataclasses.replace(lab, ctx=dataclasses.replace(lab.ctx, llm=counting))
    again, _ = plan.teach(planned, people, ["cfrag"], learner)
    assert shown(again, people.new_queries) == found and counting.calls == 0
