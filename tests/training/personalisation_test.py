import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hydrajax import training
from hydrajax.nn import heads
from hydrajax.training import fit_heads, losses, newton, personalisation, user_fit
from hydrajax.types import DataError
from tests.training.conftest import D, assert_close, assert_equal, edited, make_examples

pytestmark = pytest.mark.slow

SIZES = (9, 0, 16, 5, 40)
U = len(SIZES)
NEW = make_examples(SIZES)
MLP = {"family": "mlp:width=3,dropout=0.4", "epochs": 2, "batch_examples": 4, "learning_rate": 0.02}
LINEAR = {"w": np.zeros(D, np.float32), "b": np.float32(0)}
SIMPLEX = {"v": np.ones((D, 16), np.float32), "c": np.zeros(16, np.float32)}
FAMILIES = [MLP, {"family": "linear"}]


def fitted(examples=NEW, num_users=U, **options):
    arrays = {name: getattr(examples, name) for name in ("x", "user", "label", "extras", "score", "pool")}
    return fit_heads(**{**MLP, **options, **arrays}, num_users=num_users)


def part(examples, index):
    return dataclasses.replace(examples, **{name: array[index] for name, array in vars(examples).items()})


def head(users, row):
    return jax.tree.map(lambda leaf: leaf[row], users)


@pytest.mark.parametrize("options", FAMILIES, ids=["mlp", "linear"])
def test_users_are_independent_and_their_order_does_not_matter(options):
    among = fitted(**options)
    alone = head(fitted(part(NEW, NEW.user == 2), **options), 2)
    # Newton's method stops at a tolerance, and a table of another length is another program.
    assert_close(alone, head(among, 2), atol=2e-4 if options["family"] == "linear" else 0.0)
    order = np.array([3, 0, 4, 1, 2])  # user u becomes order[u], and keeps its key
    keys = np.zeros(U, np.uint32)
    keys[order] = np.arange(U)
    moved = dataclasses.replace(NEW, user=order[NEW.user])
    permuted = fitted(moved, **options, user_keys=keys)
    for u in range(U):
        assert_equal(head(permuted, order[u]), head(among, u))


def test_the_order_of_users_examples_in_the_table_does_not_matter():
    shuffled = part(NEW, np.argsort(NEW.user % 2, kind="stable"))
    assert_equal(fitted(shuffled), fitted())


def test_nothing_is_kept_between_two_fits():
    first = fitted(seed=1)
    fitted(seed=2, learning_rate=0.5)
    assert_equal(fitted(seed=1), first)
    assert not np.array_equal(fitted(seed=2)["w1"], first["w1"])


@pytest.mark.parametrize("family", ["mlp:width=3", "linear"])
def test_users_without_examples_get_the_start_or_zeros(family):
    made = heads.get(family).init_user(jax.random.key(3), heads.Dims(features=D, extras=2))
    start = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.5, made)
    assert_equal(head(fitted(family=family, start=start), 1), start)
    assert_equal(head(fitted(family=family), 1), jax.tree.map(np.zeros_like, start))
    nobody = fitted(part(NEW, NEW.user < 0), family=family, start=start)
    for u in range(U):
        assert_equal(head(nobody, u), start)


def test_one_program_whatever_the_numbers():
    dims = heads.Dims(features=D, extras=2)
    program = user_fit.gradient(heads.get(MLP["family"]), dims, "cross_entropy", True, None)
    fitted()
    before = program._cache_size()
    fitted(seed=5, learning_rate=0.3, weight_decay=0.2, prior_strength=0.0)
    assert program._cache_size() == before


