"""Fitting a scorer: pretraining on the training users, personalisation for new ones, scores.

    pretrain     base (where it is trained), what users share, the pooled head, the training users' heads
    personalise  heads of new users from their own examples alone; everything else is frozen
    predict      scores

All families go the same way. Who stores parameters fits them, by gradient steps or exactly; who encodes users makes
them in one forward pass over the same examples, features and labels being the context; who has neither has no heads.

Features are enough: nothing here needs text, a profile or an LLM.
"""

import dataclasses
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
from hydrajax.training import checks, encoded, joint, losses, per_user, personalisation, scoring, user_fit
from hydrajax.training.examples import Examples
from hydrajax.training.fitted import FitConfig, Fitted, family, load_fitted, save_fitted
from hydrajax.training.fitted import generic as fitted_generic
from hydrajax.types import DataError

__all__ = [
    "Examples",
    "FitConfig",
    "Fitted",
    "Snapshots",
    "check_config",
    "load_fitted",
    "personalise",
    "personalise_snapshots",
    "predict",
    "pretrain",
    "save_fitted",
    "trained_base",
]

Progress = Callable[[int, int], None]
POOLED_BATCH = 256  # examples of all users in one update of the pooled head


@dataclasses.dataclass(frozen=True, kw_only=True)
class Snapshots:
    """Heads after each of several numbers of epochs, so that validation users can choose it.

    Attributes:
      heads: number of epochs -> heads, every leaf [num_users, ...].
      curve: mean training loss per epoch over all users; convex families: before and after.
    """

    heads: dict[int, heads.User]
    curve: tuple[float, ...]


def pretrain(
    config: FitConfig,
    examples: Examples,
    num_users: int,
    *,
    base: encode.Base | None = None,
    checkpoint: str | pathlib.Path | None = None,
    progress: Progress | None = None,
) -> Fitted:
    """Learns from the training users what new users start with.

    Args:
      config: how.
      examples: of users 0..num_users-1; x holds features, or tokens where `config.train_base`.
      num_users: how many training users.
      base: the base that is trained; needed only then.
      checkpoint: a folder in which the stage that takes updates over batches of users (a trained base, shared
        parameters) is saved every epoch and resumed. The others take seconds, keep nothing and are repeated.
      progress: called with (done, total) of the stage that is running.

    Raises:
      DataError: the configuration or the examples cannot be fitted.
    """
    _check(config, examples, num_users)
    chosen = family(config)
    examples_are_tokens = isinstance(examples.x, tokens.Tokens)
    if config.train_base != examples_are_tokens:
        kind = "tokens" if examples_are_tokens else "features"
        raise DataError(f"train_base is {config.train_base} but the examples hold {kind}")
    if config.train_base and base is None:
        raise DataError("train_base is True, expected the base that is to be trained")

    z = _features(base, base.params if base else {}, examples.x)
    dims = heads.Dims(features=z.shape[1], extras=examples.extras.shape[1])
    normaliser = scorers.fit_normaliser(z, examples.extras)
    stored = heads.stores_users(chosen, dims)
    shared: Any = {}
    bank: Any = {}
    trained: Any = {}
    curves: dict[str, tuple[float, ...]] = {}

    if config.train_base or heads.shares_parameters(chosen, dims):
        head = None
        if stored and config.init == "pooled":
            # Beside shared parameters that are yet to be learned there is no pooled head: one start for everybody.
            if heads.shares_parameters(chosen, dims):
                head = jax.jit(lambda key: chosen.init_user(key, dims))(jax.random.key(config.seed))
            else:
                head, _ = _pooled(config, dims, normaliser, z, examples, {}, progress)
        scorer = scorers.Scorer(family=chosen, dims=dims)
        if base is not None and config.train_base:
            scorer = dataclasses.replace(scorer, module=base.module, pooling=base.pooling)
        state, means = joint.together(
            config,
            scorer,
            normaliser,
            examples,
            num_users,
            epochs=config.epochs if config.train_base else config.pooled_epochs,
            base=base.params if scorer.module is not None and base is not None else None,
            head=head,
            checkpoint=checkpoint,
            run_id=_run_id(config, examples, num_users, base),
            progress=progress,
        )
        shared, bank, trained = jax.device_get((state.shared, state.bank, state.base))
        curves["base"] = tuple(means)
        if config.train_base:
            z = _features(base, trained, examples.x)
    if stored:
        if "generic" not in shared:
            generic, curve = _pooled(config, dims, normaliser, z, examples, shared, progress)
            shared = {**shared, "generic": generic}
            curves["pooled"] = curve
        if not jax.tree.leaves(bank) and config.fit_bank:
            data = _data(z, examples, num_users)
            snapshots = _personal(config, dims, normaliser, data, num_users, (config.epochs,), shared, progress)
            bank = snapshots.heads[config.epochs]
            curves["personal"] = snapshots.curve
    return Fitted(
        config=config, dims=dims, normaliser=normaliser, shared=shared, bank=bank, base=trained, curves=curves
    )


