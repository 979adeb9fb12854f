"""What cannot be fitted, or becomes NaN while it is, is one sentence."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from hydrajax.training import checks, fit
from hydrajax.training.config import FitConfig
from hydrajax.training.examples import Examples
from hydrajax.training.fitted import Fitted
from hydrajax.types import DataError
from tests.training import fits
from tests.training.conftest import D, X, make_examples
from tests.training.fits import BASE, LINEAR, MLP, NEW, TRAIN, U, texts


@pytest.fixture
def linear():
    return fits.pretrained(LINEAR)


RARELY_NAN = """
import dataclasses

import jax.numpy as jnp

from hydrajax.nn import heads


@dataclasses.dataclass(frozen=True)
class RarelyNan(heads.Family):
    where: str = "always"

    def init_shared(self, key, dims):
        return {"v": jnp.ones(dims.inputs)} if self.where == "shared" else {}

    def init_user(self, key, dims):
        return {} if self.where == "shared" else {"w": jnp.zeros(dims.inputs)}

    def score(self, shared, user, x, key=None):
        return jnp.where(x[0] > 99.0, jnp.nan, 1.0) * (x @ (user or shared)["w" if user else "v"])

    def generic(self, shared):
        return {} if self.where == "shared" else shared["generic"]


FAMILY = RarelyNan
"""


@pytest.fixture
def rarely_nan(tmp_path):
    """A family whose scores are NaN where the first feature is above 99: its check does not find it."""
    (tmp_path / "rarely_nan.py").write_text(RARELY_NAN)
    return str(tmp_path / "rarely_nan.py")


def with_nan(examples, user):
    """These examples, a user's first features above 99, pool by pool."""
    x = examples.x.copy()
    x[examples.user == user, 0] = 100.0
    return dataclasses.replace(examples, x=x)


@pytest.mark.parametrize(
    "where, what", [("always", r"the pooled head .* \(w\)"), ("shared", r"what users share .* \(v\)")]
)
def test_what_pretraining_learns_must_be_finite(where, what, rarely_nan):
    config = dataclasses.replace(MLP, family=f"{rarely_nan}:where={where}", standardise=False)
    config = dataclasses.replace(config, pooled_learning_rate=0.01, pooled_ridge=1.0)
    what = what.replace(".*", "is not finite")
    with pytest.raises(DataError, match=f"^head family '.*rarely_nan.py.*': {what}: give a smaller pooled_learning"):
        fit.pretrain(config, with_nan(TRAIN, 2), 5)
    unchosen = dataclasses.replace(config, pooled_learning_rate=None, pooled_epochs=None)
    many = make_examples([9] * 12)
    with pytest.raises(DataError, match="rarely_nan.py.*': its loss is not finite under any setting that was tried"):
        fit.pretrain(unchosen, dataclasses.replace(many, x=np.full_like(many.x, 100.0)), 12)


def test_new_users_heads_and_scores_must_be_finite(rarely_nan):
    config = dataclasses.replace(MLP, family=rarely_nan, standardise=False)
    fitted = fit.pretrain(config, TRAIN, 5)
    with pytest.raises(DataError, match="rarely_nan.py': the head of user 2 is not finite: give a smaller learning_r"):
        fit.personalise(config, fitted, with_nan(NEW, 2), U)
    with pytest.raises(DataError, match="rarely_nan.py': the score of row 10 is nan"):
        fit.predict(fitted, None, NEW.user, with_nan(NEW, 2).x, NEW.extras)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"family": "forest"}, "unknown head family 'forest', expected one of"),
        ({"loss": "hinge"}, "loss is 'hinge', expected one of"),
        ({"epochs": -1}, "epochs is -1, expected 0 or more"),
        ({"batch_examples": 0}, "batch_examples is 0, expected 1 or more"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0, expected more than 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"train_base": True}, "train_base is True but the examples hold features"),
        ({"family": "linear", "pooled_ridge": 0.0}, "prior_strength is 0.0, expected more than 0"),
    ],
)
def test_a_configuration_that_cannot_be_fitted_is_refused(change, says):
    with pytest.raises(DataError, match=says):
        fit.pretrain(dataclasses.replace(MLP, **change), TRAIN, 5)


