"""What all users share learns beside the training users' heads, in updates over batches of users."""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hydrajax.nn import encode, heads, tokens
from hydrajax.nn import scorer as scorers
from hydrajax.training import config as configs
from hydrajax.training import loop, losses, optimizers, rows, sharded, step
from hydrajax.training import state as states
from hydrajax.training.config import FitConfig
from hydrajax.training.examples import Examples
from hydrajax.training.fitted import Fitted

CHECKPOINTS = 20  # at most, while a base is trained: a killed run loses one part in so many of it, or an update
NEVER = 1e30  # updates


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Rates:
    """The numbers of a step, which may be traced: with others it is not compiled anew.

    Attributes:
      base: rate of the base; None where it is frozen.
      shared: rate of what is shared.
      heads: rate of heads, in their units.
      decay: of weights, decoupled.
      total: updates over which the rates of base and shared parameters fall to 0.
      heads_total: a head's updates, over which its rate does.
      prior: strength of the heads' prior.
      offset_prior: that of offsets, in it.
      shared_prior: strength of the prior of what is shared, over all examples.
    """

    base: Any
    shared: Any
    heads: Any
    decay: Any
    total: Any
    heads_total: Any
    prior: Any
    offset_prior: Any
    shared_prior: Any

    def optimizers(self, clip: float, moments: str) -> tuple[Any, Any]:
        """Of (base, shared), and of one head."""
        until = {"clip": clip, "total": self.total}
        if self.base is None:
            base_tx = optimizers.adamw(self.shared, self.decay, **until)
        else:
            base_tx = optimizers.base_adamw(self.base, self.shared, self.decay, **until)
        head_tx = optimizers.adamw(self.heads, self.decay, clip=clip, total=self.heads_total, moments=moments)
        return base_tx, head_tx


def train(
    fitted: Fitted,
    examples: Examples,
    num_users: int,
    *,
    epochs: int,
    base: encode.Base | None = None,
    head: heads.User | None = None,
    checkpoint: str | pathlib.Path | None = None,
    progress: loop.Progress | None = None,
) -> tuple[states.TrainState, list[float]]:
    """Updates over batches of users, in which base, shared parameters and heads learn at once.

    Where the base is frozen, users' heads have the rate of what is shared, in their units, and both fall to 0. Users
    that are encoded are in a batch with all examples that a context and its targets hold.

    Args:
      fitted: its configuration, widths and normaliser; parameters begin as they are there, what is not there anew.
      examples: of users 0..num_users-1.
      num_users: how many heads the bank has.
      epochs: passes over the examples.
      base: a base that is trained; the examples then hold tokens.
      head: where users without a head start, and all are pulled to; None: an initialisation of each user's own, and
        zeros.
      checkpoint: a folder to resume from, and to save into every epoch, or where a base is trained `CHECKPOINTS` times.
      progress: called with (updates done, updates).

    Returns:
      (the last state, mean loss of every epoch).
    """
    config, family = fitted.config, fitted.family
    plan = _planned(fitted, examples, num_users, epochs, base is not None)
    rates = _rates(config, examples, plan, fitted, base is not None, pulled=head is not None)
    scorer = scorers.Scorer(family=family, dims=fitted.dims)
    if base is not None and isinstance(examples.x, tokens.Tokens):
        at_once = config.micro_batch or rows.texts_at_once(examples.x.ids.shape[1])
        scorer = dataclasses.replace(scorer, module=base.module, pooling=base.pooling, micro_batch=at_once)
    state = _begun(scorer, config, rates, num_users, base, head)
    known = {name: part for name, part in fitted.shared.items() if name in state.shared}
    state = state.replace(shared={**state.shared, **known}, bank=fitted.bank or state.bank)
    mesh, units = sharded.default_mesh(), heads.units(family, fitted.dims, scaled=config.scaled)
    update = _program(scorer, config.loss, config.clip, config.moments, mesh, False)
    return loop.run(
        functools.partial(update, rates=rates, normaliser=fitted.normaliser, units=units),
        state,
        plan,
        checkpoint=checkpoint,
        save_every=None if base is None else max(1, -(-plan.ends[-1] // CHECKPOINTS)),
        run_id="" if checkpoint is None else _run_id(config, examples, num_users, base),
        mesh=mesh,
        compiled=True,
        progress=progress,
    )


def sweep(
    fitted: Fitted,
    examples: Examples,
    num_users: int,
    configs_: Sequence[FitConfig],
    *,
    epochs: int,
    head: heads.User | None = None,
) -> list[heads.Shared]:
    """What users share as `train` learns it under each of several configurations, side by side.

    These differ in rates and in strengths of priors; a batch is made once for all of them.
    """
    config, family = fitted.config, fitted.family
    plan = _planned(fitted, examples, num_users, epochs, False)
    made = [_rates(one, examples, plan, fitted, False, pulled=head is not None) for one in configs_]
    rates = jax.tree.map(lambda *leaves: jnp.asarray(leaves, jnp.float32), *made)
    scorer = scorers.Scorer(family=family, dims=fitted.dims)
    state = _begun(scorer, config, made[0], num_users, None, head)
    state = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(made)), state)
    update = _program(scorer, config.loss, config.clip, config.moments, None, True)
    units = heads.units(family, fitted.dims, scaled=config.scaled)
    program = functools.partial(update, rates=rates, normaliser=fitted.normaliser, units=units)
    shared = jax.device_get(loop.run(program, state, plan, compiled=True)[0].shared)
    return [jax.tree.map(lambda leaf: leaf[i], shared) for i in range(len(made))]  # noqa: B023


