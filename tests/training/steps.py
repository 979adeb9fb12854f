"""What tests of the step share: a small bank, its optimizers, and compiled steps."""

import functools

import jax
import numpy as np

from hydrajax.nn import heads, scorer
from hydrajax.training import optimizers, step
from hydrajax.training import state as states
from tests.training.conftest import D, X

C = 6  # capacity of the bank
MANY = 997  # that of a bank of which copies would show
DIMS = heads.Dims(features=D, extras=X)
HEAD_TX = optimizers.adamw(0.05, 0.1, clip=0.5)
BASE_TX = optimizers.adamw(0.01, 0.1)


@functools.cache
def build(family="mlp", loss="cross_entropy", **settings):
    one = scorer.Scorer(family=heads.get(family, **settings), dims=DIMS)
    state = states.init_state(one, BASE_TX, HEAD_TX, num_users=C, key=jax.random.key(0))
    return one, state, jax.jit(step.make_train_step(one, BASE_TX, HEAD_TX, loss=loss))


def many(family="linear", users=MANY, tx=HEAD_TX, base_tx=None, **settings):
    one = scorer.Scorer(family=heads.get(family, **settings), dims=DIMS)
    head = jax.jit(lambda key: one.family.init_user(key, DIMS))(jax.random.key(1))
    return one, states.init_state(one, base_tx, tx, num_users=users, key=jax.random.key(0), head=head)


def rows_of(state, rows):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[rows], (state.bank, state.bank_opt))


def run(update, state, *batches):
    for batch in batches:
        state, _ = update(state, batch)
    return state
