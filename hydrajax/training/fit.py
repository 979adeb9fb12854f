"""Fitting a scorer: pretraining on the training users, personalisation for new ones, scores.

    pretrain     base (where it is trained), what users share, the pooled head, the training users' heads
    personalise  heads of new users from their own examples alone; everything else is frozen
    predict      scores

All families go the same way. Who stores parameters fits them, by gradient steps or exactly; who encodes users makes
them in one forward pass over the same examples, features and labels being the context; who has neither has no heads.

Features are enough: nothing here needs text, a profile or an LLM.

All devices of this process are used (`backends.use`), and those of others where they serve it (`nn.processes`).
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hydrajax.nn import encode, family_checks, heads, processes, tokens
from hydrajax.training import checks, choosing, programs, stages
from hydrajax.training import config as configs
from hydrajax.training.config import FitConfig
from hydrajax.training.examples import Examples
from hydrajax.training.fitted import Fitted, Snapshots
from hydrajax.training.solver import Progress
from hydrajax.types import DataError


@processes.joined
def pretrain(
    config: FitConfig,
    examples: Examples,
    num_users: int,
    *,
    base: encode.Base | None = None,
    features_of: Callable[[encode.Base], np.ndarray] | None = None,
    checkpoint: str | pathlib.Path | None = None,
    progress: Progress | None = None,
) -> Fitted:
    """Learns from the training users what new users start with.

    A base that is trained learns beside the training users' heads, in one step. It is frozen then, and everything else,
    these users' heads among it, is learned anew on its features: the statistics of the inputs are those of the base
    that heads meet. What is left to choose is chosen on the features of the base as it was, since a trained base has
    seen what the choice would be judged by.

    Args:
      config: of the fit.
      examples: of users 0..num_users-1; x holds features, or tokens where `config.train_base`.
      num_users: how many training users.
      base: the base that is trained; needed only then.
      features_of: of the examples by a base, float32 [N, D], where they are kept for example; None: computed here.
      checkpoint: a folder in which the stages that take updates over batches of users (a trained base, shared
        parameters) are saved and resumed. The others take seconds, keep nothing and are repeated.
      progress: called with (done, total) of the stage that is running.

    Raises:
      DataError: the configuration or the examples cannot be fitted.
    """
    configs.check(config)
    _check_examples(examples, num_users)
    if config.train_base != isinstance(examples.x, tokens.Tokens):
        kind = "tokens" if isinstance(examples.x, tokens.Tokens) else "features"
        raise DataError(f"train_base is {config.train_base} but the examples hold {kind}")
    if config.train_base and base is None:
        raise DataError("train_base is True, expected the base that is to be trained")

    if base is None or not isinstance(examples.x, tokens.Tokens):
        family_checks.check(config.family, examples.dims)
        fully = choosing.choose(config, examples, num_users, progress=progress)
        return _finite(stages.learn(fully, examples, num_users, checkpoint=checkpoint, progress=progress))

    texts = examples.x
    features_of = features_of or (lambda base: encode.token_features(base, texts))
    features = features_of(base)
    frozen = dataclasses.replace(examples, x=features)
    family_checks.check(config.family, frozen.dims)
    fully = choosing.choose(config, frozen, num_users, progress=progress)
    folders = (None, None) if checkpoint is None else [pathlib.Path(checkpoint) / name for name in ("base", "shared")]
    params, curve = stages.train_base(
        fully, examples, features, num_users, base=base, checkpoint=folders[0], progress=progress
    )
    _check_learned("the trained base", config, params, "base_learning_rate")
    encoded = dataclasses.replace(examples, x=features_of(with_params(base, params)))
    fitted = _finite(stages.learn(fully, encoded, num_users, checkpoint=folders[1], progress=progress))
    curves = {"shared" if stage == "base" else stage: means for stage, means in fitted.curves.items()}
    return dataclasses.replace(fitted, base=params, curves={"base": curve, **curves})


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
      config: of the fit; its family and dropout must be those of `fitted`. Numbers that are None are those of `fitted`.
      fitted: of `pretrain`.
      examples: of users 0..num_users-1, x = features (of the trained base, where one was trained).
      num_users: how many new users.
      user_keys: uint32 [num_users], what tells users apart in draws, a hash of their ids for example: heads are then
        the same whoever else is fitted, in whatever order. By default the row numbers.
      progress: called with (users done, users).

    Returns:
      heads stacked [num_users, ...], numpy: fitted, or encoded from at most `losses.CONTEXT` examples of the user;
      {} for a family that has nothing of a user's own.

    Raises:
      DataError: the examples cannot be fitted, or another family or dropout.
    """
    checks.check_is(fitted, Fitted, "the scorer")
    configs.check(config)
    epochs = configs.numbers_of(fitted.config if config.epochs is None else config).epochs
    snapshots = personalise_snapshots(
        config, fitted, examples, num_users, epochs=(epochs,), user_keys=user_keys, progress=progress
    )
    return snapshots.heads[epochs]


