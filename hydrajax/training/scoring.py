"""Scores of many users' examples, each by the user's own head."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hydrajax.nn import heads
from hydrajax.nn import scorer as scorers
from hydrajax.training import chunks


def score(
    family: heads.Family,
    shared: heads.Shared,
    users: heads.User,
    x: np.ndarray,
    extras: np.ndarray,
    rows: np.ndarray,
    *,
    normaliser: scorers.Normaliser,
    size: int = 32,
) -> np.ndarray:
    """Scores float32 [N] of x [N, D], extras [N, X] by the heads of `rows` [N] in a stack [C, ...]; dropout is off."""
    num_users = int(rows.max(initial=-1)) + 1
    made = chunks.make(rows, np.zeros_like(rows), num_users, size=size)
    owner = np.repeat(np.arange(num_users, dtype=np.int32), (made.stop - made.start)[0])
    m = chunks.padded(len(made.rows))
    # Only the heads that are asked for are copied to the device, in a stack of few different sizes.
    stack = jax.tree.map(lambda leaf: chunks.pad(np.asarray(leaf)[:num_users], chunks.padded(num_users)), users)
    taken = chunks.pad(made.rows, m, -1)
    n = chunks.padded(len(rows))
    out = np.asarray(
        _scores(family)(normaliser, shared, stack, chunks.pad(x, n), chunks.pad(extras, n), taken, chunks.pad(owner, m))
    )
    result = np.zeros(len(rows), np.float32)
    real = taken >= 0
    result[taken[real]] = out[real]
    return result


@functools.lru_cache(maxsize=64)
def _scores(family: heads.Family) -> Any:
    def run(normaliser, shared, users, x, extras, rows, owner):
        def chunk(args):
            taken, who = args
            user = jax.tree.map(lambda leaf: leaf[who], users)
            take = jnp.maximum(taken, 0)
            return scorers.logits(family, shared, user, scorers.inputs(normaliser, x[take], extras[take]))

        return jax.lax.map(chunk, (rows, owner))

    return jax.jit(run)
