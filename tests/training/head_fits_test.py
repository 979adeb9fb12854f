import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hydrajax import training
from hydrajax.nn import heads, scorer
from hydrajax.training import fit_heads, head_fits, losses, newton, programs, solver
from hydrajax.types import DataError
from tests.training.conftest import D, X, assert_close, assert_equal, edited, make_examples

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
@pytest.mark.slow
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


@pytest.mark.slow
def test_the_order_of_users_examples_in_the_table_does_not_matter():
    shuffled = part(NEW, np.argsort(NEW.user % 2, kind="stable"))
    assert_equal(fitted(shuffled), fitted())


@pytest.mark.slow
def test_nothing_is_kept_between_two_fits():
    first = fitted(seed=1)
    fitted(seed=2, learning_rate=0.5)
    assert_equal(fitted(seed=1), first)
    assert not np.array_equal(fitted(seed=2)["w1"], first["w1"])


@pytest.mark.parametrize("family", ["mlp:width=3", "linear"])
@pytest.mark.slow
def test_users_without_examples_get_the_start_or_zeros(family):
    made = heads.get(family).init_user(jax.random.key(3), heads.Dims(features=D, extras=2))
    start = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.5, made)
    assert_equal(head(fitted(family=family, start=start), 1), start)
    assert_equal(head(fitted(family=family), 1), jax.tree.map(np.zeros_like, start))
    nobody = fitted(part(NEW, NEW.user < 0), family=family, start=start)
    for u in range(U):
        assert_equal(head(nobody, u), start)


@pytest.mark.slow
def test_one_program_whatever_the_numbers():
    dims = heads.Dims(features=D, extras=2)
    program = programs.gradient(heads.get(MLP["family"]), dims, "cross_entropy", True, "float32", 1.0, None, None, None)
    fitted()
    before = program._cache_size()
    assert before > 0
    fitted(seed=5, learning_rate=0.3, weight_decay=0.2, prior_strength=0.0)
    assert program._cache_size() == before


@pytest.mark.slow
def test_users_without_a_normaliser_are_fitted_on_the_features_as_they_are():
    """The gradient of the sum of losses and half the prior vanishes at a convex family's heads."""
    users = fitted(family="linear", prior_strength=2.0)
    joined = np.concatenate([NEW.x, NEW.extras], axis=1)
    for u in (0, 2, 4):
        own = NEW.user == u
        away = 1 / (1 + np.exp(-(joined[own] @ users["w"][u] + users["b"][u]))) - NEW.label[own]
        np.testing.assert_allclose(away @ joined[own] + 2.0 * users["w"][u], 0.0, atol=1e-2)


@pytest.mark.parametrize("loss", losses.LOSSES)
@pytest.mark.slow
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

    units = heads.Units(scale={"w": np.float32(0.5), "b": 1.0}, offset={"w": 0.0, "b": 1 / 36})

    def prior(strength):
        return newton.Prior.of(units, anchor, strength, 2.0, (0,))

    @jax.jit
    def many(strength):
        block = jax.tree.map(lambda leaf: leaf[None], (design, targets))
        return newton.minimise(run, lambda index: block, jnp.int32(1), anchor, prior(strength))

    found = jax.jit(jax.vmap(lambda strength: newton.few(run, design, targets, anchor, prior(strength))))(strengths)
    for i, strength in enumerate(strengths):
        assert_close(head(found, i), many(strength), atol=2e-3)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"x": edited(NEW.x, (3, 1), np.nan)}, "x of row 3 has a NaN or an infinity, as 1 of"),
        ({"label": edited(NEW.label, 2, 1.5)}, "label of row 2 is 1.5"),
        ({"user": edited(NEW.user, 4, U)}, f"user of row 4 is {U}, expected less than {U} users"),
        ({"user": edited(NEW.user, 4, -1)}, "user of row 4 is -1"),
        ({"family": "shared"}, "SharedMlp stores nothing of a user.*: pretrain learns it"),
        ({"family": "none"}, "unknown head family 'none'"),
        ({"family": "simplex"}, r"shared of Simplex: lack c: of another family or optimizer, expected float32\[16\]"),
        ({"family": "linear", "prior_strength": 0.0}, "prior_strength is 0.0, expected more than 0"),
        (
            {"start": {"w": np.zeros(3, np.float32)}, "family": "linear"},
            r"start of Linear: lack b: of another family or optimizer, expected float32\[\]",
        ),
        ({"loss": "hinge"}, "loss is 'hinge'"),
        ({"epochs": -1}, "epochs is -1, expected 0 or more"),
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
            {"family": "simplex", "learning_rate": 999.0, "shared": SIMPLEX, "scaled": True},
            "999.0, in units of Simplex",
        ),
        (
            {"start": {**LINEAR, "c": np.zeros(2, np.float32)}, "family": "linear"},
            "start of Linear: have c: of another family",
        ),
        (
            {"start": {**LINEAR, "w": np.zeros(D, int)}, "family": "linear"},
            r"Linear: w is int64\[\d+\], expected float32\[\d+\]",
        ),
        ({"normaliser": scorer.Normaliser(mean=np.full(D, np.nan), scale=np.ones(D))}, "the normaliser: mean is not"),
        ({"x": NEW.x * np.float32(1e38)}, "the head of user . is not finite: give a smaller learning_rate"),
        ({"learning_rate": 900.0, "weight_decay": 1e6, "epochs": 9}, "the head of user . is not finite"),
    ],
)
@pytest.mark.slow
def test_what_cannot_be_fitted_is_refused(change, says):
    arrays = {"x": NEW.x, "user": NEW.user, "label": NEW.label}
    with pytest.raises(DataError, match=says):
        fit_heads(**{**MLP, **arrays, "num_users": U, **change})


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'fit_head'"):
        training.fit_head
    assert "fit_heads" in dir(training)


