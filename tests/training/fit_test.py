"""Whole fits: what pretraining gives, and heads of new users from their own examples alone."""

import dataclasses

import jax
import numpy as np
import pytest

from hydrajax.training import fit, joint, programs, solver
from hydrajax.training import state as states
from hydrajax.training.examples import Examples
from tests.training import fits
from tests.training.conftest import D, X, assert_close, assert_equal, head, only
from tests.training.fits import LINEAR, MLP, NEW, TRAIN, U


@pytest.fixture
def mlp():
    return fits.pretrained(MLP)


@pytest.fixture
def linear():
    return fits.pretrained(LINEAR)


def test_a_user_without_examples_gets_the_pooled_head_exactly(mlp, linear):
    assert_equal(head(fit.personalise(MLP, mlp, NEW, U), 1), mlp.generic)
    assert_equal(head(fit.personalise(LINEAR, linear, NEW, U), 1), linear.generic)
    fresh = dataclasses.replace(MLP, init="fresh")
    assert_equal(head(fit.personalise(fresh, mlp, NEW, U), 1), mlp.generic)


@pytest.mark.parametrize("init, decays", [("pooled", False), ("fresh", True)])
def test_a_users_head_depends_on_that_users_examples_alone(mlp, init, decays):
    config = dataclasses.replace(MLP, init=init, dropout=0.4, batch_examples=8, decays=decays)
    fitted = dataclasses.replace(mlp, config=config)
    among = fit.personalise(config, fitted, NEW, U)
    alone = fit.personalise(config, fitted, only(NEW, NEW.user == 2), U)
    assert_equal(head(alone, 2), head(among, 2))
    assert not np.array_equal(alone["w1"][0], among["w1"][0])


def test_fresh_heads_start_at_an_initialisation_of_their_own(mlp):
    config = dataclasses.replace(MLP, init="fresh", learning_rate=1e-9, epochs=1, seed=5)
    users = fit.personalise(config, mlp, NEW, U)
    for row in (0, 2, 3):
        own = mlp.family.init_user(states.user_key(jax.random.key(5), row), mlp.dims)
        assert_close(head(users, row), own, atol=1e-7)
    assert not np.allclose(users["w1"][0], users["w1"][2], atol=1e-2)


def test_users_of_a_convex_family_are_independent(linear):
    among = fit.personalise(LINEAR, linear, NEW, U)
    alone = fit.personalise(LINEAR, linear, only(NEW, NEW.user == 2), U)
    assert_equal(head(alone, 2), head(among, 2))


@pytest.mark.parametrize("config", [MLP, LINEAR], ids=["mlp", "linear"])
def test_permuting_users_permutes_heads(mlp, linear, config):
    fitted = mlp if config is MLP else linear
    order = [2, 3, 0, 1]  # user u becomes order[u]
    permuted = fit.personalise(config, fitted, only(NEW, np.arange(len(NEW.user)), order), U)
    straight = fit.personalise(config, fitted, NEW, U)
    for u, new in enumerate(order):
        assert_close(head(permuted, new), head(straight, u), atol=1e-5)


def test_snapshots_are_the_fits_of_so_many_epochs(mlp):
    found = fit.personalise_snapshots(MLP, mlp, NEW, U, epochs=(4, 0, 2, 1))
    assert sorted(found.heads) == [0, 1, 2, 4]
    for n in (1, 2, 4):
        single = fit.personalise(dataclasses.replace(MLP, epochs=n), mlp, NEW, U)
        assert_equal(found.heads[n], single)
    for row in range(U):
        assert_equal(head(found.heads[0], row), mlp.generic)
    assert len(found.curve) == 4
    assert found.curve[-1] < found.curve[0]


def test_a_clip_far_below_adams_epsilon_stops_heads(mlp):
    """Adam's steps are of any gradient's sign but where the gradient is small beside its epsilon of 1e-8."""
    still = dataclasses.replace(mlp, config=dataclasses.replace(MLP, clip=1e-12))
    moved = [
        max(
            np.abs(head(fit.personalise(fitted.config, fitted, NEW, U), 0)[name] - mlp.generic[name]).max()
            for name in mlp.generic
        )
        for fitted in (mlp, still)
    ]
    assert moved[0] > MLP.learning_rate > 1e3 * moved[1] > 0


def test_snapshots_of_a_convex_family(linear):
    found = fit.personalise_snapshots(LINEAR, linear, NEW, U, epochs=(0, 3, 7))
    assert_equal(found.heads[3], found.heads[7])
    assert_equal(head(found.heads[0], 0), linear.generic)
    assert not np.allclose(found.heads[3]["w"][0], linear.generic["w"])
    assert found.curve[1] < found.curve[0]


