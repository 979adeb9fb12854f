"""The loss of one user's examples, as pretraining has it, for every kind of family.

Where users are encoded, an example must not be in its own context: there its label would give it away. Each user's
pools are drawn into two halves, anew in every update; the examples of each half are scored by the user as the other
half shows them. One context in ten is hidden, so that the user without a profile is trained as well.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from hydrajax.nn import heads
from hydrajax.nn import scorer as scorers
from hydrajax.training import losses

HIDDEN = 0.1


def of(
    family: heads.Family,
    loss: losses.Loss,
    shared: heads.Shared,
    user: heads.User,
    x: Float[Array, "E I"],
    targets: losses.Targets,
    *,
    key: Array,
) -> losses.Weighted:
    """(sum, weight) of one user's examples.

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
    each = [
        (share, loss(scorers.logits(family, shared, one, x, key=key), targets))
        for share, one in family.trained_as(shared, user)
    ]
    return sum((share * value for share, (value, _) in each), jnp.zeros(())), each[0][1][1]


def halves(pool: Any, key: Array) -> Bool[Array, " E"]:
    """Which half an example is in; examples of one pool are in the same one."""
    return jax.vmap(lambda number: jax.random.bernoulli(jax.random.fold_in(key, number)))(pool)


def _encoded(
    family: heads.Encoded, loss: losses.Loss, shared: heads.Shared, x: Array, targets: losses.Targets, key: Array
) -> losses.Weighted:
    keys = jax.random.split(key, 5)
    draw, hide, dropout = keys[2:]
    second = halves(targets.pool, draw)
    seen = jax.random.bernoulli(hide, 1.0 - HIDDEN, (2,))

    def by(shows: Array, seen: Array, one: Array) -> tuple[Array, Array]:
        """Scores by the user as the examples of `shows` show them, and the family's own term."""
        context = heads.Context(x=x, label=targets.label, mask=targets.mask & shows & seen)
        user = family.encode_user(shared, context, one)
        s = scorers.logits(family, shared, user, x, key=dropout)
        if not hasattr(family, "penalty"):
            return s, jnp.zeros(())
        target = heads.Context(x=x, label=targets.label, mask=targets.mask & ~shows)
        return s, family.penalty(shared, user, context, target)

    (by_first, by_second), terms = jax.vmap(by)(jnp.stack([~second, second]), seen, keys[:2])
    value, weight = loss(jnp.where(second, by_first, by_second), targets)
    return value + weight * jnp.mean(terms), weight
