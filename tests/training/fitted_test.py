import dataclasses
import functools
import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from hydrajax.nn import families, family_checks, heads, scorer
from hydrajax.training import fit, fitted
from hydrajax.training.config import FitConfig
from hydrajax.types import DataError
from tests.training.conftest import assert_equal


def make(family="mlp", base=None):
    rng = np.random.default_rng(0)
    head = {"w1": rng.normal(size=(3, 2)), "b1": rng.normal(size=2), "w2": rng.normal(size=(2, 2)), "b2": np.zeros(2)}
    if family == "linear":
        head = {"w": rng.normal(size=3), "b": np.array(0.5)}
    head = {name: leaf.astype(np.float32) for name, leaf in head.items()}
    stored = family != "shared"
    return fitted.Fitted(
        config=FitConfig(family=family, init="fresh", seed=3),
        dims=heads.Dims(features=2, extras=1),
        normaliser=scorer.Normaliser(mean=np.ones(3, np.float32), scale=np.full(3, 2, np.float32)),
        shared={"generic": head} if stored else head,
        bank={name: np.stack([leaf] * 4) for name, leaf in head.items()} if stored else {},
        base=base or {},
        curves={"pooled": (0.5, 0.25), "personal": (float("nan"), 1 / 3)},
    )


def test_what_was_saved_comes_back(tmp_path):
    one = make(base={"layer": {"w": np.arange(3, dtype=np.float32), "b": np.array(1, np.float32)}})
    users = {name: leaf[:2] for name, leaf in one.bank.items()}
    fitted.save_fitted(tmp_path / "new" / "folder", one, users)
    back, heads_back = fitted.load_fitted(tmp_path / "new" / "folder")
    for name in ("shared", "bank", "base", "generic"):
        assert_equal(getattr(back, name), getattr(one, name))
    assert_equal(heads_back, users)
    assert back.base["layer"]["b"].shape == ()
    assert (back.config, back.dims) == (one.config, one.dims)
    np.testing.assert_array_equal(back.normaliser.scale, one.normaliser.scale)
    np.testing.assert_array_equal(back.curves["personal"], one.curves["personal"])
    assert back.curves["pooled"] == one.curves["pooled"]


def test_no_heads_and_heads_that_store_nothing_are_told_apart(tmp_path):
    fitted.save_fitted(tmp_path, make("shared"))
    assert fitted.load_fitted(tmp_path)[1] is None
    fitted.save_fitted(tmp_path, make("shared"), {})
    back, users = fitted.load_fitted(tmp_path)
    assert users == back.bank == back.generic == {}


def test_saving_again_replaces(tmp_path):
    fitted.save_fitted(tmp_path, make())
    other = dataclasses.replace(make(), curves={})
    fitted.save_fitted(tmp_path, other)
    assert fitted.load_fitted(tmp_path)[0].curves == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scorer.json", "scorer.safetensors"]


def test_an_empty_folder_holds_no_scorer(tmp_path):
    with pytest.raises(DataError, match="holds no fitted scorer"):
        fitted.load_fitted(tmp_path)


def test_a_damaged_or_foreign_file_is_noticed(tmp_path):
    fitted.save_fitted(tmp_path, make())
    path = tmp_path / "scorer.safetensors"
    data = path.read_bytes()
    for broken in (data[:-4], data[:-1] + b"\x7f"):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"scorer\.safetensors: is damaged or not the one of scorer\.json"):
            fitted.load_fitted(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 99}, "format is 99, expected 1"),
        ({"config": {"family": "mlp", "depth": 2}}, "does not describe a fitted scorer"),
        ({"dims": None}, "does not describe a fitted scorer"),
    ],
)
def test_a_note_of_another_kind_is_one_sentence(tmp_path, change, says):
    fitted.save_fitted(tmp_path, make())
    note = json.loads((tmp_path / "scorer.json").read_text())
    (tmp_path / "scorer.json").write_text(json.dumps(note | change))
    with pytest.raises(DataError, match=says):
        fitted.load_fitted(tmp_path)


def test_dropout_reaches_the_families_that_have_it():
    assert fitted.family_of(FitConfig(family="mlp", dropout=0.3)) == heads.get("mlp", dropout=0.3)
    assert fitted.family_of(FitConfig(family="linear", dropout=0.3)) == heads.get("linear")