@pytest.mark.slow
def test_one_user_after_another_equals_the_step_over_all(mlp):
    """With one mini-batch a user and epoch, the order of mini-batches is the same in both; the step over all has the
    rate of what is shared, which falls to 0."""
    config = dataclasses.replace(
        MLP, prior_strength=2.0, weight_decay=0.1, decays=True, pooled_learning_rate=MLP.learning_rate
    )
    begun = dataclasses.replace(mlp, config=config)
    state, curve = joint.train(begun, NEW, U, epochs=MLP.epochs, head=mlp.generic)
    found = fit.personalise_snapshots(config, mlp, NEW, U, epochs=(MLP.epochs,))
    assert_close(found.heads[MLP.epochs], state.bank, atol=1e-5)
    np.testing.assert_allclose(found.curve, curve, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["cross_entropy", "pairwise", "regression"])
def test_own_heads_serve_users_of_different_tastes_better(loss):
    for config in (MLP, LINEAR) if loss == "pairwise" else (LINEAR,):
        config = dataclasses.replace(config, loss=loss, prior_strength=0.1)
        if config.family == "mlp":
            config = dataclasses.replace(config, epochs=40, init="fresh")
        fitted = fit.pretrain(config, TRAIN, 5)
        users = fit.personalise(config, fitted, NEW, U)
        own = fit.predict(fitted, users, NEW.user, NEW.x, NEW.extras)
        pooled = fit.predict(fitted, None, NEW.user, NEW.x, NEW.extras)
        # The order inside pools is the one thing that all three losses promise.
        assert _order(own) > _order(pooled) + 0.1
        assert _order(own) > 0.8


def _order(scores):
    right = []
    for pool in set(NEW.pool):
        rows = np.flatnonzero(NEW.pool == pool)
        i, j = np.triu_indices(len(rows), 1)
        a, b = scores[rows], NEW.score[rows]
        right.extend((a[i] - a[j]) * (b[i] - b[j]) > 0)
    return np.mean(right)


def test_a_strong_prior_holds_heads_at_the_pooled_one(linear):
    held = fit.personalise(dataclasses.replace(LINEAR, prior_strength=1e5, offset_strength=1e5), linear, NEW, U)
    np.testing.assert_allclose(held["w"], np.tile(linear.generic["w"], (U, 1)), atol=1e-2)


@pytest.mark.slow
def test_several_users_at_once_equal_one_after_another(mlp):
    problem = solver.Problem(
        family=mlp.family,
        loss="cross_entropy",
        examples=NEW,
        num_users=U,
        keys=solver.checked_keys(None, U),
        normaliser=mlp.normaliser,
        shared=mlp.shared,
        anchor=mlp.generic,
        epochs=(2,),
        batch_examples=4,
    )
    setting = solver.Setting(learning_rate=0.02, weight_decay=0.01, prior_strength=1.0)
    both = [solver.solve(problem, [setting], parallel=parallel)[0][2] for parallel in (None, 3)]
    assert_close(*both, atol=1e-5)


def test_other_rates_and_seeds_compile_nothing_new(mlp):
    fit.personalise(MLP, mlp, NEW, U)
    program = programs.gradient(mlp.family, mlp.dims, "cross_entropy", False, "float32", 1.0, None, None, None)
    before = program._cache_size()
    assert before > 0
    other = dataclasses.replace(MLP, learning_rate=0.3, weight_decay=0.2, prior_strength=5.0, seed=4)
    changed = fit.personalise(other, mlp, only(NEW, NEW.user != 3), 3)
    assert program._cache_size() == before
    assert not np.allclose(changed["w1"][0], mlp.generic["w1"])


def test_moments_of_half_the_memory_give_nearly_the_same_heads(mlp):
    small = fit.personalise(dataclasses.replace(MLP, moments="bfloat16"), mlp, NEW, U)
    whole = fit.personalise(MLP, mlp, NEW, U)
    assert not np.array_equal(small["w1"], whole["w1"])
    assert_close(small, whole, atol=0.01)
    assert np.abs(whole["w1"][0] - mlp.generic["w1"]).max() > 0.05
    assert_equal(head(small, 1), mlp.generic)
    program = programs.gradient(mlp.family, mlp.dims, "cross_entropy", False, "bfloat16", 1.0, None, None, None)
    assert program._cache_size() == 1


