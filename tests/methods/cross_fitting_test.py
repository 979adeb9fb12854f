"""What is picked for the queries that a scorer learned from: by chance where their labels are chance."""

import dataclasses

import numpy as np
import pytest

from hydrajax import training
from hydrajax.data import draws
from hydrajax.methods import cross_fitting, hydra, sampling, scorers, selection
from hydrajax.methods.rows import Row

RECORDS, RATE, WIDTH = 5, 0.2, 64
TRAIN, NEW = ([f"{kind}{i}" for i in range(8)] for kind in "tn")
CONFIG = training.FitConfig(
    family="linear",
    epochs=1,
    learning_rate=0.01,
    pooled_epochs=2,
    pooled_learning_rate=0.01,
    pooled_ridge=0.3,
    prior_strength=0.3,
    offset_strength=0.3,
    fit_bank=False,
    dropout=0.0,
)


@pytest.fixture(scope="module")
def encode():
    """Features drawn for each pair, enough of them to know rows by heart."""

    def features(pairs):
        drawn = [np.random.default_rng(draws.number(*pair)).normal(size=WIDTH) for pair in pairs]
        return np.array(drawn, np.float32).reshape(len(pairs), WIDTH)

    return features


def trials(users, queries, luck):
    """Each query with its records; `luck(user, query, record)` says which of them helped."""
    return [
        Row(user_id=user, query_id=f"{user}/{q}", pool=f"{user}/{q}", first=f"query {q} of {user}",
            second=f"record {r} of {user}", label=(helped := float(luck(user, q, r))), quality=helped)
        for user in users
        for q in range(queries)
        for r in range(RECORDS)
    ]  # fmt: skip


def fitted(train, personal, encode):
    pooled = scorers.pretrain(CONFIG, encode, *scorers.examples_of(train, encode))
    scorer = scorers.personalise(pooled, CONFIG, personal, epochs=1)
    return scorer, cross_fitting.cross_fit(scorer, train=train, personal=personal, epochs=1)


@pytest.mark.slow
def test_what_is_picked_helps_by_chance_where_labels_are_chance(encode):
    picked, helped = {"own": [], "crossed": []}, []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        train, personal = (trials(users, 4, lambda *_, rng=rng: rng.random() < RATE) for users in (TRAIN, NEW))
        scorer, crossed = fitted(train, personal, encode)
        for name, of in (("own", scorer), ("crossed", crossed)):
            picked[name].append([selection.chosen_qualities(of, rows) for rows in (train, personal)])
        helped.append([np.mean([row.label for row in rows]) for rows in (train, personal)])
    chance = np.mean(helped, axis=0)
    error = 3 * (chance * (1 - chance) / (6 * 8 * 4)) ** 0.5
    own, crossed = (np.mean(picked[name], axis=(0, 2)) for name in ("own", "crossed"))
    assert (abs(crossed - chance) < error).all(), (crossed, chance, error)
    assert (own > chance + 2 * error).all(), (own, chance, error)


@pytest.mark.slow
def test_what_can_be_learned_is_still_picked(encode):
    """Training users like the records whose first feature is high, every new user has one of three that matters."""

    def three(pairs):
        return encode(pairs)[:, :3]

    features = {user: 0 for user in TRAIN} | {user: i % 3 for i, user in enumerate(NEW)}

    def likes(user, q, r):
        return three([(f"query {q} of {user}", f"record {r} of {user}")])[0, features[user]] > 0.8

    train, personal = (trials(users, 4, likes) for users in (TRAIN, NEW))
    _, crossed = fitted(train, personal, three)
    for rows in (train, personal):
        chance = np.mean([row.label for row in rows])
        assert np.mean(selection.chosen_qualities(crossed, rows)) > 2 * chance


def relabelled(rows, changes):
    return [
        dataclasses.replace(row, label=1 - row.label, quality=1 - row.label) if changes(row) else row for row in rows
    ]


@pytest.fixture
def learned():
    rng = np.random.default_rng(1)
    return tuple(trials(users, 4, lambda *_: rng.random() < 0.4) for users in (TRAIN, NEW))


@pytest.mark.slow
def test_the_labels_of_a_query_have_no_say_in_its_scores(encode, learned):
    train, personal = learned
    _, crossed = fitted(train, personal, encode)
    for rows, query in ((train, "t2/1"), (personal, "n1/2")):
        spoilt = relabelled(rows, lambda row, query=query: row.query_id == query)
        parts = (spoilt, personal) if rows is train else (train, spoilt)
        scorer, other = fitted(*parts, encode)
        own = [row for row in rows if row.query_id == query]
        np.testing.assert_array_equal(crossed.scores(own), other.scores(own))
        # What the label does change: the scorer of real queries, and the other half of the user's queries.
        assert (scorer.scores(own) != fitted(train, personal, encode)[0].scores(own)).any()
        apart = [row for row in rows if row.user_id == query[:2]]
        assert (crossed.scores(apart) != other.scores(apart)).any()