@pytest.mark.slow
def test_a_family_is_one_or_its_name():
    for family in (7, None):
        with pytest.raises(DataError, match="expected a family, or a name: one of facets, .*my_module.* or a FILE.py"):
            head_fits.family_of(family)
    with pytest.raises(DataError, match=r"family is the class Linear, expected Linear\(\)"):
        head_fits.family_of(type(heads.get("linear")))
    assert head_fits.family_of("linear") == head_fits.family_of(heads.get("linear"))


SWEPT = make_examples((10, 0, 16, 6))
DIMS = heads.Dims(features=D, extras=X)
SEVERAL = [
    solver.Setting(learning_rate=0.02, dropout=0.0),
    solver.Setting(learning_rate=0.002, weight_decay=0.5, dropout=0.3),
    solver.Setting(learning_rate=0.02, prior_strength=0.0, seed=3, dropout=0.3),
]


def one_by_one(family, setting, **options):
    values = {k: v for k, v in vars(setting).items() if k not in ("dropout", "offset_strength")}  # not `scaled`
    chosen = heads.get(family)
    if setting.dropout is not None:
        chosen = dataclasses.replace(chosen, dropout=setting.dropout)
    arrays = {name: getattr(SWEPT, name) for name in ("x", "user", "label", "extras", "score", "pool")}
    return fit_heads(chosen, **arrays, num_users=4, **values, **options)


def family_parts(name):
    """What its users share, and where they start."""
    family = heads.get(name)
    made = jax.jit(lambda key: (family.init_shared(key, DIMS), family.init_user(key, DIMS)))(jax.random.key(1))
    return jax.device_get(made)


# Pairs say nothing of the last bias of `mlp`: Adam would blow its rounding up to a step of full size.
@pytest.mark.parametrize(
    "family, loss, over",
    [
        ("mlp:width=3", "cross_entropy", "map"),
        ("mlp:width=3", "cross_entropy", "vmap"),
        ("low_rank_mlp:rank=2,width=3", "pairwise", None),
    ],
)
@pytest.mark.slow
def test_every_setting_is_the_single_fit(family, loss, over):
    shared, start = family_parts(family)
    options = {"start": start, "shared": shared, "epochs": 3, "batch_examples": 4, "loss": loss}
    program = programs.gradient(heads.get(family), DIMS, loss, False, "float32", 1.0, None, over or "vmap", None)
    swept = head_fits.sweep_heads(family, SWEPT, SEVERAL, num_users=4, over=over, **options)
    assert program._cache_size() == 1
    for s, setting in enumerate(SEVERAL):
        single = one_by_one(family, setting, **options)
        both = jax.tree.map(lambda leaf, s=s: leaf[s], swept), single
        if loss == "pairwise":  # an intercept cancels in pairs, and Adam makes steps of rounding
            both = tuple({name: leaf for name, leaf in heads_.items() if name != "c"} for heads_ in both)
        assert_close(*both, atol=1e-5)
        assert_equal(jax.tree.map(lambda leaf: leaf[1], single), start)  # nobody's examples
    assert len({leaf[s, 2].sum() for leaf in [jax.tree.leaves(swept)[0]] for s in range(3)}) == 3


