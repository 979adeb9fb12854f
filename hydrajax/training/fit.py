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
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hydrajax.nn import encode, heads, tokens
from hydrajax.nn import scorer as scorers
from hydrajax.training import batches, checks, head_fits, loop, losses, optimizers, programs, rows, step
from hydrajax.training import config as configs
from hydrajax.training import state as states
from hydrajax.training.config import FitConfig
from hydrajax.training.examples import Examples
from hydrajax.training.fitted import Fitted, family_of
from hydrajax.training.head_fits import Progress
from hydrajax.types import DataError

POOLED_BATCH = 256  # examples of all users in one update of the pooled head
FROZEN_USERS = 8  # in one update of shared parameters on frozen features


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
      config: of the fit.
      examples: of users 0..num_users-1; x holds features, or tokens where `config.train_base`.
      num_users: how many training users.
      base: the base that is trained; needed only then.
      checkpoint: a folder in which the stage that takes updates over batches of users (a trained base, shared
        parameters) is saved every epoch and resumed. The others take seconds, keep nothing and are repeated.
      progress: called with (done, total) of the stage that is running.

    Raises:
      DataError: the configuration or the examples cannot be fitted.
    """
    configs.check(config)
    examples.check_users(num_users)
    if config.train_base != isinstance(examples.x, tokens.Tokens):
        kind = "tokens" if isinstance(examples.x, tokens.Tokens) else "features"
        raise DataError(f"train_base is {config.train_base} but the examples hold {kind}")
    if config.train_base and base is None:
        raise DataError("train_base is True, expected the base that is to be trained")

    family = family_of(config)
    encoded = _encoded(base, examples)
    fitted = Fitted(
        config=config,
        dims=heads.Dims(features=encoded.features.shape[1], extras=encoded.extras.shape[1]),
        normaliser=scorers.fit_normaliser(encoded.features, encoded.extras),
        shared={},
        bank={},
        base={},
        curves={},
    )
    shares = bool(jax.tree.leaves(heads.shared_shapes(family, fitted.dims)))
    stores = heads.stores_users(family, fitted.dims)
    if config.train_base or shares:
        head = None
        if stores and config.init == "pooled":
            # Beside shared parameters that are yet to be learned there is no pooled head: one start for everybody.
            if shares:
                head = jax.jit(lambda key: family.init_user(key, fitted.dims))(jax.random.key(config.seed))
            else:
                head, _ = _pooled(fitted, encoded, progress)
        state, means = train_jointly(
            fitted,
            examples,
            num_users,
            epochs=config.epochs if config.train_base else config.pooled_epochs,
            base=base if config.train_base else None,
            head=head,
            checkpoint=checkpoint,
            progress=progress,
        )
        shared, bank, trained = jax.device_get((state.shared, state.bank, state.base))
        fitted = dataclasses.replace(fitted, shared=shared, bank=bank, base=trained, curves={"base": tuple(means)})
        if base is not None and config.train_base:
            encoded = _encoded(dataclasses.replace(base, params=trained), examples)
    if stores and "generic" not in fitted.shared:
        head, curve = _pooled(fitted, encoded, progress)
        fitted = _with(fitted, "pooled", curve, shared={**fitted.shared, "generic": head})
    if stores and config.fit_bank and not jax.tree.leaves(fitted.bank):
        found = _personal(fitted, encoded, num_users, (config.epochs,), None, progress)
        fitted = _with(fitted, "personal", found.curve, bank=found.heads[config.epochs])
    return fitted


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
      config: of the fit; its family and dropout must be those of `fitted`.
      fitted: of `pretrain`.
      examples: of users 0..num_users-1, x = features (of the trained base, where one was trained).
      num_users: how many new users.
      user_keys: uint32 [num_users], what tells users apart in draws, a hash of their ids for example: heads are then
        the same whoever else is fitted, in whatever order. By default the row numbers.
      progress: called with (users done, users).

    Returns:
      heads stacked [num_users, ...], numpy: fitted, or encoded from at most `programs.CONTEXT` examples of the user;
      {} for a family that has nothing of a user's own.

    Raises:
      DataError: the examples cannot be fitted, or another family or dropout.
    """
    snapshots = personalise_snapshots(
        config, fitted, examples, num_users, epochs=(config.epochs,), user_keys=user_keys, progress=progress
    )
    return snapshots.heads[config.epochs]


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
    configs.check(config)
    examples.check_users(num_users)
    if config.family != fitted.config.family or config.dropout != fitted.config.dropout:
        raise DataError(
            f"the scorer was fitted with family {fitted.config.family!r} and dropout {fitted.config.dropout}, "
            f"got {config.family!r} and {config.dropout}"
        )
    if not epochs or min(epochs) < 0:
        raise DataError(f"epochs is {tuple(epochs)}, expected numbers of 0 or more")
    if isinstance(examples.x, tokens.Tokens):
        raise DataError("the examples hold tokens, personalisation takes features: encode them with the trained base")
    _check_widths(fitted.dims, examples.x, examples.extras)
    family = fitted.family
    if heads.stores_users(family, fitted.dims):
        return _personal(dataclasses.replace(fitted, config=config), examples, num_users, epochs, user_keys, progress)
    if not isinstance(family, heads.Encoded):
        return Snapshots(heads={n: {} for n in epochs}, curve=())
    encoded = programs.encode_users(family, fitted.shared, examples, num_users, normaliser=fitted.normaliser)
    unseen = jax.tree.map(lambda leaf: np.repeat(leaf[None], num_users, axis=0), fitted.generic)
    return Snapshots(heads={n: encoded if n else unseen for n in epochs}, curve=())


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
      DataError: arrays do not fit the scorer or hold what is not finite, or a row is not in the heads.
    """
    x, extras = checks.floats(x, "predict: x"), checks.floats(extras, "predict: extras")
    _check_widths(fitted.dims, x, extras)
    for name, array in (("x", x), ("extras", extras)):
        if len(bad := np.argwhere(~np.isfinite(array))):
            raise DataError(f"predict: {name} of row {bad[0][0]} is not a finite number")
    numbers = checks.whole(user_rows, "predict: user rows").astype(np.int32)
    if not len(x) == len(extras) == len(numbers):
        raise DataError(f"predict: {len(numbers)} user rows, {len(x)} features, {len(extras)} extras, expected as many")
    if user_heads is None:
        user_heads = jax.tree.map(lambda leaf: np.asarray(leaf)[None], fitted.generic)
        numbers = np.zeros_like(numbers)
    sizes = {len(leaf) for leaf in jax.tree.leaves(user_heads)}
    if not sizes:
        numbers = np.zeros_like(numbers)
    elif len(numbers) and not 0 <= numbers.min() <= numbers.max() < min(sizes):
        raise DataError(f"predict: user rows from {numbers.min()} to {numbers.max()}, expected 0 to {min(sizes) - 1}")
    if not len(x):
        return np.zeros(0, np.float32)
    return programs.score(fitted.family, fitted.shared, user_heads, x, extras, numbers, normaliser=fitted.normaliser)


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


def train_jointly(
    fitted: Fitted,
    examples: Examples,
    num_users: int,
    *,
    epochs: int,
    base: encode.Base | None = None,
    head: heads.User | None = None,
    checkpoint: str | pathlib.Path | None = None,
    progress: Progress | None = None,
) -> tuple[states.TrainState, list[float]]:
    """Updates over batches of users, in which base, shared parameters and heads learn at once.

    Where the base is frozen, an update sees about as many examples as one of the pooled head: shared parameters then
    get as many updates. Users that are encoded are in a batch with all examples that a context and its targets hold.

    Args:
      fitted: its configuration, widths and normaliser; parameters begin anew.
      examples: of users 0..num_users-1.
      num_users: how many heads the bank has.
      epochs: passes over the examples.
      base: a base that is trained; the examples then hold tokens.
      head: where every user starts and is pulled to; None: an initialisation of each user's own, and zeros.
      checkpoint: a folder to save into every epoch and to resume from.
      progress: called with (updates done, updates).

    Returns:
      (the last state, mean loss of every epoch).
    """
    config, family = fitted.config, fitted.family
    encodes = isinstance(family, heads.Encoded)
    most = config.users_per_batch if base is not None else min(config.users_per_batch, FROZEN_USERS)
    plan = batches.plan(
        examples,
        num_users,
        epochs=epochs,
        users_per_batch=max(1, min(most, num_users)),
        batch_examples=max(config.batch_examples, 2 * programs.CONTEXT) if encodes else config.batch_examples,
        prior_strength=config.prior_strength if head is not None else 0.0,
        seed=config.seed,
        # The other half of a divided pool would be lost to a loss inside pools, and tell an encoded user's own labels.
        whole_pools=config.loss in losses.WITHIN_POOL or encodes,
    )
    rate = config.pooled_learning_rate if base is None else config.base_learning_rate
    base_tx = optimizers.adamw(rate, config.weight_decay, total=float(plan.ends[-1]))
    head_rate = config.learning_rate * heads.rate(family)
    head_tx = optimizers.adamw(head_rate, config.weight_decay, moments=config.moments)
    scorer = scorers.Scorer(family=family, dims=fitted.dims)
    if base is not None:
        scorer = dataclasses.replace(scorer, module=base.module, pooling=base.pooling)
    state = states.init_state(
        scorer,
        base_tx,
        head_tx,
        num_users=num_users,
        key=jax.random.key(config.seed),
        base=base.params if base is not None else None,
        head=head,
    )
    update = step.make_train_step(scorer, base_tx, head_tx, loss=config.loss, normaliser=fitted.normaliser)
    run_id = "" if checkpoint is None else _run_id(config, examples, num_users, base)
    return loop.run(update, state, plan, checkpoint=checkpoint, run_id=run_id, progress=progress)


def _pooled(fitted: Fitted, examples: Examples, progress: Progress | None) -> tuple[heads.User, tuple[float, ...]]:
    """One head on everybody's examples: the fit of a single user to whom they all belong."""
    config = fitted.config
    everybody = dataclasses.replace(examples, user=np.zeros_like(examples.user))
    strength = config.pooled_ridge if isinstance(fitted.family, heads.Convex) else 0.0
    problem, setting = _problem(
        fitted,
        everybody,
        1,
        config.pooled_learning_rate,
        strength,
        keys=head_fits.checked_keys(None, 1),
        epochs=(config.pooled_epochs,),
        batch_examples=POOLED_BATCH,
        decays=True,
    )
    found, curve = head_fits.solve(problem, [setting], progress=progress)
    return jax.tree.map(lambda leaf: leaf[0, 0], found[config.pooled_epochs]), tuple(curve[0].tolist())


