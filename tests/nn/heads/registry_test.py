import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hydrajax.nn import families, heads
from hydrajax.types import DataError

DIMS = heads.Dims(features=6, extras=2)


def test_an_unknown_family_names_the_valid_ones():
    with pytest.raises(DataError, match=r"unknown head family 'mpl', expected one of facets, .*, linear, .*, mlp, "):
        heads.get("mpl")


def test_an_unknown_setting_names_the_valid_ones():
    with pytest.raises(DataError, match=r"mlp has no setting depth, it has dropout, width"):
        heads.get("mlp", depth=3)


def test_settings_stand_behind_the_name():
    assert heads.get("low_rank_mlp:rank=4,dropout=0") == heads.get("low_rank_mlp", rank=4, dropout=0.0)
    assert heads.get("mlp:width=None") == heads.get("mlp")
    assert heads.get("generic_plus_offset:inner=simplex:bases=3") == heads.get(
        "generic_plus_offset", inner="simplex:bases=3"
    )
    assert heads.with_dropout("mlp:width=3", 0.3) == heads.get("mlp", width=3, dropout=0.3)
    assert heads.with_dropout("mlp:dropout=0.2", 0.3) == heads.get("mlp", dropout=0.2)
    assert heads.with_dropout("linear", 0.3) == heads.get("linear")


ANNOTATED = """
from __future__ import annotations

import dataclasses
from typing import Literal

from hydrajax.nn.heads.linear import Linear


@dataclasses.dataclass(frozen=True)
class Mine(Linear):
    rank: int = 4
    act: Literal["tanh", "relu"] = "tanh"
    rate: float | None = None
    sizes: tuple[int, ...] = (1,)


FAMILY = Mine
"""


def test_settings_may_be_annotated_in_every_way(tmp_path):
    (tmp_path / "mine.py").write_text(ANNOTATED)
    name = str(tmp_path / "mine.py")
    made = heads.get(f"{name}:rank=8,act=relu,rate=1")
    assert (made.rank, made.act, made.rate, made.sizes) == (8, "relu", 1, (1,))
    assert heads.get(name, sizes=(2, 3)).sizes == (2, 3)
    for setting, expected in (
        ("rank=2.5", "rank of head family .* is 2.5, expected a whole number"),
        ("act=sine", "act of head family .* is 'sine', expected"),
        ("rate=fast", "rate of head family .* is 'fast', expected a number"),
        ("sizes=3", "sizes of head family .* is 3, expected"),
    ):
        with pytest.raises(DataError, match=expected):
            heads.get(f"{name}:{setting}")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("low_rank_mlp:", "'' behind the colon, expected setting=value,setting=value"),
        ("low_rank_mlp:rank", "'rank' behind the colon"),
        ("low_rank_mlp:rank=2.5", "rank of head family low_rank_mlp is 2.5, expected a whole number"),
        ("low_rank_mlp:rank=many", "rank of head family low_rank_mlp is 'many', expected a whole number"),
        ("low_rank_mlp:rank=True", "is True, expected a whole number"),
        ("low_rank_mlp:bases=2", "low_rank_mlp has no setting bases, it has rank, width, dropout"),
        ("low_rank_mlp:rank=0", "rank of LowRankMlp is 0, expected 1 or more"),
        ("mlp:width=0", "width of Mlp is 0, expected 1 or more"),
        ("simplex:bases=0", "bases of Simplex is 0"),
        ("facets:active=0", "active of Facets is 0"),
        ("mlp:dropout=1.0", "dropout of Mlp is 1.0, expected 0 or more and less than 1"),
        ("mlp:dropout=-1", "dropout of Mlp is -1.0"),
        ("low_rank_mlp:dropout=2", "dropout of LowRankMlp is 2.0"),
        ("shared:dropout=1e309", "dropout of SharedMlp is inf"),
        ("facets:dropout=1", "dropout of Facets is 1.0"),
        ("generic_plus_offset:dropout=1", "dropout of GenericPlusOffset is 1.0"),
        ("simplex:rate=100", "head family simplex has no setting rate"),
        ("facets:reconstruction=-3", "reconstruction of Facets is -3.0, expected 0 or more and finite"),
        ("facets:active=99,facets=2", "active of Facets is 99, expected at most its 2 facets"),
        ("mlp:width=4,width=5", "head family 'mlp:width=4,width=5' has width twice"),
        ("generic_plus_offset:alpha=0", "alpha of generic_plus_offset is 0.0, expected more than 0"),
        ("generic_plus_offset:inner=shared", "inner of generic_plus_offset is 'shared', which stores nothing"),
        ("generic_plus_offset:inner=facets", "inner of generic_plus_offset is 'facets', which stores nothing"),
        ("generic_plus_offset:inner=generic_plus_offset", "is generic_plus_offset itself"),
        ("generic_plus_offset:inner=forest", "unknown head family 'forest', expected one of"),
    ],
)
def test_a_name_that_is_no_family_is_one_clear_sentence(name, says):
    with pytest.raises(DataError, match=says):
        heads.get(name)


@pytest.mark.parametrize("name", families.names())
def test_every_family_keeps_the_contract(name):
    family = heads.get(name)
    assert isinstance(family, heads.Family)
    hash(family)  # compiled programs are kept by family
    shared, user = family.init_shared(jax.random.key(0), DIMS), family.init_user(jax.random.key(1), DIMS)
    stores = heads.stores_users(family, DIMS)
    assert stores == bool(user)
    rng = np.random.default_rng(0)
    if isinstance(family, heads.Encoded):
        assert not stores
        context = heads.Context(
            x=jnp.asarray(rng.normal(size=(3, 8)), jnp.float32), label=jnp.ones(3), mask=jnp.ones(3, bool)
        )
        user = family.encode_user(shared, context)
    x = jnp.asarray(rng.normal(size=8), jnp.float32)
    logit = family.score(shared, user, x)
    assert logit.shape == () and logit.dtype == jnp.float32
    np.testing.assert_array_equal(logit, family.score(shared, user, x))
    generic = family.generic({"generic": user, **shared} if stores else shared)
    assert jax.tree.map(jnp.shape, generic) == jax.tree.map(jnp.shape, user)
    if hasattr(family, "design"):
        some = jax.tree.map(lambda leaf: leaf + 0.3, user)
        parts = jax.tree.map(lambda u, d: jnp.sum(u * d), some, family.design(shared, x))
        np.testing.assert_allclose(sum(jax.tree.leaves(parts)), family.score(shared, some, x), rtol=1e-5)


def test_settings_that_are_no_number_are_refused_and_spaces_are_not_read():
    with pytest.raises(DataError, match="dropout of Mlp is nan"):
        heads.get("mlp", dropout=float("nan"))
    with pytest.raises(DataError, match="sparsity of Facets is nan"):
        heads.get("facets", sparsity=float("nan"))
    with pytest.raises(DataError, match="dropout of Mlp is 1.0"):
        heads.at_dropout(heads.get("mlp"), 1.0)
    assert heads.get("mlp: dropout=0.2, width = 3") == heads.get("mlp", dropout=0.2, width=3)