def test_users_without_a_normaliser_are_fitted_on_the_features_as_they_are():
    """The gradient of the sum of losses and half the prior vanishes at a convex family's heads."""
    users = fitted(family="linear", prior_strength=2.0)
    joined = np.concatenate([NEW.x, NEW.extras], axis=1)
    for u in (0, 2, 4):
        own = NEW.user == u
        away = 1 / (1 + np.exp(-(joined[own] @ users["w"][u] + users["b"][u]))) - NEW.label[own]
        np.testing.assert_allclose(away @ joined[own] + 2.0 * users["w"][u], 0.0, atol=1e-2)


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_newton_over_few_examples_is_newton(loss):
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(12, 30)), jnp.float32)
    score = jnp.asarray(rng.normal(size=12), jnp.float32)
    targets = losses.Targets(
        label=(score > 0).astype(jnp.float32),
        score=score,
        pool=jnp.arange(12, dtype=jnp.int32) // 4,
        mask=jnp.arange(12) < 10,
    )
    anchor = {"w": jnp.full(30, 0.1), "b": jnp.float32(0.2)}
    design = {"w": x, "b": jnp.ones(12)}
    strengths = jnp.array([0.3, 3.0])
    run = losses.get(loss)

    @jax.jit
    def many(strength):
        return newton.minimise(run, lambda index: (design, targets), 0, 1, anchor, strength)

    found = jax.jit(jax.vmap(newton.few(run, design, targets, anchor)))(strengths)
    for i, strength in enumerate(strengths):
        assert_close(head(found, i), many(strength), atol=2e-3)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"x": edited(NEW.x, (3, 1), np.nan)}, "x of row 3 is not a finite number"),
        ({"label": edited(NEW.label, 2, 1.5)}, "label of row 2 is 1.5"),
        ({"user": edited(NEW.user, 4, U)}, f"user of row 4 is {U}, expected less than {U} users"),
        ({"user": edited(NEW.user, 4, -1)}, "user of row 4 is -1"),
        ({"family": "shared"}, "SharedMlp stores nothing of a user.*fit.pretrain learns it"),
        ({"family": "none"}, "unknown head family 'none'"),
        ({"family": "simplex"}, r"shared of Simplex has nothing, expected \['c'\] \[16\]"),
        ({"family": "linear", "prior_strength": 0.0}, "prior_strength is 0.0, expected more than 0"),
        ({"start": {"w": np.zeros(3, np.float32)}, "family": "linear"}, r"start of Linear .*expected \['b'\]"),
        ({"loss": "hinge"}, "loss is 'hinge'"),
        ({"epochs": 0}, "epochs is 0, expected 1 or more"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"user_keys": np.zeros(2, np.uint32)}, r"user_keys has shape \[2\], expected \[5\]"),
        ({"user_keys": np.zeros(U) + 0.5}, "user_keys: float64, expected whole numbers"),
        ({"user_keys": np.arange(U) - 1}, "user_keys: -1, expected whole numbers from 0 to 4294967295"),
        ({"user_keys": np.arange(U) + 2**32}, "user_keys: 4294967296"),
        ({"user": NEW.user + np.int64(2**32)}, "examples: user: 4294967296, expected whole numbers"),
        ({"user": NEW.user + 0.9}, "examples: user: float64, expected whole numbers"),
        ({"pool": NEW.pool + 0.5}, "examples: pool: float64"),
        ({"num_users": -3}, "num_users is -3, expected a whole number, 0 or more"),
        ({"seed": -1}, "seed is -1, expected a whole number, 0 or more"),
        ({"seed": 2**40}, "seed is 1099511627776"),
        (
            {"family": "simplex", "learning_rate": 999.0, "shared": SIMPLEX},
            "999.0, times the factor 100 of Simplex",
        ),
        ({"start": {**LINEAR, "c": np.zeros(2, np.float32)}, "family": "linear"}, r"start of Linear has \['c'\]"),
        (
            {"start": {**LINEAR, "w": np.zeros(D, int)}, "family": "linear"},
            "Linear: w is int64, expected float32",
        ),
        ({"x": NEW.x * np.float32(1e38)}, "the head of user . is not finite: give a smaller learning_rate"),
        ({"learning_rate": 900.0, "weight_decay": 1e6, "epochs": 9}, "the head of user . is not finite"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, says):
    arrays = {"x": NEW.x, "user": NEW.user, "label": NEW.label}
    with pytest.raises(DataError, match=says):
        fit_heads(**{**MLP, **arrays, "num_users": U, **change})


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'fit_head'"):
        training.fit_head
    assert "fit_heads" in dir(training)


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({"batch_examples": 2.5}, "batch_examples is 2.5, expected a whole number"),
        ({"epochs": "3"}, "epochs is '3', expected a whole number"),
        ({"epochs": True}, "epochs is True"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast', expected a number"),
        ({"weight_decay": None}, "weight_decay is None, expected a number"),
        ({"seed": 1.5}, "seed is 1.5, expected a whole number"),
    ],
)
def test_settings_are_numbers(numbers, says):
    with pytest.raises(DataError, match=says):
        personalisation.check_numbers(**numbers)


def test_a_family_is_one_or_its_name():
    for family in (7, heads.Family, None):
        with pytest.raises(DataError, match="expected a family or one of facets"):
            personalisation.family_of(family)
    assert personalisation.family_of("linear") == personalisation.family_of(heads.get("linear"))


def test_everything_public_is_found_and_nothing_else():
    assert sorted(training.__all__) == sorted(training.PUBLIC) and "Any" not in dir(training)
    for name in ("Setting", "product", "initial", "Examples"):
        assert getattr(training, name) is not None
    there: dict = {}
    exec("from hydrajax.training import *", there)
    assert set(training.PUBLIC) <= set(there)
