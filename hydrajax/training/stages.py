"""The stages of a fit whose numbers are all given: what is shared, the pooled head, heads of users."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from hydrajax.nn import backends, encode, heads
from hydrajax.nn import scorer as scorers
from hydrajax.training import config as configs
from hydrajax.training import joint, losses, programs, rows, solver
from hydrajax.training.config import FitConfig
from hydrajax.training.examples import Examples
from hydrajax.training.fitted import Fitted, Snapshots
from hydrajax.training.solver import Progress

ENCODED_USERS = 16  # in one forward pass
POOLED_OFFSET = 0.01  # strength of the prior of the pooled head's offsets
OFFSETS_RIDGE = 1.0  # strength of the prior of the linear head beside which users' offsets are fitted
ROUNDS = 3
BESIDE_SHARED = (4, 256)  # most passes, or updates, of the pooled head where what is shared has learned already


def learn(
    config: FitConfig,
    examples: Examples,
    num_users: int,
    *,
    margin: np.ndarray | None = None,
    normaliser: scorers.Normaliser | None = None,
    shared: heads.Shared | None = None,
    checkpoint: str | pathlib.Path | None = None,
    progress: Progress | None = None,
) -> Fitted:
    """`fit.pretrain` on features, of checked arguments, with a configuration in which nothing is left to choose.

    Args:
      margin: of `offsets`, where it is known already.
      normaliser: of `normaliser_of`, where it is known already.
      shared: what users share, where it is known already.
    """
    numbers, fitted = configs.numbers_of(config), _begun(config, examples, normaliser)
    family = fitted.family
    stores = heads.stores_users(family, fitted.dims)
    if shared is not None:
        fitted = dataclasses.replace(fitted, shared=shared)
    elif jax.tree.leaves(heads.shared_shapes(family, fitted.dims)):
        state, means = joint.train(
            fitted,
            examples,
            num_users,
            epochs=numbers.pooled_epochs,
            head=_first(fitted),
            checkpoint=checkpoint,
            progress=progress,
        )
        fitted = dataclasses.replace(fitted, shared=jax.device_get(state.shared), curves={"base": tuple(means)})
    if stores and "generic" not in fitted.shared:
        ((head, curve),) = pooled(fitted, examples, [numbers.pooled_ridge], margin, progress)
        fitted = _with(fitted, "pooled", curve, shared={**fitted.shared, "generic": head})
    if stores and config.fit_bank:
        found = personal(fitted, examples, num_users, (numbers.epochs,), None, progress)
        fitted = _with(fitted, "personal", found.curve, bank=found.heads[numbers.epochs])
    return fitted


def learn_each(
    trials: Sequence[FitConfig],
    examples: Examples,
    num_users: int,
    *,
    margin: np.ndarray | None,
    normaliser: scorers.Normaliser,
) -> list[Fitted]:
    """`learn` under each of several configurations without `fit_bank`, which differ in numbers.

    What small families share is learned under all of them side by side, on one device, and so is the pooled head of a
    convex family that shares nothing, whose configurations differ in `pooled_ridge` alone.
    """
    fitted = _begun(trials[0], examples, normaliser)
    family, dims = fitted.family, fitted.dims
    if jax.tree.leaves(heads.shared_shapes(family, dims)):
        shared: Sequence[Any] = [None] * len(trials)
        if (
            heads.stores_users(family, dims)
            and heads.head_bytes(family, dims) < rows.SIDE_BY_SIDE_BYTES
            and not backends.mesh()
        ):
            shared = _shared_by(fitted, trials, examples, num_users)
    elif isinstance(family, heads.Convex):
        found = pooled(fitted, examples, [configs.numbers_of(trial).pooled_ridge for trial in trials], margin, None)
        return [
            _with(dataclasses.replace(fitted, config=trial), "pooled", curve, shared={"generic": head})
            for trial, (head, curve) in zip(trials, found, strict=True)
        ]
    else:
        shared = [None] * len(trials)
    return [
        learn(trial, examples, num_users, margin=margin, normaliser=normaliser, shared=part)
        for trial, part in zip(trials, shared, strict=True)
    ]


def updates_an_epoch(config: FitConfig, examples: Examples, num_users: int) -> int:
    """Updates of what users share in one of `pooled_epochs`; of the pooled head where they share nothing."""
    fitted = _begun(config, examples)
    if jax.tree.leaves(heads.shared_shapes(fitted.family, fitted.dims)):
        return joint.updates_an_epoch(fitted, examples, num_users)
    return max(1, -(-len(examples.user) // rows.pooled_batch(len(examples.user))))


def _shared_by(fitted: Fitted, trials: Sequence[FitConfig], examples: Examples, num_users: int) -> list[heads.Shared]:
    """What users share as `learn` learns it under each of these configurations."""
    found: dict[FitConfig, heads.Shared] = {}
    for epochs in dict.fromkeys(configs.numbers_of(trial).pooled_epochs for trial in trials):
        group = [trial for trial in trials if configs.numbers_of(trial).pooled_epochs == epochs]
        begun = dataclasses.replace(fitted, config=group[0])
        made = joint.sweep(begun, examples, num_users, group, epochs=epochs, head=_first(begun))
        found |= dict(zip(group, made, strict=True))
    return [found[trial] for trial in trials]


def _first(fitted: Fitted) -> heads.User | None:
    """Where users' heads start beside shared parameters that are yet to be learned: one start for everybody."""
    family, config = fitted.family, fitted.config
    if not heads.stores_users(family, fitted.dims) or config.init != "pooled":
        return None
    return jax.jit(lambda key: family.init_user(key, fitted.dims))(jax.random.key(config.seed))