def test_tokens_need_the_base_and_personalisation_takes_features(linear):
    train = texts((2, 2), 0)
    with pytest.raises(DataError, match="expected the base that is to be trained"):
        fit.pretrain(BASE, train, 2)
    with pytest.raises(DataError, match="train_base is False but the examples hold tokens"):
        fit.pretrain(MLP, train, 2)
    with pytest.raises(DataError, match="personalisation takes features"):
        fit.personalise(LINEAR, linear, train, 2)


def test_arrays_of_other_widths_and_rows_are_refused(linear):
    users = fit.personalise(LINEAR, linear, NEW, U)
    wide = np.zeros((3, D + 1), np.float32)
    rows, extras = np.zeros(3, np.int32), np.zeros((3, X), np.float32)
    with pytest.raises(DataError, match=f"features have width {D + 1} and extras {X}, the scorer was fitted with {D}"):
        fit.predict(linear, users, rows, wide, extras)
    with pytest.raises(DataError, match=f"user rows from 0 to {U}, expected 0 to {U - 1}"):
        fit.predict(linear, users, np.array([0, U, 1], np.int32), wide[:, :D], extras)
    for value, name in ((np.nan, "x"), (np.inf, "extras")):
        x, more = np.array(wide[:, :D]), np.array(extras)
        {"x": x, "extras": more}[name][2, 1] = value
        with pytest.raises(DataError, match=f"predict: {name} of row 2 has a NaN or an infinity, as 1 of 3 rows have"):
            fit.predict(linear, users, rows, x, more)
    with pytest.raises(DataError, match="2 user rows, 3 features, 3 extras"):
        fit.predict(linear, users, rows[:2], wide[:, :D], extras)
    with pytest.raises(DataError, match="fitted with family 'linear'"):
        fit.personalise(MLP, linear, NEW, U)
    with pytest.raises(DataError, match="less than 2 users"):
        fit.personalise(LINEAR, linear, NEW, 2)
    with pytest.raises(DataError, match=r"epochs is \(-1,\)"):
        fit.personalise_snapshots(LINEAR, linear, NEW, U, epochs=(-1,))


@pytest.mark.parametrize(
    ("value", "kind", "says"),
    [
        ({"family": "linear"}, FitConfig, r"it: {'family': 'linear'} \(dict\), expected FitConfig"),
        ((1, 2), Examples, r"it: \(1, 2\) \(tuple\), expected Examples"),
        (LINEAR, Fitted, r"it: FitConfig\(.* \(FitConfig\), expected Fitted"),
    ],
)
def test_what_is_of_another_type_is_one_sentence(value, kind, says):
    with pytest.raises(DataError, match=says):
        checks.check_is(value, kind, "it")
    checks.check_is(kind, type, "it")


UNCHECKED = """
import dataclasses

from hydrajax.training import FitConfig, personalise, pretrain
from hydrajax.types import DataError

for call in (
    lambda: pretrain(FitConfig(family=int), None, 3),
    lambda: pretrain({"family": "linear"}, None, 3),
    lambda: pretrain(FitConfig(), (1, 2), 3),
    lambda: personalise(FitConfig(), FitConfig(), None, 3),
):
    try:
        call()
    except DataError as error:
        print(error)
"""


@pytest.mark.slow
def test_types_are_looked_at_where_no_type_checker_does():
    said = subprocess.run([sys.executable, "-c", UNCHECKED], capture_output=True, text=True, check=True).stdout
    lines = said.splitlines()
    assert [line.split(",")[0][:24] for line in lines] == [
        "family is <class 'int'>", "the configuration: {'fam", "the examples: (1", "the scorer: FitConfig(fa"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda users: {"w": users["w"]}, "predict: heads: leaves w, expected b, w"),
        (
            lambda users: {**users, "w": users["w"][:, :3]},
            rf"predict: heads: w is \[\d+, 3\], expected \[users, {D + X}\]",
        ),
        (lambda users: {**users, "b": np.float32(0)}, r"predict: heads: b is \[\], expected \[users\]"),
        (lambda users: [users["w"]], "predict: heads: leaves 0, expected b, w"),
    ],
)
def test_heads_of_another_shape_are_told_by_their_leaf(linear, spoil, says):
    users = {name: np.repeat(np.asarray(leaf)[None], U, axis=0) for name, leaf in linear.generic.items()}
    with pytest.raises(DataError, match=says):
        fit.predict(linear, spoil(users), TRAIN.user, TRAIN.x, TRAIN.extras)
