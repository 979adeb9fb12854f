"""Heads of many users on features of one's own: the functional entry, and the checks of what it is given."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Num

from hydrajax.nn import families, heads
from hydrajax.nn import scorer as scorers
from hydrajax.training import checks, losses, per_user, user_fit
from hydrajax.training.examples import Examples
from hydrajax.types import DataError

LARGEST_RATE = 1000
CHECKED_AT_ONCE = 256  # users


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
    batch_examples: int = 32,
    seed: int = 0,
    progress: per_user.Progress | None = None,
) -> heads.User:
    """Personalises many users at once on features: a head of each user's own, from that user's examples alone.

    Each user's whole fit (all epochs, all mini-batches) is one loop inside one compiled program. Head u minimises

        mean loss of u's examples + prior_strength / (2 n_u) |head - start|^2

    by AdamW whose decay pulls towards `start`, or by Newton's method where the family is convex; `epochs`,
    `learning_rate`, `weight_decay`, `batch_examples` and `seed` then mean nothing. The result is a function of the
    arguments; a user's head does not depend on who else is fitted, nor on the order of users (see `user_keys`). In what
    order a user's own examples come does matter to families that are fitted by gradient steps: mini-batches are drawn
    from it. Features of unlike sizes, or far from 1, should be standardised (`scorer.fit_normaliser`): the defaults are
    for such inputs, and float32 cannot tell small features beside very large ones.

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
        nothing of a user or whose shared parameters are missing, a number out of its range, or heads that are not
        finite or did not converge.
    """
    examples = Examples(
        user=user,
        x=x,
        extras=np.zeros((*np.shape(user)[:1], 0), np.float32) if extras is None else extras,
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
        seed=seed,
    )
    problem = checked_problem(
        family, examples, num_users, loss=loss, start=start, shared=shared, normaliser=normaliser, user_keys=user_keys
    )
    schedule = per_user.Schedule(epochs=(epochs,), batch_examples=batch_examples, parallel=per_user.parallel_users())
    rates = user_fit.Rates(
        learning_rate=effective_rate(problem.family, learning_rate),
        weight_decay=weight_decay,
        prior_strength=prior_strength,
    )
    found, _ = per_user.fit(problem, schedule, rates, seed=seed, progress=progress)
    check_heads(problem.family, found[epochs])
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
    user_keys: Num[np.ndarray, " U"] | None,
) -> per_user.Problem:
    """The problem of `fit_heads` and of a sweep, from their arguments.

    Raises:
      DataError: see `fit_heads`.
    """
    family = family_of(family)
    losses.get(loss)
    checks.number(num_users, "num_users", 0)
    examples.check_users(num_users)
    keys = np.arange(num_users) if user_keys is None else user_keys
    data = per_user.of_examples(examples, checked_keys(keys))
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


def family_of(family: Any) -> heads.Family:
    """The family, which may be given by name.

    Raises:
      DataError: there is no such family, or it is neither.
    """
    if isinstance(family, str):
        return heads.get(family)
    if isinstance(family, type) or not isinstance(family, heads.Family):
        raise DataError(f"family is {family!r}, expected a family or one of {', '.join(families.names())}")
    return family


def checked_keys(user_keys: Any) -> np.ndarray:
    """What tells users apart in draws, uint32.

    Raises:
      DataError: numbers that would wrap or be cut.
    """
    return checks.whole(user_keys, "user_keys", 0, 2**32 - 1).astype(np.uint32)


def effective_rate(family: heads.Family, learning_rate: float | int) -> float:
    """The learning rate times the family's own factor.

    Raises:
      DataError: it is out of range.
    """
    factor = heads.rate(family)
    if not 0 < learning_rate * factor < LARGEST_RATE:
        raise DataError(
            f"learning_rate is {learning_rate}, times the factor {factor:g} of {type(family).__name__} "
            f"{learning_rate * factor:g}, expected more than 0 and less than {LARGEST_RATE}"
        )
    return learning_rate * factor


def check_heads(family: heads.Family, found: heads.User, where: str = "") -> None:
    """Refuses heads that are not finite.

    Args:
      family: of the heads.
      found: every leaf [U, ...].
      where: told before the user.

    Raises:
      DataError: naming the first user.
    """
    leaves = jax.tree.leaves(found)
    for first in range(0, len(leaves[0]), CHECKED_AT_ONCE):  # in parts: all at once would take a quarter of the heads
        parts = [leaf[first : first + CHECKED_AT_ONCE] for leaf in leaves]
        bad = np.any([~np.isfinite(part).reshape(len(part), -1).all(axis=1) for part in parts], axis=0)
        if bad.any():
            less = "" if isinstance(family, heads.Convex) else "a smaller learning_rate or weight_decay, or "
            user = first + int(np.flatnonzero(bad)[0])
            raise DataError(f"{where}the head of user {user} is not finite: give {less}a normaliser")


def check_numbers(**numbers: Any) -> None:
    """Refuses settings out of their range.

    Raises:
      DataError: the first that is.
    """
    for name, value in numbers.items():
        whole = name.endswith(("epochs", "batch_examples", "users_per_batch"))
        if name == "seed":
            checks.number(value, name, 0)
        elif isinstance(value, bool) or not isinstance(value, (int, np.integer) if whole else (int, float, np.number)):
            raise DataError(f"{name} is {value!r}, expected a {'whole ' * whole}number")
        elif whole:
            if value < 1:
                raise DataError(f"{name} is {value}, expected 1 or more")
        elif name.endswith("learning_rate"):
            if not 0 < value < LARGEST_RATE:
                raise DataError(f"{name} is {value}, expected more than 0 and less than {LARGEST_RATE}")
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
        raise DataError(f"{name} stores nothing of a user, so there is no head to fit: fit.pretrain learns it")
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
        # What users share may hold more, the pooled head for example.
        if what == "start" and (more := sorted({*shapes[0]} - {*shapes[1]})):
            raise DataError(f"start of {name} has {', '.join(more)}, expected {', '.join(shapes[1])} alone")
        missing = {k: v for k, v in shapes[1].items() if shapes[0].get(k) != v}
        if missing:
            told = ", ".join(f"{k} {list(v)}" for k, v in missing.items())
            raise DataError(f"{what} of {name} has {shapes[0] or 'nothing'}, expected {told}")
        for path, leaf in checks.leaves(got).items():
            if not np.issubdtype(np.asarray(leaf).dtype, np.floating):
                raise DataError(f"{what} of {name}: {path} is {np.asarray(leaf).dtype}, expected float32")
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(got)):
            raise DataError(f"{what} of {name} holds a number that is not finite")
