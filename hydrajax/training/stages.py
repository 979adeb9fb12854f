"""The stages of a fit whose numbers are all given: what is shared, the pooled head, heads of users."""

import dataclasses
import functools
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
from hydrajax.training import config as configs
from hydrajax.training import joint, loop, losses, newton, programs, rows, sharded, solver
from hydrajax.training import state as states
from hydrajax.training.config import FitConfig
from hydrajax.training.examples import Examples
from hydrajax.training.fitted import Fitted
from hydrajax.training.solver import Progress

POOLED_OFFSET = 0.01  # strength of the prior of the pooled head's offsets
OFFSETS_RIDGE = 1.0  # strength of the prior of the linear head beside which users' offsets are fitted
ROUNDS = 3
CHECKPOINTS = 20  # at most, while a base is trained: a killed run loses one part in so many of it, or an update


@dataclasses.dataclass(frozen=True, kw_only=True)
class Snapshots:
    """Heads after each of several numbers of epochs, so that validation users can choose it.

    Attributes:
      heads: number of epochs -> heads, every leaf [num_users, ...].
      curve: mean training loss per epoch over all users; convex families: before and after.
    """

    heads: dict[int, heads.User]
    curve: tuple[float, ...]


def learn(
    config: FitConfig,
    examples: Examples,
    num_users: int,
    *,
    margin: np.ndarray | None = None,
    checkpoint: str | pathlib.Path | None = None,
    progress: Progress | None = None,
) -> Fitted:
    """`fit.pretrain` on features, of checked arguments, with a configuration in which nothing is left to choose.

    Args:
      margin: of `offsets`, where it is known already.
    """
    (fitted,) = learn_shared([config], examples, num_users, margin=margin, checkpoint=checkpoint, progress=progress)
    if heads.stores_users(fitted.family, fitted.dims) and config.fit_bank and not jax.tree.leaves(fitted.bank):
        epochs = configs.numbers_of(config).epochs
        found = personal(fitted, examples, num_users, (epochs,), None, progress)
        fitted = _with(fitted, "personal", found.curve, bank=found.heads[epochs])
    return fitted


