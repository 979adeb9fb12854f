"""The step of a joint fit, compiled once for all trials of what is chosen."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax

from hydrajax.nn import heads
from hydrajax.nn import scorer as scorers
from hydrajax.training import config as configs
from hydrajax.training import optimizers, sharded, step
from hydrajax.training import state as states


@flax.struct.dataclass
class Varying:
    """What trials of `train_jointly` differ in, so that they share a compiled step.

    Attributes:
      rate: of heads, before their units' factor.
      updates: over which it falls to 0; None: it stays.
      shared_rate: of what is shared.
      shared_updates: over which it, and a base's, falls to 0.
      offset_prior: of `heads.Units`, where these are the family's.
      normaliser: statistics of the inputs.
    """

    rate: Any
    updates: Any
    shared_rate: Any
    shared_updates: Any
    offset_prior: Any
    normaliser: scorers.Normaliser


def optimizers_of(
    scorer: scorers.Scorer, config: configs.FitConfig, trains_base: bool, varying: Varying
) -> tuple[Any, Any, Any]:
    """(Optimizer of what is shared and of the base, that of heads, their units)."""
    units = heads.units(scorer.family, scorer.dims, scaled=config.scaled)
    rate = varying.rate * heads.rate(scorer.family, units.scale)
    head_tx = optimizers.adamw(
        rate, config.weight_decay, clip=config.clip, total=varying.updates, moments=config.moments
    )
    until = {"clip": config.clip, "total": varying.shared_updates}
    if config.scaled:
        units = dataclasses.replace(units, offset_prior=varying.offset_prior)
    if not trains_base:
        return optimizers.adamw(varying.shared_rate, config.weight_decay, **until), head_tx, units
    rates = (config.base_learning_rate, varying.shared_rate)
    return optimizers.base_adamw(*rates, config.weight_decay, **until), head_tx, units


@functools.lru_cache(maxsize=8)
def update(
    scorer: scorers.Scorer, config: configs.FitConfig, trains_base: bool, mesh: jax.sharding.Mesh | None
) -> Callable[[Varying, states.TrainState, Any], Any]:
    """The compiled step of `train_jointly`; the state is donated."""

    def run(varying: Varying, state: states.TrainState, batch: Any) -> Any:
        base_tx, head_tx, units = optimizers_of(scorer, config, trains_base, varying)
        make = step.make_train_step if mesh is None else functools.partial(sharded.make_sharded_step, mesh=mesh)
        of_batch = make(scorer, base_tx, head_tx, loss=config.loss, normaliser=varying.normaliser, units=units)
        return of_batch(state, batch)

    return jax.jit(run, donate_argnums=1)
