"""Users in one forward pass each, for families that store nothing: their own examples are the context."""

import functools
from typing import Any

import jax
import numpy as np

from hydrajax.nn import heads
from hydrajax.nn import scorer as scorers
from hydrajax.training.examples import Examples

CONTEXT = 128  # most examples that a user is encoded from
GROUP = 16  # users in one forward pass


def users(
    family: heads.Encoded,
    shared: heads.Shared,
    examples: Examples,
    num_users: int,
    *,
    normaliser: scorers.Normaliser,
) -> heads.User:
    """Users 0..num_users-1, stacked [num_users, ...], numpy.

    A user is made of that user's examples alone, without regard to their order. Of more than `CONTEXT` examples as
    many are taken, evenly spread. (MoF takes the latest records; examples are several to a record.) Nobody's examples
    are a user without a profile, `family.generic(shared)`.

    Args:
      family: which encodes.
      shared: its parameters.
      examples: of these users; x holds features.
      num_users: how many.
      normaliser: statistics of the inputs.
    """
    x: Any = examples.x
    extras, label, user = examples.extras, examples.label, examples.user
    order = np.argsort(user, kind="stable")
    ends = np.searchsorted(user[order], np.arange(num_users + 1))
    rows = np.full((-(-max(num_users, 1) // GROUP) * GROUP, CONTEXT), -1, np.int32)
    for number in range(num_users):
        own = order[ends[number] : ends[number + 1]]
        if len(own) > CONTEXT:
            own = own[np.linspace(0, len(own) - 1, CONTEXT).astype(int)]
        rows[number, : len(own)] = own
    if not len(user):  # something to point at
        x, extras, label = (np.zeros((1, *leaf.shape[1:]), np.float32) for leaf in (x, extras, label))
    parts = []
    for first in range(0, len(rows), GROUP):
        part = rows[first : first + GROUP]
        take = np.maximum(part, 0)
        found = _encode(family)(normaliser, shared, x[take], extras[take], label[take], part >= 0)
        parts.append(jax.device_get(found))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num_users], *parts)


@functools.lru_cache(maxsize=64)
def _encode(family: heads.Encoded) -> Any:
    def run(normaliser, shared, x, extras, label, mask):
        contexts = heads.Context(x=scorers.inputs(normaliser, x, extras), label=label, mask=mask)
        return jax.vmap(lambda context: family.encode_user(shared, context))(contexts)

    return jax.jit(run)