def _personal(
    fitted: Fitted,
    examples: Examples,
    num_users: int,
    epochs: Sequence[int],
    user_keys: np.ndarray | None,
    progress: Progress | None,
) -> Snapshots:
    config, generic = fitted.config, fitted.generic
    pulled = isinstance(fitted.family, heads.Convex) or config.init == "pooled"
    problem, setting = _problem(
        fitted,
        examples,
        num_users,
        config.learning_rate,
        config.prior_strength if pulled else 0.0,
        keys=head_fits.checked_keys(user_keys, num_users),
        anchor=generic if config.init == "pooled" else None,
        generic=generic,
        epochs=tuple(epochs),
        batch_examples=config.batch_examples,
        moments=config.moments,
    )
    group = config.users_per_batch
    parallel = rows.users_in_parallel(group)
    found, curve = head_fits.solve(problem, [setting], parallel=parallel, group=group, progress=progress)
    users = {n: jax.tree.map(lambda leaf: leaf[0], stack) for n, stack in found.items()}
    return Snapshots(heads=users, curve=tuple(curve[0].tolist()))


def _problem(
    fitted: Fitted, examples: Examples, num_users: int, learning_rate: float, prior_strength: float, **fields: Any
) -> tuple[head_fits.Problem, head_fits.Setting]:
    """Heads beside the frozen parts of a scorer, and the numbers by which they are fitted."""
    config = fitted.config
    return head_fits.Problem(
        family=fitted.family,
        loss=config.loss,
        examples=examples,
        num_users=num_users,
        normaliser=fitted.normaliser,
        shared=fitted.shared,
        **fields,
    ), head_fits.Setting(
        learning_rate=learning_rate, weight_decay=config.weight_decay, prior_strength=prior_strength, seed=config.seed
    )


