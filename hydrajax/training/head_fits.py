"""Heads fitted on features for callers of their own: their arguments checked, put into a `Problem`, and solved."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Num

from hydrajax.nn import families, family_checks, heads
from hydrajax.nn import scorer as scorers
from hydrajax.training import checks, losses, rows
from hydrajax.training import config as configs
from hydrajax.training import examples as examples_
from hydrajax.training.solver import Problem, Progress, Setting, checked_keys, solve
from hydrajax.types import DataError


def fit_heads(
    family: str | heads.Family,
    x: Float[np.ndarray, "N D"],
    user: Num[np.ndarray, " N"],
    label: Num[np.ndarray, " N"] | Bool[np.ndarray, " N"],
    *,
    num_users: int,
    start: heads.User | None = None,
    shared: heads.Shared | None = None,
    extras: Float[np.ndarray, "N X"] | None = None,
    score: Num[np.ndarray, " N"] | None = None,
    pool: Num[np.ndarray, " N"] | None = None,
    normaliser: scorers.Normaliser | None = None,
    user_keys: Num[np.ndarray, " U"] | None = None,
    loss: str = "cross_entropy",
    epochs: int = 8,
    learning_rate: float = 3e-4,
    weight_decay: float = 0.01,
    prior_strength: float = 10.0,
    offset_strength: float | None = None,
    batch_examples: int = 32,
    scaled: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> heads.User:
    """Personalises many users at once on features: a head of each user's own, from that user's examples alone.

    Each user's whole fit (all epochs, all mini-batches) is one loop inside a compiled program. Head u minimises

        mean loss of u's examples + 1 / (2 n_u) sum_j strength_j ((head_j - start_j) / scale_j)^2

    with every scale 1 and every strength `prior_strength`, or where `scaled` those of the family (`heads.Units`),
    by AdamW whose decay pulls towards `start`, or by Newton's method where the family is convex; `epochs`,
    `learning_rate`, `weight_decay`, `batch_examples` and `seed` then mean nothing. The result is a function of the
    arguments; a user's head does not depend on who else is fitted, nor on the order of users (see `user_keys`). In
    what order a user's own examples come does matter to families that are fitted by gradient steps: mini-batches
    are drawn from it. Features of unlike sizes, or far from 1, should be standardised (`scorer.fit_normaliser`):
    the defaults are for such inputs, and float32 cannot tell small features beside very large ones.

    Nothing is chosen here: 8 epochs at 3e-4 suit an `mlp` over hundreds of examples of a user, and hardly move a small
    head over few. `sweep_heads` tries several settings; `pretrain` chooses them on training users.

    Args:
      family: a name of `families.names()`, with its settings behind a colon, or a family that stores parameters.
      x: features.
      user: which user each example is of, whole numbers 0..num_users-1, in any order.
      label: 0..1, or true and false.
      num_users: U. A user without examples (or, in losses inside a pool, without two that differ) gets `start`.
      start: one head, where every user's begins and what it is pulled to, the pooled head for example. None: heads
        begin at initialisations of their own and are pulled to zeros, which is also what users without examples get.
      shared: what users of the family share (`low_rank_mlp`, `simplex`), frozen.
      extras: further inputs, appended to x.
      score: graded quality, for `pairwise` and `regression`; by default the labels.
      pool: the examples that are compared with each other, for `pairwise` and `regression`; by default a user's all.
      normaliser: standardises the inputs (`scorer.fit_normaliser`); None leaves them as they are.
      user_keys: what tells users apart in draws, whole numbers below 2^32, hashes of their ids for example; by default
        the row numbers.
      loss: a name of `losses.LOSSES`.
      epochs: passes over each user's examples.
      learning_rate: of AdamW; where `scaled` the step of one of D weights.
      weight_decay: of AdamW, decoupled.
      prior_strength: of the Gaussian prior, worth so many examples; convex families need one.
      offset_strength: of the prior of intercepts and of what is added for an extra, for `scaled` fits alone; None: 1.
      batch_examples: most examples in an update (a whole pool may be more).
      scaled: steps and priors are in units of the family (`heads.Units`), as `pretrain` has them; else every scale is 1
        and `prior_strength` holds offsets, too.
      seed: of initialisations, orders and dropout.
      progress: called with (users done, users).

    Returns:
      heads, numpy, every leaf [U, ...].

    Raises:
      DataError: NaN or infinite numbers, an unknown user, arrays that do not fit each other, a family that stores
        nothing of a user or whose shared parameters are missing, a number out of its range, or heads that are not
        finite or did not converge.
    """
    examples = examples_.Examples(
        user=user,
        x=x,
        extras=np.zeros((*np.shape(user)[:1], 0), np.float32) if extras is None else extras,
        label=label,
        score=label if score is None else score,
        pool=user if pool is None else pool,
    )
    setting = Setting(
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        prior_strength=prior_strength,
        offset_strength=1.0 if offset_strength is None else offset_strength,
        seed=seed,
    )
    if offset_strength is not None and not scaled:
        raise DataError(
            f"offset_strength is {offset_strength}, but without scaled=True offsets have no prior of their own"
        )
    users = _fitted(
        family,
        examples,
        [setting],
        num_users=num_users,
        start=start,
        shared=shared,
        normaliser=normaliser,
        user_keys=user_keys,
        loss=loss,
        epochs=epochs,
        batch_examples=batch_examples,
        scaled=scaled,
        progress=progress,
    )
    return jax.tree.map(lambda leaf: leaf[0], users)


def sweep_heads(
    family: str | heads.Family,
    examples: examples_.Examples,
    settings: Sequence[Any],
    *,
    num_users: int,
    start: heads.User | None = None,
    shared: heads.Shared | None = None,
    normaliser: scorers.Normaliser | None = None,
    user_keys: Num[np.ndarray, " U"] | None = None,
    loss: str = "cross_entropy",
    epochs: int = 8,
    batch_examples: int = 32,
    scaled: bool = False,
    over: Any = None,
    progress: Progress | None = None,
) -> heads.User:
    """`fit_heads` under each of S settings, in the programs that one setting takes: numbers compile nothing new.

    Seeds cost most where settings go side by side: each seed has mini-batches of its own.

    Args:
      family: a name of `families.names()`, with its settings behind a colon, or a family that stores parameters.
      examples: of features, of users 0..num_users-1.
      settings: S of `Setting`. All heads are kept: S x U of them must fit into the memory.
      num_users: U.
      start: as in `fit_heads`.
      shared: as in `fit_heads`.
      normaliser: as in `fit_heads`.
      user_keys: as in `fit_heads`.
      loss: a name of `losses.LOSSES`.
      epochs: passes over each user's examples.
      batch_examples: most examples in an update.
      scaled: as in `fit_heads`.
      over: `vmap` fits settings side by side, `map` one after another; None chooses.
      progress: called with (users done, users).

    Returns:
      heads, numpy, every leaf [S, U, ...]: those of `fit_heads` under each setting, to rounding.

    Raises:
      DataError: as `fit_heads`; no setting, or another `over`; or a dropout for a family that has none, or for some
        settings only.
    """
    if not settings:
        raise DataError("the sweep has no setting, expected at least one")
    if over not in (None, "vmap", "map"):
        raise DataError(f"over is {over!r}, expected 'vmap', 'map' or None")
    return _fitted(
        family,
        examples,
        settings,
        num_users=num_users,
        start=start,
        shared=shared,
        normaliser=normaliser,
        user_keys=user_keys,
        loss=loss,
        epochs=epochs,
        batch_examples=batch_examples,
        scaled=scaled,
        over=over,
        where="setting {} of the sweep: ",
        progress=progress,
    )


def product(**values: Iterable[Any]) -> list[Setting]:
    """Every combination of these values: `product(learning_rate=(1e-4, 1e-3), seed=range(3))` are 6 settings."""
    return [Setting(**dict(zip(values, chosen, strict=True))) for chosen in itertools.product(*values.values())]


def family_of(family: Any) -> heads.Family:
    """The family, which may be given by name.

    Raises:
      DataError: there is no such family, or it is neither.
    """
    if isinstance(family, str):
        return heads.get(family)
    if isinstance(family, type) and issubclass(family, heads.Family):
        raise DataError(
            f"family is the class {family.__name__}, expected {family.__name__}(), with settings if it has any"
        )
    lacks = [method for method in heads.METHODS if not hasattr(family, method)]
    if 0 < len(lacks) < len(heads.METHODS):
        raise DataError(f"family {type(family).__name__} lacks {', '.join(lacks)}, see heads.Family")
    if isinstance(family, type) or not isinstance(family, heads.Family):
        raise DataError(f"family is {family!r}, expected a family, or a name: {families.KIND.expected()}")
    return family


def _fitted(
    family: str | heads.Family,
    examples: examples_.Examples,
    settings: Sequence[Any],
    *,
    num_users: int,
    start: heads.User | None,
    shared: heads.Shared | None,
    normaliser: scorers.Normaliser | None,
    user_keys: Any,
    loss: str,
    epochs: int,
    batch_examples: int,
    scaled: bool,
    progress: Progress | None,
    over: Any = None,
    where: str = "",
) -> heads.User:
    """The heads of `fit_heads` and of `sweep_heads`, from their arguments; `where` names a setting in what is refused.

    Every leaf is [S, U, ...].
    """
    family = family_of(family)
    losses.get(loss)
    configs.check_numbers(epochs=epochs, batch_examples=batch_examples)
    checks.number(num_users, "num_users", 0)
    examples.check_users(num_users)
    problem = Problem(
        family=family,
        loss=loss,
        examples=examples,
        num_users=num_users,
        keys=checked_keys(user_keys, num_users),
        normaliser=normaliser,
        shared={} if shared is None else shared,
        anchor=start,
        epochs=(epochs,),
        batch_examples=batch_examples,
        scaled=scaled,
    )
    name, dims = type(family).__name__, problem.dims
    family_checks.check(family, dims)
    if not heads.stores_users(family, dims):
        raise DataError(f"{name} stores nothing of a user, so there is no head to fit: pretrain learns it")
    if normaliser is not None and np.shape(normaliser.mean) != (dims.inputs,):
        raise DataError(f"the normaliser has {np.size(normaliser.mean)} inputs, expected {dims.inputs}")
    if normaliser is not None:
        checks.check_finite(vars(normaliser), "the normaliser")
    if start is not None:
        _check_parameters(checks.leaves(start), problem.template, f"start of {name}")
    # What users share may hold more, the pooled head for example.
    needed = heads.shared_shapes(family, dims)
    held = {leaf: value for leaf, value in checks.leaves(problem.shared).items() if leaf in checks.leaves(needed)}
    _check_parameters(held, needed, f"shared of {name}")
    _check_settings(family, 1.0 / problem.units.step, settings, where)
    found, _ = solve(problem, settings, over=over, parallel=rows.users_in_parallel(), progress=progress)
    for i in range(len(settings)):
        _check_heads(family, jax.tree.map(lambda leaf: leaf[i], found[epochs]), where.format(i))  # noqa: B023
    return found[epochs]


def _check_parameters(given: Mapping[str, Any], needed: Any, what: str) -> None:
    """Refuses leaves, by name, of other names or shapes than these, and what are no finite floats."""
    leaves = {name: np.asarray(leaf) for name, leaf in given.items()}
    floats = {name: leaf.astype(np.float32) if leaf.dtype.kind == "f" else leaf for name, leaf in leaves.items()}
    checks.check_like(floats, checks.leaves(needed), what)
    checks.check_finite(floats, what)


def _check_settings(family: heads.Family, factor: float, settings: Sequence[Any], where: str) -> None:
    for number, setting in enumerate(settings):
        if not isinstance(setting, Setting):
            raise DataError(f"setting {number} of the sweep is {setting!r}, expected a Setting")
        try:
            configs.check_numbers(**{k: v for k, v in vars(setting).items() if k != "dropout" or v is not None})
            if not 0 < setting.learning_rate * factor < configs.LARGEST_RATE:
                raise DataError(
                    f"learning_rate is {setting.learning_rate}, in units of {type(family).__name__} "
                    f"{setting.learning_rate * factor:g}, expected more than 0 and less than {configs.LARGEST_RATE}"
                )
        except DataError as error:
            raise DataError(f"{where.format(number)}{error}") from None
    given = {setting.dropout is not None for setting in settings}
    if len(given) > 1:
        raise DataError("the sweep gives a dropout to some settings only, expected all or none")
    if True in given and not heads.has_dropout(family):
        raise DataError(f"the sweep has dropout, but {type(family).__name__} has none")


def _check_heads(family: heads.Family, users: heads.User, where: str) -> None:
    """Refuses heads [U, ...] of which one is not finite, named after `where`."""
    if (user := checks.first_not_finite(users)) is not None:
        less = "" if isinstance(family, heads.Convex) else "a smaller learning_rate or weight_decay, or "
        raise DataError(
            f"{where}{type(family).__name__}: the head of user {user} is not finite: give {less}a normaliser"
        )
