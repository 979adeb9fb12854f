import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hydrajax.nn import heads
from hydrajax.training import losses
from hydrajax.types import DataError


def targets(score, pool=None, label=None, mask=None):
    score = np.asarray(score, np.float32)
    n = len(score)
    return losses.Targets(
        label=jnp.asarray(score > 0 if label is None else label, jnp.float32),
        score=jnp.asarray(score),
        pool=jnp.asarray(np.zeros(n) if pool is None else pool, jnp.int32),
        mask=jnp.asarray(np.ones(n, bool) if mask is None else mask),
    )


S = jnp.array([0.3, -1.2, 2.0, 0.7, -0.4])
SCORE = [0.1, 0.9, 0.5, 0.5, 0.2]


def test_cross_entropy_is_minus_the_log_likelihood():
    y = np.array([1.0, 0.0, 0.25, 1.0, 0.0])
    p = 1 / (1 + np.exp(-np.asarray(S)))
    total, weight = losses.cross_entropy(S, targets(SCORE, label=y))
    np.testing.assert_allclose(total, -np.sum(y * np.log(p) + (1 - y) * np.log(1 - p)), rtol=1e-6)
    assert weight == 5


def test_cross_entropy_is_that_of_a_softmax_over_two_logits():
    two = np.array([[0.5, 0.8], [1.0, -0.2]])
    total, _ = losses.cross_entropy(jnp.asarray(two[:, 1] - two[:, 0], jnp.float32), targets([0, 0], label=[1, 0]))
    picked = two[[0, 1], [1, 0]]
    np.testing.assert_allclose(total, np.sum(np.log(np.exp(two).sum(axis=1)) - picked), rtol=1e-6)


def test_pairwise_is_bradley_terry_over_pairs_that_differ():
    pool = [0, 0, 0, 1, 1]
    total, weight = losses.pairwise(S, targets(SCORE, pool))
    wins = [(1, 0), (2, 0), (1, 2), (3, 4)]
    np.testing.assert_allclose(total, sum(np.log1p(np.exp(S[j] - S[i])) for i, j in wins), rtol=1e-6)
    assert weight == len(wins)


def test_regression_targets_are_standardised_within_the_pool():
    pool = [0, 0, 0, 1, 1]
    total, weight = losses.regression(S, targets(SCORE, pool))
    first, second = np.array(SCORE[:3]), np.array(SCORE[3:])
    t = np.concatenate([(first - first.mean()) / first.std(), (second - second.mean()) / second.std()])
    np.testing.assert_allclose(total, np.sum((np.asarray(S) - t) ** 2) / 2, rtol=1e-5)
    assert weight == 5


def test_listwise_is_the_softmax_of_the_pool_at_its_best_candidate():
    pool = [0, 0, 0, 1, 1]
    total, weight = losses.listwise(S, targets(SCORE, pool))
    s = np.asarray(S)
    expected = np.log(np.exp(s[:3]).sum()) - s[1] + np.log(np.exp(s[3:]).sum()) - s[3]
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    assert weight == 2


def test_listwise_shares_a_pool_among_equals_and_drops_pools_without_a_difference():
    pool = [0, 0, 0, 1, 1]
    total, weight = losses.listwise(S, targets([0.9, 0.9, 0.1, 0.5, 0.5], pool))
    s = np.asarray(S)
    np.testing.assert_allclose(total, np.log(np.exp(s[:3]).sum()) - (s[0] + s[1]) / 2, rtol=1e-6)
    assert weight == 1


def test_distillation_is_the_divergence_of_the_pools_softmax_from_that_of_the_scores():
    pool = [0, 0, 0, 1, 1]
    total, weight = losses.distillation(S, targets(SCORE, pool))

    def divergence(s, score):
        p = np.exp(score / losses.TEACHER) / np.exp(score / losses.TEACHER).sum()
        return np.sum(p * np.log(p / (np.exp(s) / np.exp(s).sum())))

    s, score = np.asarray(S, np.float64), np.array(SCORE)
    np.testing.assert_allclose(total, divergence(s[:3], score[:3]) + divergence(s[3:], score[3:]), rtol=1e-5)
    assert weight == 2
    alike, _ = losses.distillation(jnp.asarray(score / losses.TEACHER + 5.0, jnp.float32), targets(SCORE, pool))
    np.testing.assert_allclose(alike, 0.0, atol=1e-5)


def test_distillation_tells_a_second_best_from_the_worst_and_listwise_does_not():
    order = jnp.array([2.0, 1.0, 0.0])
    close, far = targets([1.0, 0.9, 0.0]), targets([1.0, 0.0, 0.0])

    def gradients(loss):
        of = jax.jit(jax.grad(lambda s, t: loss(s, t)[0]))
        return [of(order, t) for t in (close, far)]

    told = gradients(losses.distillation)
    assert told[0][1] < 0 < told[1][1]
    np.testing.assert_allclose(*gradients(losses.listwise))