def train_base(
    config: FitConfig,
    examples: Examples,
    features: np.ndarray,
    num_users: int,
    *,
    base: encode.Base,
    checkpoint: str | pathlib.Path | None = None,
    progress: Progress | None = None,
) -> tuple[Any, tuple[float, ...]]:
    """The base learns beside the training users' heads, in one step.

    These, and what users share, start as they are learned on the features of the base as it is: heads that are all
    alike would teach it nothing of what users differ in. With `init="fresh"` they start at random, as HYDRA's do.

    Args:
      examples: with tokens.
      features: of them by `base`, float32 [N, D].

    Returns:
      (parameters of the base, numpy; mean loss of every epoch).
    """
    encoded = dataclasses.replace(examples, x=features)
    fitted = _begun(config, encoded)
    if config.init == "pooled":
        fitted = learn(dataclasses.replace(config, fit_bank=True), encoded, num_users, progress=progress)
    state, means = joint.train(
        fitted,
        examples,
        num_users,
        epochs=config.base_epochs,
        base=base,
        head=fitted.shared.get("generic"),
        checkpoint=checkpoint,
        progress=progress,
    )
    return jax.device_get(state.base), tuple(means)


def _begun(config: FitConfig, examples: Examples, normaliser: scorers.Normaliser | None = None) -> Fitted:
    """Nothing is learned yet but the statistics of the inputs."""
    normaliser = normaliser or normaliser_of(config, examples)
    return Fitted(config=config, dims=examples.dims, normaliser=normaliser, shared={}, bank={}, base={}, curves={})