def personalise(
    config: FitConfig,
    fitted: Fitted,
    examples: Examples,
    num_users: int,
    *,
    user_keys: np.ndarray | None = None,
    progress: Progress | None = None,
) -> heads.User:
    """Heads of new users from their own examples; base, shared parameters and pooled head are frozen.

    The result for a user depends on that user's examples and key alone. A user without examples gets the pooled head.

    Args:
      config: how; its family and dropout must be those of `fitted`.
      fitted: of `pretrain`.
      examples: of users 0..num_users-1, x = features (of the trained base, where one was trained).
      num_users: how many new users.
      user_keys: uint32 [num_users], what tells users apart in draws, a hash of their ids for example: heads are then
        the same whoever else is fitted, in whatever order. By default the row numbers.
      progress: called with (users done, users).

    Returns:
      heads stacked [num_users, ...], numpy: fitted, or encoded from at most `encoded.CONTEXT` examples of the user;
      {} for a family that has nothing of a user's own.
    """
    found = personalise_snapshots(
        config, fitted, examples, num_users, epochs=(config.epochs,), user_keys=user_keys, progress=progress
    )
    return found.heads[config.epochs]


def personalise_snapshots(
    config: FitConfig,
    fitted: Fitted,
    examples: Examples,
    num_users: int,
    *,
    epochs: Sequence[int],
    user_keys: np.ndarray | None = None,
    progress: Progress | None = None,
) -> Snapshots:
    """`personalise` after each of several numbers of epochs, at the cost of the largest; 0 = the pooled head.

    The heads after n epochs equal those of `personalise` with `epochs = n`. A convex family is fitted exactly: its
    heads are the same for every number but 0, and so are users that are encoded.
    """
    _check(config, examples, num_users)
    if config.family != fitted.config.family or config.dropout != fitted.config.dropout:
        raise DataError(
            f"the scorer was fitted with family {fitted.config.family!r} and dropout {fitted.config.dropout}, "
            f"got {config.family!r} and {config.dropout}"
        )
    counts = tuple(sorted(set(epochs)))
    if not counts or counts[0] < 0:
        raise DataError(f"epochs is {tuple(epochs)}, expected numbers of 0 or more")
    if isinstance(examples.x, tokens.Tokens):
        raise DataError("the examples hold tokens, personalisation takes features: encode them with the trained base")
    _check_widths(fitted.dims, examples.x, examples.extras)
    if not heads.stores_users(fitted.family, fitted.dims):
        return Snapshots(heads=_unstored(fitted, examples, num_users, counts), curve=())
    if user_keys is not None and np.shape(user_keys) != (num_users,):
        raise DataError(f"user_keys has shape {list(np.shape(user_keys))}, expected [{num_users}]")
    data = _data(examples.x, examples, num_users, user_keys)
    return _personal(config, fitted.dims, fitted.normaliser, data, num_users, counts, fitted.shared, progress)


