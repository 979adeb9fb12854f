"""Whether a state and a batch fit a step: by shapes and types alone, when it is traced, so that it costs nothing."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from hydrajax.nn import heads
from hydrajax.nn import scorer as scorers
from hydrajax.training import checks
from hydrajax.training.batch import Batch
from hydrajax.training.state import TrainState
from hydrajax.types import DataError


def check_users(scorer: scorers.Scorer, state: TrainState, capacity: int) -> None:
    """Refuses a state whose heads, or what users share, are of another family or width.

    Raises:
      DataError: naming the first leaf at fault.
    """
    user = _template(scorer)
    checks.check_like(state.bank, user, "the state's bank", lead=(capacity,) if jax.tree.leaves(user) else ())
    checks.check_like(state.anchor, user, "the state's anchor")
    shared = jax.eval_shape(lambda: scorer.family.init_shared(jax.random.key(0), scorer.dims))
    wanted, got = checks.leaves(shared), checks.leaves(state.shared)
    # What was pretrained may hold more, the pooled head for example.
    checks.check_like({name: leaf for name, leaf in got.items() if name in wanted}, wanted, "the state's shared")


def check_optimizer(head_tx: optax.GradientTransformation, state: TrainState, capacity: int) -> None:
    """Refuses a state that another optimizer of heads has made.

    Raises:
      DataError: naming the first leaf at fault.
    """
    user = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), state.bank)
    checks.check_like(
        state.bank_opt, jax.eval_shape(head_tx.init, user), "the state's bank_opt for this head_tx", lead=(capacity,)
    )


def check_base_optimizer(base_tx: optax.GradientTransformation, state: TrainState) -> None:
    """Refuses a state that another optimizer of base and shared parameters has made.

    Raises:
      DataError: naming the first leaf at fault.
    """
    made = jax.eval_shape(base_tx.init, (state.base, state.shared))
    checks.check_like(state.base_opt, made, "the state's base_opt for this base_tx")


def check_widths(scorer: scorers.Scorer, batch: Batch) -> None:
    """Refuses a batch of another width, or one that is divided among shards.

    Raises:
      DataError: in one sentence.
    """
    if batch.routed is not None:
        raise DataError("the batch is routed for shards, expected one of the whole bank, or a step of `sharded`")
    wanted = {"extras": (batch.extras, scorer.dims.extras)}
    if hasattr(batch.x, "shape"):
        wanted["x"] = batch.x, scorer.dims.features
    for name, (leaf, width) in wanted.items():
        if leaf.ndim != 3 or leaf.shape[-1] != width:
            raise DataError(f"{name} of the batch is {list(leaf.shape)}, expected [U, E, {width}] as the scorer has it")


def check_key(key: Any) -> None:
    """Refuses what is no typed key.

    Raises:
      DataError: in one sentence.
    """
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ()):
        kind = f"{key.dtype}{list(key.shape)}" if hasattr(key, "dtype") else repr(key)
        raise DataError(f"key is {kind}, expected a typed key: jax.random.key(0)")


def checked_head(scorer: scorers.Scorer, head: heads.User) -> heads.User:
    """One head as arrays on the device.

    Raises:
      DataError: it is of another family or width, or of many users.
    """
    head = jax.tree.map(jnp.asarray, head)
    checks.check_like(head, _template(scorer), "head")
    return head


def _template(scorer: scorers.Scorer) -> heads.User:
    return jax.eval_shape(lambda: scorer.family.init_user(jax.random.key(0), scorer.dims))