class Odd(heads.Family):
    """A user is a pair of an array and a number, not a dictionary."""

    def init_user(self, key, dims):
        return jnp.zeros(dims.inputs), jnp.ones(())

    def score(self, shared, user, x, key=None):
        return x @ user[0] + user[1]


ODD = "from tests.training import fitted_test\nfrom hydrajax.nn import heads\nimport dataclasses\n\n" + (
    "@dataclasses.dataclass(frozen=True)\nclass Mine(fitted_test.Odd):\n    pass\n\nFAMILY = Mine\n"
)


@pytest.mark.parametrize("name", [*families.names(), "generic_plus_offset:inner=linear", "odd"])
def test_every_family_scores_as_it_did(name, tmp_path):
    if name == "odd":
        (tmp_path / "odd.py").write_text(ODD)
        name = str(tmp_path / "odd.py")
    config, dims = FitConfig(family=name), heads.Dims(features=4, extras=1)
    shared, user = family_checks.fitted_shapes(fitted.family_of(config), dims)
    rng = np.random.default_rng(0)
    draw = functools.partial(jax.tree.map, lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype))
    users, bank = (draw(jax.tree.map(functools.partial(stacked, n), user)) for n in (3, 1))
    normaliser = scorer.fit_normaliser(rng.normal(size=(9, 4)), rng.normal(size=(9, 1)))
    one = fitted.Fitted(
        config=config, dims=dims, normaliser=normaliser, shared=draw(shared), bank=bank, base={}, curves={}
    )
    fitted.save_fitted(tmp_path, one, users)
    back, users_back = fitted.load_fitted(tmp_path)
    assert_equal((back.shared, back.bank, back.generic), (one.shared, one.bank, one.generic))
    assert_equal(users_back, users)
    x, extras = rng.normal(size=(6, 4)), rng.normal(size=(6, 1))
    rows = np.arange(6) % 3
    for before, after in ((users, users_back), (None, None)):
        scores = fit.predict(one, before, rows, x, extras), fit.predict(back, after, rows, x, extras)
        np.testing.assert_array_equal(*scores)


def stacked(n, leaf):
    return jax.ShapeDtypeStruct((n, *leaf.shape), leaf.dtype)


def test_numbers_that_were_kept_as_arrays_of_one_are_read(tmp_path):
    one = make("linear")
    fitted.save_fitted(tmp_path, one)
    rewrite(tmp_path, {"shared/generic/b": np.array([0.5], np.float32)})
    back, _ = fitted.load_fitted(tmp_path)
    assert back.generic["b"].shape == () and back.generic["b"] == 0.5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"shared/generic/w": np.zeros(4, np.float32)}, r"shared: generic/w is float32\[4\], expected float32\[3\]"),
        ({"shared/generic/w": None}, "shared: lack generic/w"),
        ({"shared/generic/v": np.zeros(3, np.float32)}, "shared: have generic/v"),
        ({"bank/w": np.zeros((4, 2), np.float32)}, r"bank: w is float32\[4, 2\], expected float32\[4, 3\]"),
        ({"heads/b": np.zeros(3, np.float32)}, "heads: . is float32"),
        ({"normaliser/mean": np.zeros(2, np.float32)}, r"normaliser: mean is float32\[2\], expected float32\[3\]"),
    ],
)
def test_what_does_not_fit_the_family_is_refused(change, says, tmp_path):
    one = make("linear")
    fitted.save_fitted(tmp_path, one, {name: leaf[:2] for name, leaf in one.bank.items()})
    rewrite(tmp_path, change)
    with pytest.raises(DataError, match=rf"scorer\.safetensors: {says}"):
        fitted.load_fitted(tmp_path)


def rewrite(folder, change):
    """Other arrays in the file, and a checksum that fits."""
    path, note = folder / "scorer.safetensors", json.loads((folder / "scorer.json").read_text())
    arrays = safetensors.numpy.load(path.read_bytes()) | change
    path.write_bytes(safetensors.numpy.save({name: array for name, array in arrays.items() if array is not None}))
    note["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "scorer.json").write_text(json.dumps(note))
