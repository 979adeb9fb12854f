"""Losses of one user's examples. Each returns (sum, weight); their quotient is the mean, taken once, where it is used.

Every loss takes the scores s [E], what is known of the examples, and the mask that hides padding. Scores are
compared within a pool only: the candidates of one query, or its records. `of_user` is the loss that training takes,
for every kind of head family.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Bool, Float, Integer

from hydrajax.nn import heads
from hydrajax.nn import scorer as scorers
from hydrajax.types import DataError

CONTEXT = 128  # most examples that a user is encoded from
INTERCEPT_ITERATIONS = 30
HIDDEN = 0.1  # of the contexts of users that are encoded
TEACHER = 0.1  # temperature at which scores are distilled
Weighted = tuple[Float[Array, ""], Float[Array, ""]]


@flax.struct.dataclass
class Targets:
    """What is known of examples, arrays of one shape [..., E].

    Attributes:
      label: float32 in [0, 1].
      score: float32, graded quality; only its order or its deviation inside the pool is used.
      pool: int32, the pool's number.
      mask: bool, true = a real example.
      margin: float32, added to the scores: what is known of an example from elsewhere; None: 0.
      beside: where examples of one pool lie beside each other, so many of them at most; None: nothing is known.
    """

    label: Any
    score: Any
    pool: Any
    mask: Any
    margin: Any = None
    beside: int | None = flax.struct.field(pytree_node=False, default=None)


def cross_entropy(s: Float[Array, " E"], targets: Targets) -> Weighted:
    """Binary cross-entropy: sum_i softplus(s_i) - y_i s_i; weight = examples.

    Equal to the cross-entropy of a softmax over two logits whose difference is s (HYDRA, arXiv 2406.02888).
    """
    s = _known(s, targets)
    each = jax.nn.softplus(s) - targets.label * s
    return _sum(each, targets.mask), jnp.sum(targets.mask, dtype=jnp.float32)


def intercepts(
    s: Float[np.ndarray, " N"],
    label: Float[np.ndarray, " N"],
    user: Integer[np.ndarray, " N"],
    num_users: int,
    strength: float = 1.0,
) -> Float[np.ndarray, " U"]:
    """What to add to each user's scores under the cross-entropy, with a Gaussian prior around 0."""
    b = np.zeros(num_users)
    for _ in range(INTERCEPT_ITERATIONS):
        p = scipy.special.expit(s + b[user])
        slope = np.bincount(user, p - label, num_users) + strength * b
        # A step of at most 1: far from the minimum the curvature tells nothing.
        b -= np.clip(slope / (np.bincount(user, p * (1.0 - p), num_users) + strength), -1.0, 1.0)
    return b.astype(np.float32)


def pairwise(s: Float[Array, " E"], targets: Targets) -> Weighted:
    """Bradley-Terry: sum of softplus(-(s_i - s_j)) over pairs of a pool with score_i > score_j; weight = pairs.

    Bradley and Terry (Biometrika 1952). Pools without any difference hold no pair.
    """
    s = _known(s, targets)
    if targets.beside is None or targets.beside > s.shape[0]:
        wins = _same_pool(targets) & (targets.score[:, None] > targets.score[None, :])
        each = jax.nn.softplus(s[None, :] - s[:, None])
        return _sum(each, wins), jnp.sum(wins, dtype=jnp.float32)

    def at(distance: int) -> Weighted:
        """Of pairs that lie so far apart: where pools are small, these are few of all."""
        (pool, pool_), (mask, mask_), (score, score_), (s_one, s_other) = (
            (leaf[:-distance], leaf[distance:]) for leaf in (targets.pool, targets.mask, targets.score, s)
        )
        differ = (pool == pool_) & mask & mask_ & (score != score_)
        each = jax.nn.softplus(jnp.where(score > score_, s_other - s_one, s_one - s_other))
        return _sum(each, differ), jnp.sum(differ, dtype=jnp.float32)

    sums, weights = zip(*(at(distance) for distance in range(1, targets.beside)), strict=True)
    return sum(sums, jnp.zeros(())), sum(weights, jnp.zeros(()))


def regression(s: Float[Array, " E"], targets: Targets) -> Weighted:
    """Within-pool regression: sum_i (s_i - t_i)^2 / 2, t = the score standardised inside its pool; weight = examples.

    Pools without any difference are dropped: they say nothing about the order of their candidates.
    """
    s = _known(s, targets)
    same = _same_pool(targets)
    keep = _differs(targets)
    size = jnp.maximum(jnp.sum(same, axis=1, dtype=jnp.float32), 1.0)
    score = jnp.where(keep, targets.score, 0.0)
    centred = score - jnp.where(same, score[None, :], 0.0).sum(axis=1) / size
    variance = jnp.where(same, centred[None, :] ** 2, 0.0).sum(axis=1) / size
    target = centred * jax.lax.rsqrt(jnp.where(keep & (variance > 0.0), variance, 1.0))
    return _sum(0.5 * (s - target) ** 2, keep), jnp.sum(keep, dtype=jnp.float32)


