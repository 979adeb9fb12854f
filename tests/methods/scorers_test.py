"""Real heads, as small as they get: 8 features, a handful of rows."""

import dataclasses

import numpy as np
import pytest

from hydrajax import training
from hydrajax.methods import scorers
from hydrajax.methods.rows import Row

CONFIG = training.FitConfig(
    family="mlp",
    epochs=2,
    learning_rate=0.05,
    pooled_epochs=2,
    pooled_learning_rate=0.01,
    pooled_ridge=1.0,
    prior_strength=1.0,
    offset_strength=1.0,
    fit_bank=False,
    dropout=0.0,
)


def rows_of(user_id, count=6, source="learned"):
    """Pairs of which every user likes others."""
    return [
        Row(
            user_id=user_id,
            query_id=f"{source}-{user_id}-{i // 3}",
            pool=f"{source}-{user_id}-{i // 3}",
            first=f"query {i // 3}",
            second=f"{source} {user_id} {i}",
            extras=(float(i % 2),),
            label=float((i + len(user_id)) % 3 == 0),
            quality=(i % 3) / 2,
        )
        for i in range(count)
    ]


TRAIN = [row for user_id in ("t0", "t1", "t2") for row in rows_of(user_id)]
NEW = [row for user_id in ("n0", "n1", "n2") for row in rows_of(user_id)]
ASKED = [row for user_id in ("n0", "n1", "n2", "stranger") for row in rows_of(user_id, source="asked")]


def pretrain(config, encode):
    return scorers.pretrain(config, encode, *scorers.examples_of(TRAIN, encode))


def personalise(pooled, rows, config=CONFIG):
    return scorers.personalise(pooled, config, rows, epochs=config.epochs)


@pytest.fixture(scope="module")
def pretrained(encode):
    return pretrain(CONFIG, encode)


@pytest.fixture(scope="module")
def fitted(pretrained):
    return personalise(pretrained, NEW)


def test_every_user_of_the_rows_has_a_head_of_the_own_and_nobody_else(fitted):
    scores, pooled = fitted.scores(ASKED), fitted.scores(ASKED, pooled=True)
    own = np.array([row.user_id != "stranger" for row in ASKED])
    assert (scores[own] != pooled[own]).all()
    np.testing.assert_array_equal(scores[~own], pooled[~own])


def test_the_pooled_head_is_the_one_of_pretraining(fitted, pretrained):
    np.testing.assert_array_equal(fitted.scores(ASKED, pooled=True), pretrained.scores(ASKED))


def test_a_lent_head_scores_as_it_does_for_its_owner(fitted):
    lent = fitted.scores(ASKED, heads={"n0": "n1", "n1": "n0", "n2": "stranger"})
    as_owner = {"n0": "n1", "n1": "n0", "n2": "stranger", "stranger": "stranger"}
    expected = fitted.scores([dataclasses.replace(row, user_id=as_owner[row.user_id]) for row in ASKED])
    np.testing.assert_array_equal(lent, expected)
    assert (lent[:12] != fitted.scores(ASKED)[:12]).all()


def test_a_score_does_not_depend_on_what_is_scored_with_it(fitted):
    together = fitted.scores(ASKED)
    np.testing.assert_allclose(fitted.scores(ASKED[::-1])[::-1], together, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fitted.scores(ASKED[7:9]), together[7:9], rtol=1e-5, atol=1e-6)


def test_nothing_to_score_has_no_scores(fitted):
    assert fitted.scores([]).shape == (0,)


def test_a_head_does_not_depend_on_the_other_new_users(fitted, pretrained):
    others = [dataclasses.replace(r, label=1.0 - r.label, second=r.second[::-1]) for r in rows_of("n2", 9)]
    changed = personalise(pretrained, [*rows_of("n0"), *rows_of("n1"), *others])
    fewer = personalise(pretrained, rows_of("n1"))
    for user_id, there in (("n0", changed), ("n1", changed), ("n1", fewer)):
        rows = [row for row in ASKED if row.user_id == user_id]
        np.testing.assert_allclose(there.scores(rows), fitted.scores(rows), rtol=1e-5, atol=1e-6)


def test_personalising_leaves_what_was_pretrained_as_it_was(fitted, pretrained):
    assert fitted.fitted is pretrained.fitted


def test_no_epoch_and_no_row_leave_the_pooled_head(pretrained, fitted):
    for there in (
        scorers.personalise(pretrained, CONFIG, NEW, epochs=0),
        personalise(pretrained, []),
    ):
        np.testing.assert_array_equal(there.scores(ASKED), fitted.scores(ASKED, pooled=True))


def test_rows_become_examples_in_their_order(encode):
    users, examples = scorers.examples_of([*NEW[6:12], *NEW[:6]], encode)
    assert users == ["n1", "n0"]
    assert examples.user.tolist() == [0] * 6 + [1] * 6
    assert examples.pool.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert examples.label.tolist() == [row.label for row in (*NEW[6:12], *NEW[:6])]
    np.testing.assert_array_equal(examples.score, np.float32([row.quality for row in (*NEW[6:12], *NEW[:6])]))
    assert examples.extras.tolist() == [[0.0], [1.0]] * 6
    np.testing.assert_array_equal(examples.x[:6], encode([(row.first, row.second) for row in NEW[6:12]]))


def test_untrained_says_nothing_of_anybody():
    assert scorers.Untrained().scores(ASKED).tolist() == [0.0] * len(ASKED)


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"dropout": 0.5}, {"init": "fresh"}, {"batch_examples": 2}])
def test_draws_for_a_head_do_not_depend_on_the_users_place(encode, change):
    config = dataclasses.replace(CONFIG, **change)
    pooled = pretrain(config, encode)
    forth = personalise(pooled, NEW, config)
    back = personalise(pooled, [*rows_of("n2"), *rows_of("n1"), *rows_of("n0")], config)
    assert forth.user_rows["n0"] != back.user_rows["n0"]
    np.testing.assert_allclose(forth.scores(ASKED), back.scores(ASKED), rtol=1e-5, atol=1e-6)
    rows = scorers.user_keys(["n0", "n1", "n2"])
    assert len(set(rows.tolist())) == 3


def test_heads_after_several_numbers_of_epochs_are_those_of_each(pretrained):
    each, curve = scorers.personalise_each(pretrained, CONFIG, NEW, epochs=(1, 2))
    assert list(each) == [1, 2] and len(curve) == 2
    for epochs, there in each.items():
        alone = scorers.personalise(pretrained, CONFIG, NEW, epochs=epochs)
        np.testing.assert_allclose(there.scores(ASKED), alone.scores(ASKED), rtol=1e-5, atol=1e-6)


def test_heads_that_were_fitted_apart_are_those_fitted_together(pretrained, fitted):
    first, rest = (
        personalise(pretrained, [row for row in NEW if (row.user_id == "n0") == own]) for own in (True, False)
    )
    joined = scorers.with_heads(first, rest)
    assert joined.user_rows == {"n0": 0, "n1": 1, "n2": 2}
    np.testing.assert_array_equal(joined.scores(ASKED), fitted.scores(ASKED))
    assert scorers.with_heads(pretrained, first) is first and scorers.with_heads(first, pretrained) is first


def test_a_base_is_trained_by_an_encoder_that_can(encode):
    config = dataclasses.replace(CONFIG, train_base=True)
    with pytest.raises(ValueError, match="expected an encoder whose base can be trained"):
        scorers.pretrain(config, encode, *scorers.examples_of(TRAIN, encode), rows=TRAIN)