def updates_an_epoch(fitted: Fitted, examples: Examples, num_users: int) -> int:
    """Updates of what is shared, beside a frozen base, in one pass over the examples."""
    return max(1, _planned(fitted, examples, num_users, 1, False).ends[-1])


def _planned(fitted: Fitted, examples: Examples, num_users: int, epochs: int, trains_base: bool) -> loop.Plan:
    config, family = fitted.config, fitted.family
    encodes = isinstance(family, heads.Encoded)
    if trains_base:
        # As many users as fill a batch with the fewest examples each that leave no padding, so that they are mixed.
        most, total = config.users_per_batch, config.base_batch_examples
        size = min(config.batch_examples, total, max(loop.SMALLEST, -(-total // max(num_users, 1))))
    else:
        stored = heads.stores_users(family, fitted.dims)
        most = min(config.users_per_batch, rows.frozen_users(num_users, stored=stored))
        size, total = config.batch_examples, None
        # In equal parts, else what is left over of each user would make updates, and a program, of its own.
        count = int(np.bincount(examples.user).max(initial=1))
        part = -(-count // -(-count // size))
        size = min(size, part + (int(np.unique(examples.pool, return_counts=True)[1].max(initial=1)) - 1) % size)
    return loop.plan(
        examples,
        num_users,
        epochs=epochs,
        users_per_batch=max(1, min(most, num_users)),
        batch_examples=max(config.batch_examples, 2 * losses.CONTEXT) if encodes else size,
        total_examples=total,
        prior_strength=1.0,
        seed=config.seed,
        # The other half of a divided pool would be lost to a loss inside pools, and tell an encoded user's own labels.
        whole_pools=config.loss in losses.WITHIN_POOL or encodes,
        clusters=getattr(family, "clusters", 0) if encodes else 0,
    )


def _rates(
    config: FitConfig, examples: Examples, plan: loop.Plan, fitted: Fitted, trains_base: bool, *, pulled: bool
) -> Rates:
    numbers, units = configs.numbers_of(config), heads.units(fitted.family, fitted.dims, scaled=config.scaled)
    strength = numbers.prior_strength
    return Rates(
        base=config.base_learning_rate if trains_base else None,
        shared=numbers.pooled_learning_rate,
        heads=(numbers.learning_rate if trains_base else numbers.pooled_learning_rate) / units.step,
        decay=config.weight_decay,
        total=float(plan.ends[-1]),
        heads_total=float(plan.updates().max(initial=1)) if config.decays or not trains_base else NEVER,
        prior=strength if pulled else 0.0,
        offset_prior=numbers.offset_strength / strength if strength and config.scaled else 1.0,
        shared_prior=numbers.pooled_ridge / max(len(examples.user), 1),
    )


def _begun(
    scorer: scorers.Scorer,
    config: FitConfig,
    rates: Rates,
    num_users: int,
    base: encode.Base | None,
    head: heads.User | None,
) -> states.TrainState:
    return states.init_state(
        scorer,
        *rates.optimizers(config.clip, config.moments),
        num_users=num_users,
        key=jax.random.key(config.seed),
        base=base.params if base is not None else None,
        head=head,
    )


@functools.lru_cache(maxsize=16)
def _program(
    scorer: scorers.Scorer, loss: str, clip: float, moments: str, mesh: jax.sharding.Mesh | None, swept: bool
) -> Callable[..., Any]:
    """The compiled step: update(state, batch, rates=, normaliser=, units=), of several states where `swept`."""
    make = step.make_train_step if mesh is None else functools.partial(sharded.make_sharded_step, mesh=mesh)

    def update(state: Any, batch: Any, *, rates: Rates, normaliser: Any, units: heads.Units) -> Any:
        def one(state: Any, rates: Rates) -> Any:
            base_tx, head_tx = rates.optimizers(clip, moments)
            learn = make(
                scorer,
                base_tx,
                head_tx,
                loss=loss,
                normaliser=normaliser,
                units=dataclasses.replace(units, offset_prior=rates.offset_prior),
                shared_pull=rates.shared_prior,
            )
            return learn(state, batch.replace(pull=batch.pull * rates.prior))

        return jax.vmap(one)(state, rates) if swept else one(state, rates)

    return jax.jit(update, donate_argnums=0)


def _run_id(config: FitConfig, examples: Examples, num_users: int, base: encode.Base | None) -> str:
    hasher = hashlib.sha256(json.dumps([dataclasses.asdict(config), num_users, base.digest if base else ""]).encode())
    for leaf in jax.tree.leaves([getattr(examples, field.name) for field in dataclasses.fields(examples)]):
        hasher.update(np.ascontiguousarray(leaf).tobytes())
    return hasher.hexdigest()
