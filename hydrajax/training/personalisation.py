"""Heads of many users on features of one's own: the functional entry, and the checks of what it is given."""

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Num, UInt32

from hydrajax.nn import heads
from hydrajax.nn import scorer as scorers
from hydrajax.training import losses, per_user, user_fit
from hydrajax.training.examples import Examples
from hydrajax.types import DataError


def fit_heads(
    family: str | heads.Family,
    x: Float[np.ndarray, "N D"],
    user: Int[np.ndarray, " N"],
    label: Num[np.ndarray, " N"] | Bool[np.ndarray, " N"],
    *,
    num_users: int,
    start: heads.User | None = None,
    shared: heads.Shared | None = None,
    extras: Float[np.ndarray, "N X"] | None = None,
    score: Num[np.ndarray, " N"] | None = None,
    pool: Int[np.ndarray, " N"] | None = None,
    normaliser: scorers.Normaliser | None = None,
    user_keys: UInt32[np.ndarray, " U"] | None = None,
    loss: str = "cross_entropy",
    epochs: int = 8,
    learning_rate: float = 3e-4,
    weight_decay: float = 0.01,
    prior_strength: float = 10.0,
    batch_examples: int = 32,
    seed: int = 0,
    progress: per_user.Progress | None = None,
) -> heads.User:
    """Personalises many users at once on features: a head of each user's own, from that user's examples alone.

    Each user's whole fit (all epochs, all mini-batches) is one loop inside one compiled program. Head u minimises

        mean loss of u's examples + prior_strength / (2 n_u) |head - start|^2

    by AdamW whose decay pulls towards `start`, or by Newton's method where the family is convex; `epochs`,
    `learning_rate`, `weight_decay`, `batch_examples` and `seed` then mean nothing. The result is a function of the
    arguments; a user's head does not depend on who else is fitted, nor on the order of users (see `user_keys`).

    Args:
      family: a name of `heads.names()`, with its settings behind a colon, or a family that stores parameters.
      x: features.
      user: which user each example is of, 0..num_users-1, in any order.
      label: 0..1, for `cross_entropy`.
      num_users: U. A user without examples (or, in losses inside a pool, without two that differ) gets `start`.
      start: one head, where every user's begins and what it is pulled to, the pooled head for example. None: heads
        begin at initialisations of their own and are pulled to zeros, which is also what users without examples get.
      shared: what users of the family share (`low_rank_mlp`, `simplex`), frozen.
      extras: further inputs, appended to x.
      score: graded quality, for `pairwise` and `regression`; by default the labels.
      pool: the examples that are compared with each other, for `pairwise` and `regression`; by default a user's all.
      normaliser: standardises the inputs (`scorer.fit_normaliser`); None leaves them as they are.
      user_keys: what tells users apart in draws, hashes of their ids for example; by default the row numbers.
      loss: a name of `losses.LOSSES`.
      epochs: passes over each user's examples.
      learning_rate: of AdamW; times the family's own factor where it has one.
      weight_decay: of AdamW, decoupled.
      prior_strength: of the Gaussian prior, worth so many examples; convex families need one.
      batch_examples: most examples in an update (a whole pool may be more).
      seed: of initialisations, orders and dropout.
      progress: called with (users done, users).

    Returns:
      heads, numpy, every leaf [U, ...].

    Raises:
      DataError: NaN or infinite numbers, an unknown user, arrays that do not fit each other, a family that stores
        nothing of a user or whose shared parameters are missing, or a number out of its range.
    """
    examples = Examples(
        user=user,
        x=x,
        extras=np.zeros((len(user), 0), np.float32) if extras is None else extras,
        label=label,
        score=label if score is None else score,
        pool=user if pool is None else pool,
    )
    check_numbers(
        epochs=epochs,
        batch_examples=batch_examples,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        prior_strength=prior_strength,
    )
    problem = checked_problem(
        family, examples, num_users, loss=loss, start=start, shared=shared, normaliser=normaliser, user_keys=user_keys
    )
    schedule = per_user.Schedule(epochs=(epochs,), batch_examples=batch_examples, parallel=per_user.parallel_users())
    rates = user_fit.Rates(
        learning_rate=learning_rate * heads.rate(problem.family),
        weight_decay=weight_decay,
        prior_strength=prior_strength,
    )
    found, _ = per_user.fit(problem, schedule, rates, seed=seed, progress=progress)
    return found[epochs]


def checked_problem(
    family: str | heads.Family,
    examples: Examples,
    num_users: int,
    *,
    loss: str,
    start: heads.User | None,
    shared: heads.Shared | None,
    normaliser: scorers.Normaliser | None,
    user_keys: UInt32[np.ndarray, " U"] | None,
) -> per_user.Problem:
    """The problem of `fit_heads` and of a sweep, from their arguments.

    Raises:
      DataError: see `fit_heads`.
    """
    family = heads.get(family) if isinstance(family, str) else family
    losses.get(loss)
    examples.check_users(num_users)
    keys = np.arange(num_users, dtype=np.uint32) if user_keys is None else np.asarray(user_keys, np.uint32)
    data = per_user.of_examples(examples, keys)
    problem = per_user.Problem(
        family=family,
        dims=heads.Dims(features=data.x.shape[1], extras=data.extras.shape[1]),
        loss=loss,
        data=data,
        num_users=num_users,
        normaliser=normaliser,
        shared={} if shared is None else shared,
        anchor=start,
        generic=start,
    )
    check_inputs(problem)
    return problem


def check_numbers(**numbers: float | int) -> None:
    """Refuses settings out of their range.

    Raises:
      DataError: the first that is.
    """
    for name, value in numbers.items():
        if name.endswith(("epochs", "batch_examples", "users_per_batch")):
            if value < 1:
                raise DataError(f"{name} is {value}, expected 1 or more")
        elif name.endswith("learning_rate"):
            if not 0 < value < 1000:
                raise DataError(f"{name} is {value}, expected more than 0 and less than 1000")
        elif name == "dropout":
            if not 0 <= value < 1:
                raise DataError(f"{name} is {value}, expected 0 or more and less than 1")
        elif not 0 <= value < np.inf:
            raise DataError(f"{name} is {value}, expected a finite number of 0 or more")


def check_inputs(problem: per_user.Problem) -> None:
    """Refuses what does not fit the family and its inputs.

    Raises:
      DataError: the first that does not.
    """
    family, dims, keys, normaliser = problem.family, problem.dims, problem.data.keys, problem.normaliser
    name = type(family).__name__
    if not heads.stores_users(family, dims):
        raise DataError(f"{name} stores nothing of a user, so there is no head to fit")
    if np.shape(keys) != (problem.num_users,):
        raise DataError(f"user_keys has shape {list(np.shape(keys))}, expected [{problem.num_users}]")
    if normaliser is not None and np.shape(normaliser.mean) != (dims.inputs,):
        raise DataError(f"the normaliser has {np.size(normaliser.mean)} inputs, expected {dims.inputs}")
    shared = jax.eval_shape(lambda: family.init_shared(jax.random.key(0), dims))
    for what, got, expected in (("start", problem.anchor, problem.template()), ("shared", problem.shared, shared)):
        if what == "start" and got is None:
            continue
        shapes = [
            {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
            for tree in (got, expected)
        ]
        missing = {k: v for k, v in shapes[1].items() if shapes[0].get(k) != v}
        if missing:
            told = ", ".join(f"{k} {list(v)}" for k, v in missing.items())
            raise DataError(f"{what} of {name} has {shapes[0] or 'nothing'}, expected {told}")
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(got)):
            raise DataError(f"{what} of {name} holds a number that is not finite")