def test_scores_are_the_familys_on_normalised_inputs(linear):
    users = fit.personalise(LINEAR, linear, NEW, U)
    rows = np.random.default_rng(0).integers(0, U, 100).astype(np.int32)
    take = np.random.default_rng(1).integers(0, len(NEW.user), 100)
    got = fit.predict(linear, users, rows, NEW.x[take], NEW.extras[take])
    z = np.concatenate([NEW.x, NEW.extras], axis=1)[take]
    z = (z - linear.normaliser.mean) / linear.normaliser.scale
    np.testing.assert_allclose(got, (z * users["w"][rows]).sum(axis=1) + users["b"][rows], atol=1e-4)


def test_the_normaliser_is_the_training_users(linear):
    joined = np.concatenate([TRAIN.x, TRAIN.extras], axis=1)
    np.testing.assert_allclose(linear.normaliser.mean, joined.mean(axis=0), atol=1e-5)
    size = np.sqrt(np.mean(TRAIN.x.std(axis=0) ** 2))
    np.testing.assert_allclose(linear.normaliser.scale, np.where(np.arange(D + X) < D, size, 1.0), rtol=1e-4)


def test_inputs_are_left_alone_where_they_are_not_to_be_standardised():
    fitted = fit.pretrain(dataclasses.replace(LINEAR, standardise=False), TRAIN, 5)
    np.testing.assert_array_equal(fitted.normaliser.mean, 0.0)
    np.testing.assert_array_equal(fitted.normaliser.scale, 1.0)


def test_scores_repeat_and_dropout_is_off(mlp):
    fitted = dataclasses.replace(mlp, config=dataclasses.replace(MLP, dropout=0.5))
    rows = np.zeros(len(NEW.user), np.int32)
    a, b = (fit.predict(fitted, None, rows, NEW.x, NEW.extras) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(a, fit.predict(mlp, None, rows, NEW.x, NEW.extras), atol=1e-6)
    assert fit.predict(mlp, None, rows[:0], NEW.x[:0], NEW.extras[:0]).shape == (0,)


@pytest.mark.slow
def test_one_perceptron_for_all_learns_and_has_nothing_to_personalise():
    config = dataclasses.replace(MLP, family="shared", pooled_epochs=20, pooled_learning_rate=0.05)
    fitted = fit.pretrain(config, TRAIN, 5)
    assert fitted.curves["base"][-1] < fitted.curves["base"][0]
    assert fitted.bank == fitted.generic == {}
    users = fit.personalise(config, fitted, NEW, U)
    assert users == {}
    scores = fit.predict(fitted, users, NEW.user, NEW.x, NEW.extras)
    np.testing.assert_array_equal(scores, fit.predict(fitted, None, NEW.user, NEW.x, NEW.extras))


def test_the_bank_holds_the_training_users_heads(mlp):
    fitted = fit.pretrain(dataclasses.replace(MLP, fit_bank=True), TRAIN, 5)
    assert mlp.bank == {}
    assert_equal(fitted.generic, mlp.generic)
    assert_equal(fitted.bank, fit.personalise(MLP, mlp, TRAIN, 5))
    assert fitted.curves["personal"][-1] < fitted.curves["personal"][0]


def test_progress_reaches_the_number_of_users(mlp):
    seen = []
    fit.personalise(dataclasses.replace(MLP, users_per_batch=3), mlp, NEW, U, progress=lambda *args: seen.append(args))
    assert seen == [(3, 4), (4, 4)]


def test_groups_of_users_do_not_change_heads(mlp):
    small = fit.personalise(dataclasses.replace(MLP, users_per_batch=3), mlp, NEW, U)
    assert_equal(small, fit.personalise(MLP, mlp, NEW, U))


@pytest.mark.slow
def test_without_a_difference_there_is_nothing_to_learn(mlp):
    flat = Examples(**{**vars(NEW), "score": np.zeros(len(NEW.score))})
    config = dataclasses.replace(MLP, loss="pairwise", init="fresh")
    users = fit.personalise(config, mlp, flat, U)
    for row in range(U):
        assert_equal(head(users, row), mlp.generic)
    undecided = fit.pretrain(config, flat, U)
    np.testing.assert_array_equal(fit.predict(undecided, None, NEW.user, NEW.x, NEW.extras), 0.0)


def test_nobody_and_nothing(mlp, linear):
    none = only(NEW, NEW.user < 0)
    for config, fitted in ((MLP, mlp), (LINEAR, linear)):
        users = fit.personalise(config, fitted, none, 2)
        assert_equal(head(users, 1), fitted.generic)
        assert all(len(leaf) == 0 for leaf in jax.tree.leaves(fit.personalise(config, fitted, none, 0)))