def pooled(
    fitted: Fitted,
    examples: Examples,
    ridges: Sequence[float],
    margin: np.ndarray | None,
    progress: Progress | None,
) -> list[tuple[heads.User, tuple[float, ...]]]:
    """One head on everybody's examples, and its curve: the fit of a single user to whom they all belong.

    Args:
      fitted: what the head stands beside.
      examples: of users.
      ridges: of convex families, a head for each; others look at none, and get the same head for each.
      margin: of `offsets`, where it is known already.
      progress: called with (1, 1).
    """
    config, numbers, convex = fitted.config, configs.numbers_of(fitted.config), isinstance(fitted.family, heads.Convex)
    settings = [
        solver.Setting(
            learning_rate=numbers.pooled_learning_rate,
            weight_decay=config.weight_decay,
            prior_strength=ridge,
            offset_strength=min(ridge, POOLED_OFFSET),
            seed=config.seed,
        )
        for ridge in (ridges if convex else (0.0,))
    ]
    shares = bool(jax.tree.leaves(heads.shared_shapes(fitted.family, fitted.dims)))
    epochs, batch_examples = numbers.pooled_epochs, rows.pooled_batch(len(examples.user))
    if shares:
        passes, updates = BESIDE_SHARED
        epochs = min(epochs, max(passes, -(-updates // max(1, -(-len(examples.user) // batch_examples)))))
    problem = _problem(
        fitted,
        dataclasses.replace(examples, user=np.zeros_like(examples.user)),
        1,
        keys=solver.checked_keys(None, 1),
        epochs=(epochs,),
        batch_examples=batch_examples,
        decays=True,
        margin=offsets(config, examples) if margin is None else margin,
    )
    found, curves = solver.solve(problem, settings, progress=progress)
    made = [
        (jax.tree.map(lambda leaf: leaf[i, 0], found[epochs]), tuple(curves[i].tolist()))  # noqa: B023
        for i in range(len(settings))
    ]
    return made if convex else made * len(ridges)


def offsets(config: FitConfig, examples: Examples) -> np.ndarray | None:
    """What each example's user adds to every score, float32 [N], beside one linear head for everybody.

    A pooled head that does not know who is severe takes severity for noise, or for a matter of what the severe happen
    to write about. Users' intercepts and the linear head are fitted in turn. None where families have no units, or the
    loss compares a user's examples with each other alone.
    """
    if not config.scaled or config.loss in losses.WITHIN_POOL:
        return None
    normaliser = normaliser_of(config, examples)
    family = heads.get("linear")
    setting = solver.Setting(prior_strength=OFFSETS_RIDGE, offset_strength=POOLED_OFFSET)
    everybody = dataclasses.replace(examples, user=np.zeros_like(examples.user))
    offset = np.zeros(int(examples.user.max(initial=-1)) + 1, np.float32)
    for _ in range(ROUNDS):
        problem = solver.Problem(
            family=family,
            loss="cross_entropy",
            examples=everybody,
            num_users=1,
            keys=solver.checked_keys(None, 1),
            normaliser=normaliser,
            epochs=(1,),
            batch_examples=rows.pooled_batch(len(examples.user)),
            margin=offset[examples.user],
        )
        head = jax.tree.map(lambda leaf: leaf[0], solver.solve(problem, [setting])[0][1])
        s = programs.score(family, {}, head, examples.features, examples.extras, everybody.user, normaliser=normaliser)
        offset = losses.intercepts(s, examples.label, examples.user, len(offset))
    return offset[examples.user]


def personal(
    fitted: Fitted,
    examples: Examples,
    num_users: int,
    epochs: Sequence[int],
    user_keys: np.ndarray | None,
    progress: Progress | None,
) -> Snapshots:
    """Heads of users from their own examples; everything else is frozen."""
    found, curve = _solve(fitted, examples, num_users, [setting(fitted.config, fitted)], epochs, user_keys, progress)
    users = {n: jax.tree.map(lambda leaf: leaf[0], stack) for n, stack in found.items()}
    return Snapshots(heads=users, curve=tuple(curve[0].tolist()))


def swept(
    fitted: Fitted, examples: Examples, num_users: int, settings: Sequence[solver.Setting], epochs: Sequence[int]
) -> dict[int, heads.User]:
    """`personal` under each of S settings, in one program: number of epochs -> heads, every leaf [S, U, ...]."""
    return _solve(fitted, examples, num_users, settings, epochs, None, None)[0]


def setting(config: FitConfig, fitted: Fitted) -> solver.Setting:
    """How users' heads are fitted beside a scorer, by the numbers of a configuration."""
    numbers, held = configs.numbers_of(config), pulled(fitted)
    return solver.Setting(
        learning_rate=numbers.learning_rate,
        weight_decay=config.weight_decay,
        prior_strength=numbers.prior_strength if held else 0.0,
        offset_strength=numbers.offset_strength if held else 0.0,
        seed=config.seed,
    )


def pulled(fitted: Fitted) -> bool:
    """Whether a prior holds users' heads where they start."""
    return isinstance(fitted.family, heads.Convex) or fitted.config.init == "pooled"


def _solve(
    fitted: Fitted,
    examples: Examples,
    num_users: int,
    settings: Sequence[solver.Setting],
    epochs: Sequence[int],
    user_keys: np.ndarray | None,
    progress: Progress | None,
) -> tuple[dict[int, heads.User], np.ndarray]:
    config, generic = fitted.config, fitted.generic
    problem = _problem(
        fitted,
        examples,
        num_users,
        keys=solver.checked_keys(user_keys, num_users),
        anchor=generic if config.init == "pooled" else None,
        generic=generic,
        epochs=tuple(epochs),
        batch_examples=config.batch_examples,
        decays=config.decays,
        moments=config.moments,
    )
    group = config.users_per_batch
    parallel = rows.users_in_parallel(group)
    return solver.solve(problem, settings, parallel=parallel, group=group, progress=progress)


def _problem(fitted: Fitted, examples: Examples, num_users: int, **fields: Any) -> solver.Problem:
    """Heads beside the frozen parts of a scorer."""
    return solver.Problem(
        family=fitted.family,
        loss=fitted.config.loss,
        examples=examples,
        num_users=num_users,
        normaliser=fitted.normaliser,
        shared=fitted.shared,
        scaled=fitted.config.scaled,
        clip=fitted.config.clip,
        **fields,
    )


def normaliser_of(config: FitConfig, examples: Examples) -> scorers.Normaliser:
    """Statistics of the inputs, or those that leave them as they are."""
    if config.standardise:
        return scorers.fit_normaliser(examples.features, examples.extras)
    return scorers.unchanged(examples.dims)


def _with(fitted: Fitted, stage: str, curve: tuple[float, ...], **parts: Any) -> Fitted:
    """The scorer with what another stage gave."""
    return dataclasses.replace(fitted, curves={**fitted.curves, stage: curve}, **parts)


def encode_users(
    family: heads.Encoded,
    shared: heads.Shared,
    examples: Examples,
    num_users: int,
    *,
    normaliser: scorers.Normaliser,
) -> heads.User:
    """Users of a family that stores nothing, each in one forward pass; numpy, every leaf [num_users, ...].

    A user is made of that user's examples alone. Of more than `losses.CONTEXT` examples the last ones are taken, the
    newest where a user's examples come in the order of the profile; which come first among those does not matter.
    Nobody's examples are a user without a profile, `family.generic(shared)`.
    """
    x, extras, label, user = examples.features, examples.extras, examples.label, examples.user
    order = np.argsort(user, kind="stable")
    ends = np.searchsorted(user[order], np.arange(num_users + 1))
    rows = np.full((-(-max(num_users, 1) // ENCODED_USERS) * ENCODED_USERS, losses.CONTEXT), -1, np.int32)
    for number in range(num_users):
        context = order[ends[number] : ends[number + 1]][-losses.CONTEXT :]
        rows[number, : len(context)] = context
    if not len(user):  # something to point at
        x, extras, label = (np.zeros((1, *leaf.shape[1:]), np.float32) for leaf in (x, extras, label))
    groups = []
    for group in np.split(rows, len(rows) // ENCODED_USERS):
        take = np.maximum(group, 0)
        encoded = _encode(family)(normaliser, shared, x[take], extras[take], label[take], group >= 0)
        groups.append(jax.device_get(encoded))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num_users], *groups)


@functools.lru_cache(maxsize=64)
def _encode(family: heads.Encoded) -> Any:
    def encode_users(normaliser, shared, x, extras, label, mask):
        contexts = heads.Context(x=scorers.inputs(normaliser, x, extras), label=label, mask=mask)
        return jax.vmap(lambda context: family.encode_user(shared, context))(contexts)

    return jax.jit(encode_users)
