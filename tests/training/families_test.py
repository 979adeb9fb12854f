"""What `fit` promises, for every head family there is."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from hydrajax import training
from hydrajax.nn import families
from hydrajax.training import fit, joint, losses, stages
from hydrajax.training.config import FitConfig
from hydrajax.training.examples import Examples
from hydrajax.types import DataError
from tests.training.conftest import assert_close, assert_equal, head, make_examples, only

pytestmark = pytest.mark.slow

TRAIN = make_examples((8, 6, 7))
NEW = make_examples((8, 0, 5, 7), seed=9)
U = 4
CONFIG = FitConfig(
    epochs=2, pooled_epochs=2, learning_rate=0.02, prior_strength=1.0, batch_examples=8, dropout=0.0, fit_bank=False
)


def config(name):
    return dataclasses.replace(CONFIG, family=name)


@functools.cache
def pretrained(name):
    return fit.pretrain(config(name), TRAIN, 3)


@pytest.mark.parametrize("name", families.names())
def test_every_family_is_pretrained_personalised_and_scored(name):
    fitted = pretrained(name)
    assert all(np.isfinite(curve).all() for curve in fitted.curves.values())
    found = fit.personalise_snapshots(config(name), fitted, NEW, U, epochs=(0, 2))
    users = found.heads[2]
    # A user without examples is the generic one, and without epochs everybody is.
    assert_equal(head(users, 1), fitted.generic)
    for row in range(U):
        assert_equal(head(found.heads[0], row), fitted.generic)
    own = fit.predict(fitted, users, NEW.user, NEW.x, NEW.extras)
    pooled = fit.predict(fitted, None, NEW.user, NEW.x, NEW.extras)
    assert np.isfinite(own).all()
    personal = bool(jax.tree.leaves(users))
    assert personal == (name != "shared") == bool((own != pooled).any())

    # A user's head is made of that user's examples alone, whoever else is there, at whatever row.
    order = [2, 3, 0, 1]  # user u becomes order[u]
    keys = np.arange(U, dtype=np.uint32)
    permuted = fit.personalise(
        config(name), fitted, only(NEW, NEW.user != 3, order), U, user_keys=keys[np.argsort(order)]
    )
    for u in (0, 1, 2):
        assert_close(head(permuted, order[u]), head(users, u), atol=1e-6)


@pytest.mark.parametrize("name", ["simplex", "facets", "generic_plus_offset"])
def test_a_scorer_of_any_family_is_kept_and_comes_back(name, tmp_path):
    fitted = pretrained(name)
    users = fit.personalise(config(name), fitted, NEW, U)
    training.save_fitted(tmp_path, fitted, users)
    again, loaded = training.load_fitted(tmp_path)
    scores = [fit.predict(f, u, NEW.user, NEW.x, NEW.extras) for f, u in ((fitted, users), (again, loaded))]
    np.testing.assert_array_equal(*scores)


def test_settings_of_a_family_reach_its_parameters():
    fitted = pretrained("simplex:bases=3")
    assert fitted.shared["v"].shape[1] == 3
    assert fit.personalise(config("simplex:bases=3"), fitted, NEW, U)["w"].shape == (U, 3)
    with pytest.raises(DataError, match="fitted with family 'simplex:bases=3'"):
        fit.personalise(config("simplex"), fitted, NEW, U)


def test_who_has_more_examples_than_a_context_holds_is_encoded_from_the_last_of_them():
    fitted = pretrained("facets")
    n = 3 * losses.CONTEXT
    many = make_examples((n,), seed=4)

    def alpha(examples):
        return stages.encode_users(fitted.family, fitted.shared, examples, 1, normaliser=fitted.normaliser)["alpha"]

    assert_equal(alpha(many), alpha(only(many, np.arange(n - losses.CONTEXT, n))))
    assert not np.array_equal(alpha(many), alpha(only(many, np.arange(losses.CONTEXT))))


def test_separable_users_of_a_convex_family_stay_finite():
    """The prior holds them: strength/2 |head - pooled|^2 is at most the loss at the pooled head."""
    n = 12
    rng = np.random.default_rng(3)
    x = rng.normal(size=(n, 5))
    apart = Examples(
        user=np.zeros(n), x=x, extras=rng.normal(size=(n, 2)), label=x[:, 0] > 0, score=x[:, 0], pool=np.zeros(n)
    )
    fitted = pretrained("linear")
    for strength in (1.0, 0.01):
        held = dataclasses.replace(config("linear"), prior_strength=strength, scaled=False)
        users = fit.personalise(held, fitted, apart, 1)
        own, pooled = (fit.predict(fitted, u, apart.user, apart.x, apart.extras) for u in (users, None))
        np.testing.assert_array_equal(own > 0, apart.label == 1)
        loss = (np.logaddexp(0, pooled) - apart.label * pooled).sum()
        moved = sum(
            ((a[0] - b) ** 2).sum() for a, b in zip(*map(jax.tree.leaves, (users, fitted.generic)), strict=True)
        )
        assert moved <= 2 * loss / strength


FAMILY = '''
import dataclasses

import jax.numpy as jnp


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mean:
    """A user is the mean of the examples with a label of 1, nothing is learned."""

    scale: float = 1.0

    def init_shared(self, key, dims):
        return {"scale": jnp.full((dims.inputs,), self.scale)}

    def init_user(self, key, dims):
        return {}

    def encode_user(self, shared, context, key=None):
        weight = jnp.where(context.mask, context.label, 0.0)
        return {"mean": weight @ context.x / jnp.maximum(weight.sum(), 1.0)}

    def score(self, shared, user, x, key=None):
        return (shared["scale"] * x) @ user["mean"]

    def generic(self, shared):
        return {"mean": jnp.zeros_like(shared["scale"])}


FAMILY = Mean
'''


def test_a_new_family_is_one_new_file(tmp_path):
    (tmp_path / "mean.py").write_text(FAMILY)
    used = config(f"{tmp_path}/mean.py:scale=2")
    fitted = fit.pretrain(used, TRAIN, 3)
    users = fit.personalise(used, fitted, NEW, U)
    assert_equal(head(users, 1), fitted.generic)
    scores = fit.predict(fitted, users, NEW.user, NEW.x, NEW.extras)
    assert np.mean((scores > 0) == (NEW.label > 0)) > 0.65


def test_trials_of_shared_parameters_share_a_compiled_step():
    """Rates, numbers of epochs and other statistics of the inputs compile nothing new."""
    joint._program.cache_clear()
    for rate, epochs, times in ((1e-3, 1, 1.0), (5e-3, 3, 2.0)):
        given = dataclasses.replace(TRAIN, x=times * TRAIN.x)
        used = dataclasses.replace(config("facets"), pooled_learning_rate=rate, pooled_epochs=epochs)
        stages.learn(used, given, 3)
    assert joint._program.cache_info().currsize == 1
    assert joint._program.cache_info().hits == 1