@pytest.mark.parametrize("over", ["map", "vmap"])
@pytest.mark.slow
def test_prior_strengths_of_a_convex_family(over):
    settings = head_fits.product(prior_strength=(0.3, 3.0, 30.0))
    swept = head_fits.sweep_heads("linear", SWEPT, settings, num_users=4, over=over)
    for s, setting in enumerate(settings):
        assert_close(jax.tree.map(lambda leaf, s=s: leaf[s], swept), one_by_one("linear", setting), atol=2e-3)
    sizes = np.linalg.norm(swept["w"], axis=-1)
    assert (sizes[0, [0, 2, 3]] > sizes[1, [0, 2, 3]]).all()
    assert (sizes[1, [0, 2, 3]] > sizes[2, [0, 2, 3]]).all()


@pytest.mark.slow
def test_fresh_heads_are_each_seeds_own():
    settings = head_fits.product(seed=(0, 7), learning_rate=(1e-9, 0.01))
    swept = head_fits.sweep_heads("mlp:width=3", SWEPT, settings, num_users=4, epochs=1)
    first, _, third, _ = swept["w1"]
    np.testing.assert_allclose(first[0], one_by_one("mlp:width=3", settings[0], epochs=1)["w1"][0], atol=1e-6)
    assert not np.allclose(first[0], third[0], atol=1e-2)
    assert not swept["w1"][:, 1].any()


def test_products_of_values():
    made = head_fits.product(learning_rate=(0.1, 0.2), seed=range(3))
    assert [(one.learning_rate, one.seed) for one in made] == [(r, s) for r in (0.1, 0.2) for s in range(3)]


@pytest.mark.parametrize(
    "settings, says",
    [
        ([], "no setting"),
        ([solver.Setting(learning_rate=0.0)], "setting 0 of the sweep: learning_rate is 0.0"),
        ([solver.Setting(dropout=1.0)], "dropout is 1.0"),
        ([{"seed": 1}], "setting 0 of the sweep is {'seed': 1}, expected a Setting"),
        ([solver.Setting(), solver.Setting(seed=-1)], "setting 1 of the sweep: seed is -1"),
        ([solver.Setting(dropout=0.1), solver.Setting()], "to some settings only"),
    ],
)
def test_settings_that_cannot_be_fitted_are_refused(settings, says):
    with pytest.raises(DataError, match=says):
        head_fits.sweep_heads("mlp", SWEPT, settings, num_users=4)


def test_what_has_no_dropout_or_no_heads_is_refused():
    with pytest.raises(DataError, match="Linear has none"):
        head_fits.sweep_heads("linear", SWEPT, [solver.Setting(dropout=0.1)], num_users=4)
    with pytest.raises(DataError, match="stores nothing of a user"):
        head_fits.sweep_heads("shared", SWEPT, [solver.Setting()], num_users=4)
    with pytest.raises(DataError, match="over is 'foo', expected 'vmap', 'map' or None"):
        head_fits.sweep_heads("mlp", SWEPT, [solver.Setting()], num_users=4, over="foo")
    with pytest.raises(DataError, match="setting 1 of the sweep: Mlp: the head of user . is not finite"):
        settings = [solver.Setting(), solver.Setting(learning_rate=300.0, weight_decay=1e6)]
        head_fits.sweep_heads("mlp:width=3", SWEPT, settings, num_users=4)
    with pytest.raises(DataError, match="less than 2 users"):
        head_fits.sweep_heads("mlp", SWEPT, [solver.Setting()], num_users=2)


def test_a_prior_of_offsets_needs_units():
    with pytest.raises(DataError, match="without scaled=True"):
        head_fits.fit_heads("linear", NEW.x, NEW.user, NEW.label, num_users=U, offset_strength=2.0)


def test_everything_public_is_found_and_nothing_else():
    assert sorted(training.__all__) == sorted(training.PUBLIC) and "Any" not in dir(training)
    for name in ("Setting", "product", "initial", "Examples"):
        assert getattr(training, name) is not None
    there: dict = {}
    exec("from hydrajax.training import *", there)
    assert set(training.PUBLIC) <= set(there)
