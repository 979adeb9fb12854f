import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hydrajax.nn import heads
from hydrajax.training import losses, user_loss

X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32)
POOL = jnp.array([5, 5, 5, 7, 7, 2, 2, 9])
TARGETS = losses.Targets(
    label=jnp.array([1.0, 0, 1, 0, 1, 0, 1, 1]), score=jnp.arange(8.0), pool=POOL, mask=jnp.arange(8) != 7
)


@dataclasses.dataclass(frozen=True)
class Mean:
    """A user is the sum of labelled examples, so that every score says whose labels it has seen."""

    def init_shared(self, key, dims):
        return {}

    def init_user(self, key, dims):
        return {}

    def encode_user(self, shared, context, key=None):
        return {"sum": jnp.where(context.mask, context.label, 0.0) @ context.x}

    def score(self, shared, user, x, key=None):
        return x @ user["sum"]

    def generic(self, shared):
        return {"sum": jnp.zeros(3)}


class Costly(Mean):
    def penalty(self, shared, user, context, target):
        """The number of examples that are in both, and in neither."""
        both = jnp.sum(context.mask & target.mask, dtype=jnp.float32)
        return 100 * both + jnp.sum(target.mask, dtype=jnp.float32)


@jax.jit
def seen_labels(key):
    """[8, 8]: how the score of example i depends on the label of example j."""

    def scores(label):
        def nth(i):
            def pick(s, targets):
                return s[i], jnp.ones(())

            return user_loss.of(Mean(), pick, {}, {}, X, TARGETS.replace(label=label), key=key)[0]

        return jax.vmap(nth)(jnp.arange(8))

    return jax.jacobian(scores)(TARGETS.label)


def test_no_example_sees_a_label_of_its_own_pool_and_all_others_are_seen_at_times():
    seen = np.stack([np.abs(np.asarray(seen_labels(jax.random.key(seed)))) > 0 for seed in range(40)])
    same = np.asarray(POOL[:, None] == POOL[None, :])
    assert not seen[:, same].any()
    assert not seen[:, :, 7].any()  # padding tells nothing
    others = seen.any(axis=0)[:, :7]
    np.testing.assert_array_equal(others, ~same[:, :7])
    # The generic user is trained too: at times an example with others around it sees none of them.
    assert (~seen.any(axis=2)).any()


def test_pools_are_halved_whole():
    sides = np.stack([np.asarray(user_loss.halves(POOL, jax.random.key(seed))) for seed in range(30)])
    for pool in (5, 7, 2):
        own = sides[:, np.asarray(pool == POOL)]
        assert (own == own[:, :1]).all()
        assert 0 < own[:, 0].mean() < 1


def test_a_familys_own_term_is_that_of_an_example():
    key = jax.random.key(0)
    plain, weight = user_loss.of(Mean(), losses.cross_entropy, {}, {}, X, TARGETS, key=key)
    costly, same = user_loss.of(Costly(), losses.cross_entropy, {}, {}, X, TARGETS, key=key)
    assert weight == same == 7
    # Each half is the target once, and never its own context: the mean of both is half of the 7 examples.
    np.testing.assert_allclose(costly - plain, weight * 7 / 2, rtol=1e-5)


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_offsets_add_the_loss_of_the_generic_user(loss):
    family, linear = heads.get("generic_plus_offset", inner="linear", alpha=0.25), heads.get("linear")
    shared = {"generic": {"w": jnp.array([1.0, -1.0, 0.5]), "b": jnp.float32(0.1)}}
    offset = {"w": jnp.array([0.3, 2.0, -1.0]), "b": jnp.float32(-0.2)}
    fn = losses.get(loss)
    got = user_loss.of(family, fn, shared, offset, X, TARGETS, key=jax.random.key(0))

    def of(user):
        return fn(jax.vmap(lambda x: linear.score({}, user, x))(X), TARGETS)

    own, weight = of(jax.tree.map(jnp.add, shared["generic"], offset))
    generic, _ = of(shared["generic"])
    np.testing.assert_allclose(got, (0.25 * own + 0.75 * generic, weight), rtol=1e-5)