def predict(
    fitted: Fitted,
    user_heads: heads.User | None,
    user_rows: np.ndarray,
    x: np.ndarray,
    extras: np.ndarray,
) -> np.ndarray:
    """Scores of examples, higher is better; dropout is off, so the same examples get the same scores.

    Args:
      fitted: of `pretrain`.
      user_heads: of `personalise`; None: the pooled head for everybody.
      user_rows: int32 [N], whose head scores each example; ignored with the pooled head.
      x: features, float32 [N, D].
      extras: float32 [N, X].

    Returns:
      float32 [N].

    Raises:
      DataError: arrays do not fit the scorer, or a row is not in the heads.
    """
    x, extras = np.asarray(x, np.float32), np.asarray(extras, np.float32)
    _check_widths(fitted.dims, x, extras)
    rows = checks.whole(user_rows, "predict: user rows").astype(np.int32)
    if not len(x) == len(extras) == len(rows):
        raise DataError(f"predict: {len(rows)} user rows, {len(x)} features, {len(extras)} extras, expected as many")
    if user_heads is None:
        user_heads = jax.tree.map(lambda leaf: np.asarray(leaf)[None], fitted.generic)
        rows = np.zeros_like(rows)
    sizes = {len(leaf) for leaf in jax.tree.leaves(user_heads)}
    if not sizes:
        rows = np.zeros_like(rows)
    elif len(rows) and not 0 <= rows.min() <= rows.max() < min(sizes):
        raise DataError(f"predict: user rows from {rows.min()} to {rows.max()}, expected 0 to {min(sizes) - 1}")
    if not len(x):
        return np.zeros(0, np.float32)
    return scoring.score(fitted.family, fitted.shared, user_heads, x, extras, rows, normaliser=fitted.normaliser)


def _unstored(fitted: Fitted, examples: Examples, num_users: int, epochs: tuple[int, ...]) -> dict[int, heads.User]:
    """Users without stored parameters by number of epochs: of 0 epochs nobody's examples were seen."""
    chosen = fitted.family
    if not isinstance(chosen, heads.Encoded):
        return {n: {} for n in epochs}
    seen = encoded.users(chosen, fitted.shared, examples, num_users, normaliser=fitted.normaliser)
    unseen = jax.tree.map(lambda leaf: np.repeat(leaf[None], num_users, axis=0), fitted.generic)
    return {n: seen if n else unseen for n in epochs}


