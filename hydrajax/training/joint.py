"""Joint training: the train step over batches of users, for what users share and for a base that is not frozen."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax

from hydrajax.nn import heads
from hydrajax.nn import scorer as scorers
from hydrajax.training import batches, encoded, loop, losses, optimizers, step
from hydrajax.training import state as states
from hydrajax.training.examples import Examples
from hydrajax.training.fitted import FitConfig

Progress = Callable[[int, int], None]
FROZEN_USERS = 8  # in one update of shared parameters on frozen features


def together(
    config: FitConfig,
    scorer: scorers.Scorer,
    normaliser: scorers.Normaliser,
    examples: Examples,
    num_users: int,
    *,
    epochs: int,
    base: Any = None,
    head: heads.User | None = None,
    checkpoint: str | pathlib.Path | None = None,
    run_id: str = "",
    progress: Progress | None = None,
) -> tuple[Any, list[float]]:
    """Updates over batches of users, in which base, shared parameters and heads learn at once.

    Where the base is frozen, an update sees about as many examples as one of the pooled head: shared parameters then
    get as many updates. Users that are encoded are in a batch with all examples that a context and its targets hold.

    Args:
      config: rates, batches, loss.
      scorer: with a module where the examples hold tokens.
      normaliser: statistics of the inputs.
      examples: of users 0..num_users-1.
      num_users: how many heads the bank has.
      epochs: passes over the examples.
      base: parameters of a base that is trained.
      head: where every user starts and is pulled to; None: an initialisation of each user's own, and zeros.
      checkpoint: a folder to save into every epoch and to resume from.
      run_id: tells checkpoints of different runs apart.
      progress: called with (updates done, updates).

    Returns:
      (the last state, mean loss of every epoch).
    """
    encodes = isinstance(scorer.family, heads.Encoded)
    most = config.users_per_batch if base is not None else min(config.users_per_batch, FROZEN_USERS)
    settings = batches.Settings(
        epochs=epochs,
        users_per_batch=max(1, min(most, num_users)),
        batch_examples=max(config.batch_examples, 2 * encoded.CONTEXT) if encodes else config.batch_examples,
        prior_strength=config.prior_strength if head is not None else 0.0,
        seed=config.seed,
        # The other half of a divided pool would be lost to a loss inside pools, and tell an encoded user's own labels.
        whole_pools=config.loss in losses.WITHIN_POOL or encodes,
    )
    total = float(sum(len(epoch) for epoch in batches.plan(examples, num_users, settings)))
    rate = config.pooled_learning_rate if base is None else config.base_learning_rate
    base_tx = optimizers.adamw(rate, config.weight_decay, total=total)
    head_tx = optimizers.adamw(config.learning_rate * heads.rate(scorer.family), config.weight_decay)
    key = jax.random.key(config.seed)
    state = states.init_state(scorer, base_tx, head_tx, num_users=num_users, key=key, base=base, head=head)
    update = step.make_train_step(scorer, base_tx, head_tx, loss=config.loss, normaliser=normaliser)
    return loop.run(
        update, state, examples, num_users, settings, checkpoint=checkpoint, run_id=run_id, progress=progress
    )