@pytest.mark.parametrize("name", losses.LOSSES)
def test_the_mask_hides(name):
    loss = losses.get(name)
    pool = [0, 0, 0, 1, 1]
    kept = loss(S, targets(SCORE, pool, mask=[True, True, True, False, False]))
    alone = loss(S[:3], targets(SCORE[:3], pool[:3]))
    np.testing.assert_allclose(kept, alone, rtol=1e-6)
    wild = loss(S.at[3:].set(1e30), targets([*SCORE[:3], np.inf, np.nan], pool, mask=[True] * 3 + [False] * 2))
    np.testing.assert_allclose(wild, alone, rtol=1e-6)


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("score", [SCORE, [0.9, 0.9, 0.1, 0.5, 0.5], [0, 0, 1, 0, 1]], ids=["all", "ties", "labels"])
def test_curvature_is_the_second_derivative(name, score):
    loss = losses.get(name)
    where = targets(score, [0, 0, 0, 1, 1], label=[0, 1, 0.25, 1, 0], mask=[True] * 4 + [False])
    where = where.replace(margin=jnp.linspace(-1.0, 1.0, 5))
    v = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)

    @jax.jit  # operation by operation, dozens of programs would be compiled
    def both(s, product):
        return losses.curved(loss.curvature(s, where), product), jax.hessian(lambda s: loss(s, where)[0])(s) @ product

    for product in (v, v[:, 0]):
        np.testing.assert_allclose(*both(S, product), atol=1e-6)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_nothing_weighs_nothing_and_has_a_finite_gradient(name):
    def total(s):
        return losses.get(name)(s, targets(SCORE, mask=[False] * 5))[0]

    value, grad = jax.jit(jax.value_and_grad(total))(S)
    assert value == 0
    np.testing.assert_array_equal(grad, 0)


@pytest.mark.parametrize("name", losses.WITHIN_POOL)
def test_a_pool_without_any_difference_is_dropped(name):
    same = [0.7, 0.7, 0.7, 0.1, 0.9]
    pool = [0, 0, 0, 1, 1]
    got = losses.get(name)(S, targets(same, pool))
    np.testing.assert_allclose(got, losses.get(name)(S[3:], targets(same[3:], pool[3:])), rtol=1e-6)
    assert losses.get(name)(S[:3], targets(same[:3]))[1] == 0


@pytest.mark.parametrize("name", sorted({*losses.WITHIN_POOL} - {"distillation"}))  # which has a temperature
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_the_scale_of_the_score_does_not_count(name, scale):
    expected = losses.get(name)(S, targets(SCORE))
    got = losses.get(name)(S, targets(np.array(SCORE, np.float32) * np.float32(scale)))
    np.testing.assert_allclose(got, expected, rtol=1e-4)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_order_of_examples_does_not_count(name):
    order = np.array([3, 0, 4, 2, 1])
    pool = np.array([0, 0, 0, 1, 1])
    got = losses.get(name)(S[order], targets(np.array(SCORE)[order], pool[order]))
    np.testing.assert_allclose(got, losses.get(name)(S, targets(SCORE, pool)), rtol=1e-5)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_losses_are_float32_and_finite_for_large_scores(name):
    total, weight = losses.get(name)(jnp.array([1e4, -1e4], jnp.bfloat16), targets([0, 1]))
    assert total.dtype == weight.dtype == jnp.float32
    assert jnp.isfinite(total)


def test_an_unknown_loss_names_the_valid_ones():
    with pytest.raises(DataError, match="loss is 'hinge', expected one of cross_entropy, pairwise, regression"):
        losses.get("hinge")


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

            return losses.of_user(Mean(), pick, {}, {}, X, TARGETS.replace(label=label), key=key)[0]

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
    sides = np.stack([np.asarray(losses.halves(POOL, jax.random.key(seed))) for seed in range(30)])
    for pool in (5, 7, 2):
        own = sides[:, np.asarray(pool == POOL)]
        assert (own == own[:, :1]).all()
        assert 0 < own[:, 0].mean() < 1


def test_a_familys_own_term_is_that_of_an_example():
    key = jax.random.key(0)

    def loss_of(family):
        return jax.jit(lambda key: losses.of_user(family, losses.cross_entropy, {}, {}, X, TARGETS, key=key))(key)

    (plain, weight), (costly, same) = loss_of(Mean()), loss_of(Costly())
    assert weight == same == 7
    # Each half is the target once, and never its own context: the mean of both is half of the 7 examples.
    np.testing.assert_allclose(costly - plain, weight * 7 / 2, rtol=1e-5)


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_offsets_add_the_loss_of_the_generic_user(loss):
    family, linear = heads.get("generic_plus_offset", inner="linear", alpha=0.25), heads.get("linear")
    shared = {"generic": {"w": jnp.array([1.0, -1.0, 0.5]), "b": jnp.float32(0.1)}}
    offset = {"w": jnp.array([0.3, 2.0, -1.0]), "b": jnp.float32(-0.2)}
    fn = losses.get(loss)
    got = losses.of_user(family, fn, shared, offset, X, TARGETS, key=jax.random.key(0))

    def of(user):
        return fn(jax.vmap(lambda x: linear.score({}, user, x))(X), TARGETS)

    own, weight = of(jax.tree.map(jnp.add, shared["generic"], offset))
    generic, _ = of(shared["generic"])
    np.testing.assert_allclose(got, (0.25 * own + 0.75 * generic, weight), rtol=1e-5)