def learn_shared(
    trials: Sequence[FitConfig],
    examples: Examples,
    num_users: int,
    *,
    margin: np.ndarray | None = None,
    checkpoint: str | pathlib.Path | None = None,
    progress: Progress | None = None,
) -> list[Fitted]:
    """`learn` without heads of users' own, under configurations that differ in `pooled_ridge` alone."""
    config = trials[0]
    numbers, fitted = configs.numbers_of(config), _begun(config, examples)
    family = fitted.family
    stores = heads.stores_users(family, fitted.dims)
    if jax.tree.leaves(heads.shared_shapes(family, fitted.dims)):
        head = None
        if stores and config.init == "pooled":
            # Beside shared parameters that are yet to be learned there is no pooled head: one start for everybody.
            head = jax.jit(lambda key: family.init_user(key, fitted.dims))(jax.random.key(config.seed))
        state, means = train_jointly(
            fitted,
            examples,
            num_users,
            epochs=numbers.pooled_epochs,
            head=head,
            checkpoint=checkpoint,
            progress=progress,
        )
        shared, bank = jax.device_get((state.shared, state.bank))
        fitted = dataclasses.replace(fitted, shared=shared, bank=bank, curves={"base": tuple(means)})
    made = [dataclasses.replace(fitted, config=trial) for trial in trials]
    if not stores or "generic" in fitted.shared:
        return made
    ridges = [configs.numbers_of(trial).pooled_ridge for trial in trials]
    found = pooled(fitted, examples, ridges, margin, progress)
    return [
        _with(each, "pooled", curve, shared={**fitted.shared, "generic": head})
        for each, (head, curve) in zip(made, found, strict=True)
    ]


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
    state, means = train_jointly(
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


def _begun(config: FitConfig, examples: Examples) -> Fitted:
    """Nothing is learned yet but the statistics of the inputs."""
    dims = heads.Dims(features=examples.features.shape[1], extras=examples.extras.shape[1])
    normaliser = _normaliser(config, examples)
    return Fitted(config=config, dims=dims, normaliser=normaliser, shared={}, bank={}, base={}, curves={})


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
    config, numbers, family = fitted.config, configs.numbers_of(fitted.config), fitted.family
    encodes = isinstance(family, heads.Encoded)
    if base is None:
        most, size, total = min(config.users_per_batch, rows.frozen_users(num_users)), config.batch_examples, None
    else:
        # As many users as fill a batch with the fewest examples each that leave no padding, so that they are mixed.
        most, total = config.users_per_batch, config.base_batch_examples
        size = min(config.batch_examples, total, max(loop.SMALLEST, -(-total // max(num_users, 1))))
    plan = loop.plan(
        examples,
        num_users,
        epochs=epochs,
        users_per_batch=max(1, min(most, num_users)),
        batch_examples=max(config.batch_examples, 2 * losses.CONTEXT) if encodes else size,
        total_examples=total,
        prior_strength=numbers.prior_strength if head is not None else 0.0,
        seed=config.seed,
        # The other half of a divided pool would be lost to a loss inside pools, and tell an encoded user's own labels.
        whole_pools=config.loss in losses.WITHIN_POOL or encodes,
        clusters=getattr(family, "clusters", 0) if encodes else 0,
    )
    scorer = scorers.Scorer(family=family, dims=fitted.dims)
    if base is not None and isinstance(examples.x, tokens.Tokens):
        at_once = config.micro_batch or rows.texts_at_once(examples.x.ids.shape[1])
        scorer = dataclasses.replace(scorer, module=base.module, pooling=base.pooling, micro_batch=at_once)
    updates = plan.ends[-1]
    varying = joint.Varying(
        rate=numbers.learning_rate,
        updates=float(plan.updates().max(initial=1)) if config.decays else None,
        shared_rate=numbers.pooled_learning_rate,
        shared_updates=float(updates),
        offset_prior=numbers.offset_strength / numbers.prior_strength if numbers.prior_strength else 1.0,
        normaliser=fitted.normaliser,
    )
    nothing: dict[str, Any] = dict.fromkeys(configs.CHOSEN)
    fixed = dataclasses.replace(config, seed=0, **nothing)
    base_tx, head_tx, _ = joint.optimizers_of(scorer, fixed, base is not None, varying)
    state = states.init_state(
        scorer,
        base_tx,
        head_tx,
        num_users=num_users,
        key=jax.random.key(config.seed),
        base=base.params if base is not None else None,
        head=head,
    )
    known = {name: part for name, part in fitted.shared.items() if name in state.shared}
    state = state.replace(shared={**state.shared, **known}, bank=fitted.bank or state.bank)
    mesh = sharded.default_mesh()
    varying = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), varying)
    return loop.run(
        functools.partial(joint.update(scorer, fixed, base is not None, mesh), varying),
        state,
        plan,
        checkpoint=checkpoint,
        save_every=None if base is None else max(1, -(-updates // CHECKPOINTS)),
        run_id="" if checkpoint is None else _run_id(config, examples, num_users, base),
        mesh=mesh,
        jitted=True,
        progress=progress,
    )


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
      ridges: of convex families; others look at none, and get the same head for each.
      margin: of `offsets`, where it is known already.
      progress: called with (1, 1).
    """
    config, numbers = fitted.config, configs.numbers_of(fitted.config)
    convex = isinstance(fitted.family, heads.Convex)
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
    problem = _problem(
        fitted,
        dataclasses.replace(examples, user=np.zeros_like(examples.user)),
        1,
        keys=solver.checked_keys(None, 1),
        epochs=(numbers.pooled_epochs,),
        batch_examples=rows.pooled_batch(len(examples.user)),
        decays=True,
        margin=offsets(config, examples) if margin is None else margin,
    )
    found, curves = solver.solve(problem, settings, progress=progress)
    made = [
        (jax.tree.map(lambda leaf: leaf[i, 0], found[numbers.pooled_epochs]), tuple(curves[i].tolist()))  # noqa: B023
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
    normaliser = _normaliser(config, examples)
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
        offset = newton.intercepts(s, examples.label, examples.user, len(offset))
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
    config, numbers = fitted.config, configs.numbers_of(fitted.config)
    setting = solver.Setting(
        learning_rate=numbers.learning_rate,
        weight_decay=config.weight_decay,
        prior_strength=numbers.prior_strength if pulled(fitted) else 0.0,
        offset_strength=numbers.offset_strength if pulled(fitted) else 0.0,
        seed=config.seed,
    )
    found, curve = _solve(fitted, examples, num_users, [setting], epochs, user_keys, progress)
    users = {n: jax.tree.map(lambda leaf: leaf[0], stack) for n, stack in found.items()}
    return Snapshots(heads=users, curve=tuple(curve[0].tolist()))


def swept(
    fitted: Fitted, examples: Examples, num_users: int, settings: Sequence[solver.Setting], epochs: Sequence[int]
) -> dict[int, heads.User]:
    """`personal` under each of S settings, in one program: number of epochs -> heads, every leaf [S, U, ...]."""
    return _solve(fitted, examples, num_users, settings, epochs, None, None)[0]


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


def _normaliser(config: FitConfig, examples: Examples) -> scorers.Normaliser:
    if config.standardise:
        return scorers.fit_normaliser(examples.features, examples.extras)
    return scorers.unchanged(heads.Dims(features=examples.features.shape[1], extras=examples.extras.shape[1]))


def _with(fitted: Fitted, stage: str, curve: tuple[float, ...], **parts: Any) -> Fitted:
    """The scorer with what another stage gave."""
    return dataclasses.replace(fitted, curves={**fitted.curves, stage: curve}, **parts)


def _run_id(config: FitConfig, examples: Examples, num_users: int, base: encode.Base | None) -> str:
    hasher = hashlib.sha256(json.dumps([dataclasses.asdict(config), num_users, base.digest if base else ""]).encode())
    for leaf in jax.tree.leaves([getattr(examples, field.name) for field in dataclasses.fields(examples)]):
        hasher.update(np.ascontiguousarray(leaf).tobytes())
    return hasher.hexdigest()