def listwise(s: Float[Array, " E"], targets: Targets) -> Weighted:
    """Conditional logit: sum over pools of -log P(a best candidate is chosen), P the softmax of the pool's scores.

    Where several candidates of a pool have the highest score, each counts its share; weight = pools. Pools without any
    difference are dropped. McFadden, Conditional logit analysis of qualitative choice behavior, 1974.
    """
    s = _known(s, targets)
    same = _same_pool(targets)
    score = targets.score[None, :]
    best = _differs(targets) & targets.mask & ~jnp.any(same & (score > targets.score[:, None]), axis=1)
    share = 1.0 / jnp.maximum(jnp.sum(same & best[None, :], axis=1, dtype=jnp.float32), 1.0)
    total = _pool_logsumexp(s, targets)
    return _sum(share * (total - s), best), _sum(share, best)


def distillation(s: Float[Array, " E"], targets: Targets) -> Weighted:
    """Distillation: sum over pools of KL(softmax(score / t) || softmax(s)), t = `TEACHER`; weight = pools.

    Other than for `listwise`, how much better the best one is counts, and a second best counts, too. Pools without any
    difference are dropped. Of the LLM's feedback on records: CFRAG, arXiv 2504.05731.
    """
    s = _known(s, targets)
    same, keep = _same_pool(targets), _differs(targets)
    teacher = jnp.where(keep, targets.score, 0.0) / TEACHER
    log_p = jnp.where(keep, teacher - _pool_logsumexp(teacher, targets), 0.0)
    size = jnp.maximum(jnp.sum(same, axis=1, dtype=jnp.float32), 1.0)
    return _sum(jnp.exp(log_p) * (log_p - s + _pool_logsumexp(s, targets)), keep), _sum(1.0 / size, keep)


Curvature = Float[Array, " E"] | Float[Array, "E E"]  # the diagonal of a loss's Hessian by the scores, or all of it


def cross_entropy_curvature(s: Float[Array, " E"], targets: Targets) -> Float[Array, " E"]:
    p = jax.nn.sigmoid(_known(s, targets))
    return jnp.where(targets.mask, p * (1.0 - p), 0.0)


def pairwise_curvature(s: Float[Array, " E"], targets: Targets) -> Float[Array, "E E"]:
    s = _known(s, targets)
    p = jax.nn.sigmoid(s[:, None] - s[None, :])
    differ = _same_pool(targets) & (targets.score[:, None] != targets.score[None, :])
    pairs = jnp.where(differ, p * (1.0 - p), 0.0)
    return jnp.diag(jnp.sum(pairs, axis=1)) - pairs


def regression_curvature(s: Float[Array, " E"], targets: Targets) -> Float[Array, " E"]:
    return _differs(targets).astype(jnp.float32)


def listwise_curvature(s: Float[Array, " E"], targets: Targets) -> Float[Array, "E E"]:
    s = _known(s, targets)
    p = jnp.where(_differs(targets), jnp.exp(s - _pool_logsumexp(s, targets)), 0.0)
    return jnp.diag(p) - jnp.where(_same_pool(targets), p[:, None] * p[None, :], 0.0)


def curved(curvature: Curvature, v: Float[Array, " E *n"]) -> Float[Array, " E *n"]:
    """The product of a loss's Hessian and v."""
    if curvature.ndim == 2:
        return curvature @ v
    return jnp.reshape(curvature, (-1, *[1] * (v.ndim - 1))) * v


Loss = Callable[[Float[Array, " E"], Targets], Weighted]


def first_of_pool(targets: Targets) -> Integer[Array, " E"]:
    """The place of the first example of each one's pool."""
    return jnp.argmax(_same_pool(targets), axis=1)


@dataclasses.dataclass(frozen=True)
class ConvexLoss:
    """A loss that is convex in the scores.

    Attributes:
      of: scores [E], targets -> (sum, weight).
      curvature: scores [E], targets -> the Hessian of the sum by the scores, see `curved`.
    """

    of: Loss
    curvature: Callable[[Float[Array, " E"], Targets], Curvature]

    def __call__(self, s: Float[Array, " E"], targets: Targets) -> Weighted:
        return self.of(s, targets)


LOSSES: dict[str, ConvexLoss] = {
    "cross_entropy": ConvexLoss(cross_entropy, cross_entropy_curvature),
    "pairwise": ConvexLoss(pairwise, pairwise_curvature),
    "regression": ConvexLoss(regression, regression_curvature),
    "listwise": ConvexLoss(listwise, listwise_curvature),
    # The teacher shifts the gradient alone.
    "distillation": ConvexLoss(distillation, listwise_curvature),
    # Cumulative logits: an example is a pair of a question and a level, its label whether the rating reaches the level.
    "ordinal": ConvexLoss(cross_entropy, cross_entropy_curvature),
}
MOST_BESIDE = 16  # examples of a pool, up to which pairs are looked up by their distance
WITHIN_POOL = ("pairwise", "regression", "listwise", "distillation")  # a pool must not be divided among mini-batches
OF_DIFFERENCES = ("pairwise", "listwise", "distillation")  # what is added to all scores of a pool changes nothing