@pytest.mark.slow
def test_a_training_user_is_scored_by_a_pretraining_without_the_user(encode, learned):
    train, personal = learned
    _, crossed = fitted(train, personal, encode)
    user = [row for row in train if row.user_id == "t3"]
    spoilt = relabelled(train, lambda row: row.user_id == "t3")
    _, other = fitted(spoilt, personal, encode)
    np.testing.assert_array_equal(crossed.scores(user, pooled=True), other.scores(user, pooled=True))
    # Half of the others were taught by the user.
    moved = {row.user_id for row, a, b in zip(train, crossed.scores(train), other.scores(train), strict=True) if a != b}
    assert len(moved - {"t3"}) == 4


@pytest.mark.slow
def test_a_query_that_taught_nothing_is_scored_by_all_that_its_user_taught(encode, learned):
    train, personal = learned
    scorer, crossed = fitted(train, personal, encode)
    new, untried = ([dataclasses.replace(rows[0], query_id="untried")] for rows in (personal, train))
    np.testing.assert_array_equal(crossed.scores(new), scorer.scores(new))
    assert crossed.scores(untried) != crossed.scores(untried, pooled=True)
    stranger = [dataclasses.replace(new[0], user_id="a stranger")]
    np.testing.assert_array_equal(crossed.scores(stranger), scorer.scores(stranger))
    assert crossed.scores([]).shape == (0,)


def test_who_has_one_query_is_scored_by_the_pooled_head(encode, learned):
    train, personal = learned
    only = [row for row in personal if row.query_id == "n0/0"]
    scorer, crossed = fitted(train, only, encode)
    np.testing.assert_array_equal(crossed.scores(only), scorer.scores(only, pooled=True))
    assert (scorer.scores(only) != crossed.scores(only)).all()


def test_a_training_user_alone_keeps_the_retrievers_order(encode, learned):
    train, personal = learned
    alone = [row for row in train if row.user_id == "t0"]
    _, crossed = fitted(alone, personal, encode)
    assert not crossed.scores(alone).any() and crossed.scores(personal).all()


def test_halves_of_queries_are_whole_and_apart():
    rows = trials(("a", "b", "c"), 3, lambda *_: False)
    for learned, asked in cross_fitting.halves(rows):
        assert not {row.query_id for row in learned} & {row.query_id for row in asked}
        assert {row.user_id for row in [*learned, *asked]} == {"a", "b", "c"}
        assert len(learned) + len(asked) == len(rows)
    (learned, asked), (again, as_before) = cross_fitting.halves(rows)
    assert (learned, asked) == (as_before, again)
    assert cross_fitting.halves(rows[:RECORDS]) == ((rows[:RECORDS], []), ([], rows[:RECORDS]))


@pytest.mark.slow
def test_records_for_the_adapters_pseudo_queries_help_by_chance_where_helping_is_chance(
    world, bench, settings, answering, encode
):
    """The whole way of a run, from an LLM that is right one time in five, whatever it is shown."""
    place = world("LaMP_2M", train=16, validation=4, new=16, records=6)
    golds = {}

    def lucky(request):
        drawn = np.random.default_rng(draws.number(*(message.text for message in request.messages))).random()
        question = request.messages[-1].text
        return next((gold for text, gold in golds.items() if text in question), "?") if drawn < RATE else "?"

    here = bench(
        place, settings(adapter_pools="reranked", pseudo_queries=None, retrieved=5), transport=answering(lucky)
    )
    pseudo = sampling.pseudo_queries(here, place.people.everybody)
    golds |= {place.task.question(query.inputs): query.gold for query in [*pseudo, *place.people.asked]}
    golds |= {place.task.question(query.inputs): query.gold for query in place.people.label_queries}
    learner = selection.ValidatedLearner(encode, [CONFIG], epochs=(1,))
    given = {}

    class Keeps:
        def fit(self, name, **parts):
            given.update(parts)
            return learner.fit(name, **parts)

        def cross_fit(self, *args, **rest):
            return learner.cross_fit(*args, **rest)

    reranker, crossed = hydra.learn_reranker(here, Keeps(), place.people, pseudo)
    helped = {(row.query_id, row.second): row.label for part in given.values() for row in part}
    chance = np.mean(list(helped.values()))
    shares = {}
    for name, scorer in (("reranker", reranker), ("cross-fitted", crossed)):
        picked = hydra.rerank(here, scorer, hydra.retrieve(here, pseudo), 1)
        texts = [(prompt.query.id, place.task.record_text(prompt.records[0])) for prompt in picked]
        shares[name] = np.mean([helped[text] for text in texts])
    error = 3 * (chance * (1 - chance) / len(pseudo)) ** 0.5
    assert abs(shares["cross-fitted"] - chance) < error
    assert shares["reranker"] > chance + 2 * error
