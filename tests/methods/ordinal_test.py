import itertools

import numpy as np
import pytest

from hydrajax import training
from hydrajax.methods import answers, hydra, ordinal, scorers, selection
from hydrajax.methods.answers import Pool
from hydrajax.methods.rows import Row
from hydrajax.types import Candidate

LEVELS = (1.0, 2.0, 3.0, 4.0, 5.0)


def row(user_id, query_id, text, *, rating=None, pool="p"):
    return Row(
        user_id=user_id,
        query_id=query_id,
        pool=f"{pool}|{query_id}",
        first=f"asks {query_id}",
        second=text,
        levels=LEVELS,
        rating=rating,
        quality=0.0 if rating is None else 1 - abs(float(text) - rating) / 4,
    )


def test_a_query_has_one_row_for_each_level_above_the_lowest_whatever_its_pools_hold():
    given = [row("u", "q", "5", rating=3.0), row("u", "q", "1", rating=3.0, pool="other"), row("v", "q", "2")]
    made = ordinal.thresholds(given)
    assert [(r.user_id, r.second) for r in made] == [(user, level) for user in "uv" for level in "2345"]
    assert [r.label for r in made[:4]] == [r.quality for r in made[:4]] == [1.0, 1.0, 0.0, 0.0]
    assert [r.extras for r in made[:4]] == [tuple(line) for line in np.eye(4)]
    assert {(r.query_id, r.first, r.pool, r.levels) for r in made} == {("q", "asks q", "q", ())}


@pytest.mark.parametrize("answer", ["1", "2", "3.5", "5", "0", "1997"])
def test_the_expected_error_is_that_of_the_distribution_that_the_logits_say(answer):
    p = np.array([0.1, 0.15, 0.3, 0.25, 0.2])
    reaches = 1 - np.cumsum(p)[:-1]
    found = ordinal.expected_error(answer, LEVELS, np.log(reaches / (1 - reaches)))
    assert found == pytest.approx(np.sum(p * np.abs(float(answer) - np.array(LEVELS))))


def test_what_names_no_rating_costs_the_whole_scale():
    for logits in itertools.product((-9.0, 9.0), repeat=4):
        errors = [ordinal.expected_error(text, LEVELS, np.array(logits)) for text in ("1", "3", "5")]
        assert ordinal.expected_error("no idea", LEVELS, np.array(logits)) == 4.0 >= max(errors)


def test_scores_belong_to_their_candidates_and_users():
    likes = {"u": 4.0, "v": 2.0}

    def logits(levels):
        return np.array([9.0 if float(r.second) <= likes[r.user_id] else -9.0 for r in levels])

    given = [row(user, query, text) for query in "ab" for user in "uv" for text in ("5", "2", "none", "4")]
    errors = {"u": [1, 2, 4, 0], "v": [3, 0, 4, 2]}
    expected = [-error for _ in "ab" for user in "uv" for error in errors[user]]
    np.testing.assert_allclose(ordinal.scores(given, logits), expected, atol=0.01)
    assert ordinal.scores([], logits).shape == (0,)


@pytest.mark.slow
def test_users_who_rate_lower_are_answered_lower_by_the_levels_of_their_records(world, bench, settings, encode):
    # Pools are the same for everybody, with nothing between 2 and 5, so that only levels that no candidate names tell.
    place = world("LaMP_3")
    here = bench(place, settings(votes=False))

    def rows_of(users, ratings):
        return [
            row(user, f"{user} {i}", text, rating=rating)
            for user in users
            for i, rating in enumerate(ratings)
            for text in ("2", "5")
        ]

    train = rows_of(("t0", "t1", "t2"), (2.0, 3.0)) + rows_of(("t3", "t4", "t5"), (4.0, 5.0))
    low, high = rows_of(("n0",), (2.0, 3.0, 2.0, 3.0) * 3), rows_of(("n1",), (4.0, 5.0, 5.0, 4.0) * 3)
    judged = rows_of(("v0",), (3.0, 4.0))
    config = training.FitConfig(family="linear", loss="ordinal", pooled_ridge=1.0, prior_strength=1.0)
    learner = selection.ValidatedLearner(encode, [config], epochs=(1,))
    scorer = learner.fit("adapter", train=train, personal=[*low, *high], judged=judged)
    assert learner.choices["adapter"].loss == "ordinal" and set(scorer.user_rows) == {"n0", "n1"}
    pools = [
        Pool(query=query, candidates=[Candidate(text=text, source="reranked") for text in ("5", "2", "what?")])
        for query in place.people.new_queries[:2]
    ]
    chosen = hydra.adapt(here, scorer, pools)
    assert [answer.text for answer in chosen] == ["2", "5"]
    assert all(answer.scores[2] == min(answer.scores) == -4.0 for answer in chosen)
    lent = hydra.adapt(here, scorer, pools, heads={"n0": "n1", "n1": "n0"})
    assert [answer.text for answer in lent] == ["5", "2"]
    pooled = hydra.adapt(here, scorer, pools, pooled=True)
    assert answers.best_of_each(pools, np.concatenate([p.scores for p in pooled])) == pooled


def test_other_losses_learn_of_pools_that_differ_and_ordinal_of_every_rated_query():
    same, differs, unknown = (
        [row("u", "same", "3", rating=4.0)],
        [row("u", "differs", text, rating=4.0) for text in ("3", "4")],
        [row("u", "told", text) for text in ("3", "4")],
    )
    given = [*same, *differs, *unknown]
    assert scorers.taught(given, "pairwise") == differs
    assert {r.query_id for r in scorers.taught(given, "ordinal")} == {"same", "differs"}
    records = [Row(user_id="u", query_id="q", pool="q", first="", second="a record")]
    assert scorers.taught(records, "pairwise") == records


def test_ordinal_is_cross_entropy_where_nothing_is_rated(encode):
    configs = [training.FitConfig(loss=loss) for loss in ("cross_entropy", "ordinal", "pairwise")]
    records = [Row(user_id="u", query_id="q", pool="q", first="", second="a record")]
    assert [c.loss for c in selection._suiting(configs, records)] == ["cross_entropy", "pairwise"]
    assert selection._suiting(configs[1:2], records) == configs[:1]
    assert selection._suiting(configs, [row("u", "q", "3")]) == configs
