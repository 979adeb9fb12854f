"""A small bank of heads, and what it was made with."""

import functools

import jax
import numpy as np

from hydrajax.nn import heads, scorer
from hydrajax.training import optimizers, step
from hydrajax.training import state as states
from tests.training.conftest import D, X, make_batch

C = 6
DIMS = heads.Dims(features=D, extras=X)
TX = optimizers.adamw(0.05, 0.1)
MLP = heads.get("mlp", dropout=0.0)
ONE = scorer.Scorer(family=MLP, dims=DIMS)
POOLED = MLP.init_user(jax.random.key(7), DIMS)
FRESH = states.initial(ONE, TX, head=POOLED)
UPDATE = jax.jit(step.make_train_step(ONE, TX, TX))
IDS = ("ann", "bob", "cyd", "dee")


def fresh_state():
    return states.init_state(ONE, TX, TX, num_users=C, key=jax.random.key(0), head=POOLED)


def row(state, number):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[number], state.stored)


@functools.cache
def trained_state():
    """A bank whose first four rows have learned."""
    state = fresh_state()
    for seed in range(3):
        state, _ = UPDATE(state, make_batch([0, 1, 2, 3], seed=seed))
    return state