@processes.joined
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
    checks.check_is(fitted, Fitted, "the scorer")
    configs.check(config)
    _check_examples(examples, num_users)
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
        # What is left open is as pretraining chose it.
        given = configs.resolved(config, **{name: getattr(fitted.config, name) for name in configs.FALLBACK})
        learned = dataclasses.replace(fitted, config=given)
        found = stages.personal(learned, examples, num_users, epochs, user_keys, progress)
        for users in found.heads.values():
            _check_users(config, users)
        return found
    if not isinstance(family, heads.Encoded):
        return Snapshots(heads={n: {} for n in epochs}, curve=())
    encoded = stages.encode_users(family, fitted.shared, examples, num_users, normaliser=fitted.normaliser)
    _check_users(config, encoded)
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
    checks.check_is(fitted, Fitted, "predict: the scorer")
    x, extras = checks.floats(x, "predict: x"), checks.floats(extras, "predict: extras")
    _check_widths(fitted.dims, x, extras)
    for name, array in (("x", x), ("extras", extras)):
        checks.check_finite_rows(array, f"predict: {name}")
    numbers = checks.whole(user_rows, "predict: user rows").astype(np.int32)
    if not len(x) == len(extras) == len(numbers):
        raise DataError(f"predict: {len(numbers)} user rows, {len(x)} features, {len(extras)} extras, expected as many")
    if user_heads is None:
        user_heads = jax.tree.map(lambda leaf: np.asarray(leaf)[None], fitted.generic)
        numbers = np.zeros_like(numbers)
    checks.check_users_tree(user_heads, fitted.generic, "predict: heads")
    sizes = {len(leaf) for leaf in jax.tree.leaves(user_heads)}
    if not sizes:
        numbers = np.zeros_like(numbers)
    elif len(numbers) and not 0 <= numbers.min() <= numbers.max() < min(sizes):
        raise DataError(f"predict: user rows from {numbers.min()} to {numbers.max()}, expected 0 to {min(sizes) - 1}")
    if not len(x):
        return np.zeros(0, np.float32)
    scores = programs.score(fitted.family, fitted.shared, user_heads, x, extras, numbers, normaliser=fitted.normaliser)
    if not (finite := np.isfinite(scores)).all():
        row = int(np.argmin(finite))
        raise DataError(f"head family {fitted.config.family!r}: the score of row {row} is {scores[row]}")
    return scores


def trained_base(base: encode.Base, fitted: Fitted) -> encode.Base:
    """The base with the parameters that pretraining gave it, or as it was; its digest, and so its cache, is its own."""
    return with_params(base, fitted.base) if fitted.base else base


def with_params(base: encode.Base, params: Any) -> encode.Base:
    """The base with other parameters, and a digest of its own."""
    hasher = hashlib.sha256(base.digest.encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        hasher.update(jax.tree_util.keystr(path).encode())
        hasher.update(np.ascontiguousarray(leaf).tobytes())
    return dataclasses.replace(base, params=jax.tree.map(jnp.asarray, params), digest=hasher.hexdigest())


def _finite(fitted: Fitted) -> Fitted:
    """The scorer, where all that was learned is finite."""
    shared, generic = dict(fitted.shared), {}
    if "generic" in shared:
        generic = shared.pop("generic")
    _check_learned("what users share", fitted.config, shared, "pooled_learning_rate")
    _check_learned("the pooled head", fitted.config, generic, "pooled_learning_rate")
    _check_users(fitted.config, fitted.bank)
    return fitted


def _check_learned(what: str, config: FitConfig, learned: Any, rate: str) -> None:
    for name, leaf in checks.leaves(learned).items():
        if checks.not_finite(np.asarray(leaf)).any():
            raise DataError(f"head family {config.family!r}: {what} is not finite ({name}): give a smaller {rate}")


def _check_users(config: FitConfig, users: heads.User) -> None:
    if (user := checks.first_not_finite(users)) is not None:
        less = "" if isinstance(heads.get(config.family), heads.Convex) else ": give a smaller learning_rate"
        raise DataError(f"head family {config.family!r}: the head of user {user} is not finite{less}")


def _check_examples(examples: Examples, num_users: int) -> None:
    checks.check_is(examples, Examples, "the examples")
    examples.check_users(checks.number(num_users, "num_users", 0))


def _check_widths(dims: heads.Dims, x: np.ndarray, extras: np.ndarray) -> None:
    if (x.shape[1:], extras.shape[1:]) != ((dims.features,), (dims.extras,)):
        raise DataError(
            f"features have width {x.shape[-1]} and extras {extras.shape[-1]}, the scorer was fitted with "
            f"{dims.features} and {dims.extras}"
        )
