"""Joint training: the train step over batches of users, for what users share and for a base that is not frozen."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax

from hydrajax.nn import heads
from hydrajax.nn import scorer as scorers
from hydrajax.training import batches, loop, losses, optimizers, step
from hydrajax.training.examples import Examples
from hydrajax.training.fitted import FitConfig

Progress = Callable[[int, int], None]


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
    settings = batches.Settings(
        epochs=epochs,
        users_per_batch=max(1, min(config.users_per_batch, num_users)),
        batch_examples=config.batch_examples,
        prior_strength=config.prior_strength if head is not None else 0.0,
        seed=config.seed,
        whole_pools=config.loss in losses.WITHIN_POOL,
    )
    total = float(sum(len(epoch) for epoch in batches.plan(examples, num_users, settings)))
    rate = config.pooled_learning_rate if base is None else config.base_learning_rate
    base_tx = optimizers.adamw(rate, config.weight_decay, total=total)
    head_tx = optimizers.adamw(config.learning_rate, config.weight_decay)
    key = jax.random.key(config.seed)
    state = step.init_state(scorer, base_tx, head_tx, num_users=num_users, key=key, base=base, head=head)
    update = step.make_train_step(scorer, base_tx, head_tx, loss=config.loss, normaliser=normaliser)
    return loop.run(
        update, state, examples, num_users, settings, checkpoint=checkpoint, run_id=run_id, progress=progress
    )
