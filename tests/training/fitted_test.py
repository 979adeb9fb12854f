import dataclasses
import json

import numpy as np
import pytest

from hydrajax.nn import heads, scorer
from hydrajax.training import fitted
from hydrajax.training.config import FitConfig
from hydrajax.types import DataError
from tests.training.conftest import assert_equal


def make(family="mlp", base=None):
    rng = np.random.default_rng(0)
    head = {"w1": rng.normal(size=(3, 2)), "b1": rng.normal(size=2), "w2": rng.normal(size=(2, 2)), "b2": np.zeros(2)}
    head = {name: leaf.astype(np.float32) for name, leaf in head.items()}
    stored = family == "mlp"
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
