import dataclasses

import jax
import numpy as np
import pytest

from hydrajax.nn import heads
from hydrajax.training import fit_heads, sweep, user_fit
from hydrajax.types import DataError
from tests.training.conftest import D, X, assert_close, assert_equal, make_examples

SIZES = (10, 0, 16, 6)
U = len(SIZES)
NEW = make_examples(SIZES)
DIMS = heads.Dims(features=D, extras=X)
SEVERAL = [
    sweep.Setting(learning_rate=0.02, dropout=0.0),
    sweep.Setting(learning_rate=0.002, weight_decay=0.5, dropout=0.3),
    sweep.Setting(learning_rate=0.02, prior_strength=0.0, seed=3, dropout=0.3),
]


def one_by_one(family, setting, **options):
    values = {k: v for k, v in vars(setting).items() if k != "dropout"}
    chosen = heads.get(family)
    if setting.dropout is not None:
        chosen = dataclasses.replace(chosen, dropout=setting.dropout)
    arrays = {name: getattr(NEW, name) for name in ("x", "user", "label", "extras", "score", "pool")}
    return fit_heads(chosen, **arrays, num_users=U, **values, **options)


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
    program = user_fit.gradient(heads.get(family), DIMS, loss, False, None, over or "vmap")
    swept = sweep.sweep_heads(family, NEW, SEVERAL, num_users=U, over=over, **options)
    assert program._cache_size() == 1
    for s, setting in enumerate(SEVERAL):
        single = one_by_one(family, setting, **options)
        assert_close(jax.tree.map(lambda leaf, s=s: leaf[s], swept), single, atol=1e-5)
        assert_equal(jax.tree.map(lambda leaf: leaf[1], single), start)  # nobody's examples
    assert len({leaf[s, 2].sum() for leaf in [jax.tree.leaves(swept)[0]] for s in range(3)}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("over", ["map", "vmap"])
def test_prior_strengths_of_a_convex_family(over):
    settings = sweep.product(prior_strength=(0.3, 3.0, 30.0))
    swept = sweep.sweep_heads("linear", NEW, settings, num_users=U, over=over)
    for s, setting in enumerate(settings):
        assert_close(jax.tree.map(lambda leaf, s=s: leaf[s], swept), one_by_one("linear", setting), atol=1e-4)
    sizes = np.linalg.norm(swept["w"], axis=-1)
    assert (sizes[0, [0, 2, 3]] > sizes[1, [0, 2, 3]]).all()
    assert (sizes[1, [0, 2, 3]] > sizes[2, [0, 2, 3]]).all()


@pytest.mark.slow
def test_fresh_heads_are_each_seeds_own():
    settings = sweep.product(seed=(0, 7), learning_rate=(1e-9, 0.01))
    swept = sweep.sweep_heads("mlp:width=3", NEW, settings, num_users=U, epochs=1)
    first, _, third, _ = swept["w1"]
    np.testing.assert_allclose(first[0], one_by_one("mlp:width=3", settings[0], epochs=1)["w1"][0], atol=1e-6)
    assert not np.allclose(first[0], third[0], atol=1e-2)
    assert not swept["w1"][:, 1].any()


def test_products_of_values():
    made = sweep.product(learning_rate=(0.1, 0.2), seed=range(3))
    assert [(one.learning_rate, one.seed) for one in made] == [(r, s) for r in (0.1, 0.2) for s in range(3)]


@pytest.mark.parametrize(
    "settings, says",
    [
        ([], "no setting"),
        ([sweep.Setting(learning_rate=0.0)], "setting 0 of the sweep: learning_rate is 0.0"),
        ([sweep.Setting(dropout=1.0)], "dropout is 1.0"),
        ([{"seed": 1}], "setting 0 of the sweep is {'seed': 1}, expected a Setting"),
        ([sweep.Setting(), sweep.Setting(seed=-1)], "setting 1 of the sweep: seed is -1"),
        ([sweep.Setting(dropout=0.1), sweep.Setting()], "to some settings only"),
    ],
)
def test_settings_that_cannot_be_fitted_are_refused(settings, says):
    with pytest.raises(DataError, match=says):
        sweep.sweep_heads("mlp", NEW, settings, num_users=U)


def test_what_has_no_dropout_or_no_heads_is_refused():
    with pytest.raises(DataError, match="Linear has none"):
        sweep.sweep_heads("linear", NEW, [sweep.Setting(dropout=0.1)], num_users=U)
    with pytest.raises(DataError, match="stores nothing of a user"):
        sweep.sweep_heads("shared", NEW, [sweep.Setting()], num_users=U)
    with pytest.raises(DataError, match="over is 'foo', expected 'vmap', 'map' or None"):
        sweep.sweep_heads("mlp", NEW, [sweep.Setting()], num_users=U, over="foo")
    with pytest.raises(DataError, match="setting 1 of the sweep: the head of user . is not finite"):
        settings = [sweep.Setting(), sweep.Setting(learning_rate=900.0, weight_decay=1e6)]
        sweep.sweep_heads("mlp:width=3", NEW, settings, num_users=U)
    with pytest.raises(DataError, match="less than 2 users"):
        sweep.sweep_heads("mlp", NEW, [sweep.Setting()], num_users=2)