def beside(pool: Integer[np.ndarray, " N"]) -> int | None:
    """`Targets.beside` of examples whose pools are never divided; one of few different numbers."""
    largest = int(np.unique(pool, return_counts=True)[1].max(initial=1))
    return None if largest > MOST_BESIDE else max(2, 1 << (largest - 1).bit_length())


def get(name: str) -> ConvexLoss:
    """The loss of that name.

    Raises:
      DataError: there is no such loss.
    """
    if name not in LOSSES:
        raise DataError(f"loss is {name!r}, expected one of {', '.join(LOSSES)}")
    return LOSSES[name]


def of_user(
    family: heads.Family,
    loss: Loss,
    shared: heads.Shared,
    user: heads.User,
    x: Float[Array, "E I"],
    targets: Targets,
    *,
    key: Array,
) -> Weighted:
    """(sum, weight) of one user's examples, as pretraining has it.

    Where users are encoded, an example must not be in its own context: there its label would give it away. The user's
    pools are drawn into two halves, anew in every update; the examples of each half are scored by the user as the other
    half shows them, at most `CONTEXT` examples of it. One context in ten is hidden, so that the user without a profile
    is trained as well.

    Args:
      family: head family.
      loss: of scores.
      shared: parameters that all users share.
      user: the stored parameters; {} where the family encodes users.
      x: inputs of the heads.
      targets: what is known of the examples, and their mask.
      key: of dropout, of the halves, and of what the family draws.
    """
    if isinstance(family, heads.Encoded):
        return _encoded(family, loss, shared, x, targets, key)
    if not hasattr(family, "trained_as"):
        return loss(scorers.logits(family, shared, user, x, key=key), targets)
    parts = [
        (share, loss(scorers.logits(family, shared, member, x, key=key), targets))
        for share, member in family.trained_as(shared, user)
    ]
    return sum((share * total for share, (total, _) in parts), jnp.zeros(())), parts[0][1][1]


def halves(pool: Any, key: Array) -> Bool[Array, " E"]:
    """Which half an example is in; examples of one pool are in the same one."""
    return jax.vmap(lambda number: jax.random.bernoulli(jax.random.fold_in(key, number)))(pool)


def _encoded(
    family: heads.Encoded, loss: Loss, shared: heads.Shared, x: Array, targets: Targets, key: Array
) -> Weighted:
    keys = jax.random.split(key, 5)
    draw, hide, dropout = keys[2:]
    second = halves(targets.pool, draw)
    seen = jax.random.bernoulli(hide, 1.0 - HIDDEN, (2,))

    def by(shows: Array, seen: Array, key: Array) -> tuple[Any, Array]:
        """The user as the examples of `shows` show them, and the family's own term."""
        shown = targets.mask & shows
        first = jnp.argsort(~shown, stable=True)[:CONTEXT]
        context = heads.Context(x=x[first], label=targets.label[first], mask=shown[first] & seen)
        user = family.encode_user(shared, context, key)
        if not hasattr(family, "penalty"):
            return user, jnp.zeros(())
        target = heads.Context(x=x, label=targets.label, mask=targets.mask & ~shows)
        return user, family.penalty(shared, user, context, target)

    users, penalties = jax.vmap(by)(jnp.stack([~second, second]), seen, keys[:2])

    def score(row: Array, second: Array, key: Array) -> Array:
        # Each example once: most of a score may be what its two users have in common.
        other = jax.tree.map(lambda leaf: jnp.where(second, leaf[0], leaf[1]), users)
        return family.score(shared, other, row, key)

    s = jax.vmap(score)(x, second, jax.random.split(dropout, len(x)))
    total, weight = loss(s, targets)
    return total + weight * jnp.mean(penalties), weight


def _known(s: Float[Array, " E"], targets: Targets) -> Float[Array, " E"]:
    s = s.astype(jnp.float32)
    return s if targets.margin is None else s + targets.margin


def _same_pool(targets: Targets) -> Bool[Array, "E E"]:
    both = targets.mask[:, None] & targets.mask[None, :]
    return both & (targets.pool[:, None] == targets.pool[None, :])


def _differs(targets: Targets) -> Bool[Array, " E"]:
    """Whether an example's pool holds another score."""
    return jnp.any(_same_pool(targets) & (targets.score[:, None] != targets.score[None, :]), axis=1)


def _pool_logsumexp(s: Float[Array, " E"], targets: Targets) -> Float[Array, " E"]:
    """Of the scores of each example's pool; of all of them for padding, where nothing would be minus infinity."""
    same = _same_pool(targets)
    return jax.nn.logsumexp(jnp.broadcast_to(s, same.shape), axis=1, where=same | ~targets.mask[:, None])


def _sum(each: Float[Array, "*n"], keep: Bool[Array, "*n"]) -> Float[Array, ""]:
    return jnp.sum(jnp.where(keep, each, 0.0))