def _with(fitted: Fitted, stage: str, curve: tuple[float, ...], **parts: Any) -> Fitted:
    """The scorer with what another stage gave."""
    return dataclasses.replace(fitted, curves={**fitted.curves, stage: curve}, **parts)


def _encoded(base: encode.Base | None, examples: Examples) -> Examples:
    """The examples with the base's features in place of tokens."""
    if base is None or not isinstance(examples.x, tokens.Tokens):
        return examples
    return dataclasses.replace(examples, x=encode.token_features(base, examples.x))


def _run_id(config: FitConfig, examples: Examples, num_users: int, base: encode.Base | None) -> str:
    hasher = hashlib.sha256(json.dumps([dataclasses.asdict(config), num_users, base.digest if base else ""]).encode())
    for leaf in jax.tree.leaves([getattr(examples, field.name) for field in dataclasses.fields(examples)]):
        hasher.update(np.ascontiguousarray(leaf).tobytes())
    return hasher.hexdigest()


def _check_widths(dims: heads.Dims, x: np.ndarray, extras: np.ndarray) -> None:
    if (x.shape[1:], extras.shape[1:]) != ((dims.features,), (dims.extras,)):
        raise DataError(
            f"features have width {x.shape[-1]} and extras {extras.shape[-1]}, the scorer was fitted with "
            f"{dims.features} and {dims.extras}"
        )