def trained_base(base: encode.Base, fitted: Fitted) -> encode.Base:
    """The base with the parameters that pretraining gave it, or as it was; its digest, and so its cache, is its own."""
    if not fitted.base:
        return base
    hasher = hashlib.sha256(base.digest.encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(fitted.base):
        hasher.update(jax.tree_util.keystr(path).encode())
        hasher.update(np.ascontiguousarray(leaf).tobytes())
    params = jax.tree.map(jnp.asarray, fitted.base)
    return dataclasses.replace(base, params=params, digest=hasher.hexdigest())


def _pooled(
    config: FitConfig,
    dims: heads.Dims,
    normaliser: scorers.Normaliser,
    z: np.ndarray,
    examples: Examples,
    shared: Any,
    progress: Progress | None,
) -> tuple[heads.User, tuple[float, ...]]:
    """One head on everybody's examples: the fit of a single user to whom they all belong."""
    data = dataclasses.replace(_data(z, examples, 1), user=np.zeros_like(examples.user))
    problem = per_user.Problem(
        family=family(config),
        dims=dims,
        loss=config.loss,
        data=data,
        num_users=1,
        normaliser=normaliser,
        shared=shared,
    )
    rates = user_fit.Rates(
        learning_rate=config.pooled_learning_rate * heads.rate(problem.family),
        weight_decay=config.weight_decay,
        prior_strength=config.pooled_ridge if isinstance(problem.family, heads.Convex) else 0.0,
    )
    schedule = per_user.Schedule(epochs=(config.pooled_epochs,), batch_examples=POOLED_BATCH, decays=True)
    found, curve = per_user.fit(problem, schedule, rates, seed=config.seed, progress=progress)
    head = jax.tree.map(lambda leaf: leaf[0], found[config.pooled_epochs])
    return head, tuple(float(v) for v in curve)


def _personal(
    config: FitConfig,
    dims: heads.Dims,
    normaliser: scorers.Normaliser,
    data: per_user.Data,
    num_users: int,
    epochs: tuple[int, ...],
    shared: Any,
    progress: Progress | None,
) -> Snapshots:
    generic = fitted_generic(config, shared)
    problem = per_user.Problem(
        family=family(config),
        dims=dims,
        loss=config.loss,
        data=data,
        num_users=num_users,
        normaliser=normaliser,
        shared=shared,
        anchor=generic if config.init == "pooled" else None,
        generic=generic,
    )
    pulled = isinstance(problem.family, heads.Convex) or config.init == "pooled"
    rates = user_fit.Rates(
        learning_rate=config.learning_rate * heads.rate(problem.family),
        weight_decay=config.weight_decay,
        prior_strength=config.prior_strength if pulled else 0.0,
    )
    schedule = per_user.Schedule(
        epochs=epochs,
        batch_examples=config.batch_examples,
        parallel=per_user.parallel_users(config.users_per_batch),
    )
    found, curve = per_user.fit(
        problem, schedule, rates, seed=config.seed, progress=progress, group=config.users_per_batch
    )
    return Snapshots(heads=found, curve=tuple(float(v) for v in curve))


def _data(z: np.ndarray, examples: Examples, num_users: int, keys: np.ndarray | None = None) -> per_user.Data:
    return per_user.of_examples(
        dataclasses.replace(examples, x=z),
        np.arange(num_users, dtype=np.uint32) if keys is None else personalisation.checked_keys(keys),
    )


def _features(base: encode.Base | None, params: Any, x: np.ndarray | tokens.Tokens) -> np.ndarray:
    if not isinstance(x, tokens.Tokens):
        return x
    if base is None:
        raise DataError("the examples hold tokens, expected the base that reads them")
    return encode.token_features(dataclasses.replace(base, params=params), x)


def _run_id(config: FitConfig, examples: Examples, num_users: int, base: encode.Base | None) -> str:
    hasher = hashlib.sha256(json.dumps([dataclasses.asdict(config), num_users, base.digest if base else ""]).encode())
    for leaf in jax.tree.leaves([getattr(examples, field.name) for field in dataclasses.fields(examples)]):
        hasher.update(np.ascontiguousarray(leaf).tobytes())
    return hasher.hexdigest()


def _check(config: FitConfig, examples: Examples, num_users: int) -> None:
    check_config(config)
    examples.check_users(num_users)


def check_config(config: FitConfig) -> None:
    """Refuses what cannot be fitted.

    Raises:
      DataError: an unknown name, or a number out of its range.
    """
    losses.get(config.loss)
    if config.init not in ("pooled", "fresh"):
        raise DataError(f"init is {config.init!r}, expected 'pooled' or 'fresh'")
    counts = ("epochs", "pooled_epochs", "batch_examples", "users_per_batch")
    rates = ("learning_rate", "pooled_learning_rate", "base_learning_rate", "dropout")
    strengths = ("weight_decay", "prior_strength", "pooled_ridge")
    personalisation.check_numbers(**{name: getattr(config, name) for name in (*counts, *rates, *strengths, "seed")})
    family(config)


def _check_widths(dims: heads.Dims, x: np.ndarray, extras: np.ndarray) -> None:
    got = (x.shape[1:], extras.shape[1:])
    if got != ((dims.features,), (dims.extras,)):
        raise DataError(
            f"features have width {x.shape[-1]} and extras {extras.shape[-1]}, the scorer was fitted with "
            f"{dims.features} and {dims.extras}"
        )
