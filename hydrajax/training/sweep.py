"""The same fit under many settings, on shared features, in one compiled program.

Settings are learning rate, weight decay, dropout, prior strength and seed. Small heads are fitted side by side: what
settings have in common (rows of the table, products with shared matrices, the kernel of Newton's method) is computed
once, and small operations become large ones. Large heads go one after another inside the program, since side by side
they would not fit into a CPU's cache.

On two busy cores, 64 settings at d = 384 over 100 examples a user (`python -m experiments.benchmarks personalise`),
one program takes the time of 64 warm fits times .25 to .38 for `linear`, .02 to .03 for `simplex`, and .6 to .94 for
`mlp`, which goes in turn.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hydrajax.nn import heads
from hydrajax.nn import scorer as scorers
from hydrajax.training import newton, per_user, personalisation, user_fit
from hydrajax.training.examples import Examples
from hydrajax.types import DataError

# Bytes of a head up to which settings are fitted side by side on a CPU.
SIDE_BY_SIDE = 2**15


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting of a sweep; a convex family looks at `prior_strength` alone.

    Attributes:
      learning_rate: of AdamW; times the family's own factor where it has one.
      weight_decay: of AdamW, decoupled.
      prior_strength: of the Gaussian prior, worth so many examples.
      dropout: in families that have it; None: the family's own.
      seed: of initialisations, orders and dropout.
    """

    learning_rate: float = 3e-4
    weight_decay: float = 0.01
    prior_strength: float = 10.0
    dropout: float | None = None
    seed: int = 0


def sweep_heads(
    family: str | heads.Family,
    examples: Examples,
    settings: Sequence[Any],
    *,
    num_users: int,
    start: heads.User | None = None,
    shared: heads.Shared | None = None,
    normaliser: scorers.Normaliser | None = None,
    user_keys: np.ndarray | None = None,
    loss: str = "cross_entropy",
    epochs: int = 8,
    batch_examples: int = 32,
    over: Any = None,
    progress: per_user.Progress | None = None,
) -> heads.User:
    """`fit_heads` under each of S settings, in one program that is compiled once.

    Seeds cost most where settings go side by side: each seed has mini-batches of its own.

    Args:
      family: a name of `heads.names()`, with its settings behind a colon, or a family that stores parameters.
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
      over: `vmap` fits settings side by side, `map` one after another; None chooses.
      progress: called with (users done, users).

    Returns:
      heads, numpy, every leaf [S, U, ...]: those of `fit_heads` under each setting, to rounding.

    Raises:
      DataError: as `fit_heads`; no setting, or another `over`; or a dropout for a family that has none, or for some
        settings only.
    """
    problem = personalisation.checked_problem(
        family, examples, num_users, loss=loss, start=start, shared=shared, normaliser=normaliser, user_keys=user_keys
    )
    family = problem.family
    _check(family, settings)
    if over not in (None, "vmap", "map"):
        raise DataError(f"over is {over!r}, expected 'vmap', 'map' or None")
    personalisation.check_numbers(epochs=epochs, batch_examples=batch_examples)
    convex = isinstance(family, heads.Convex)
    if over is None:
        over = choose(family, problem.dims)

    # K seeds with R settings each; a seed with fewer settings repeats its last one, which is thrown away.
    seeds = (0,) if convex else tuple(dict.fromkeys(one.seed for one in settings))
    members = [[i for i, one in enumerate(settings) if convex or one.seed == seed] for seed in seeds]
    most = max(len(group) for group in members)
    grid = np.array([group + group[-1:] * (most - len(group)) for group in members])  # [K, R]
    place = {int(i): (k, r) for (k, r), i in reversed(list(np.ndenumerate(grid)))}
    rates = _rates(family, settings, grid)
    if convex:
        rates = dataclasses.replace(rates, prior_strength=rates.prior_strength[0])
    schedule = per_user.Schedule(epochs=(epochs,), batch_examples=batch_examples, parallel=per_user.parallel_users())
    prepared = per_user.prepare(problem, schedule, rates, seeds=seeds, over=over)
    found = prepared.empty((len(settings), num_users))
    done = 0
    for users, (made, told) in per_user.computed(prepared.jobs):
        if convex:
            newton.check_converged(users, *told)
        for i, (k, r) in place.items():
            at = (slice(None), r, 0) if convex else (slice(None), k, r, 0)
            jax.tree.map(lambda out, new: per_user.put(out[i], users, new[at]), found, made)  # noqa: B023
        done += len(users)
        if progress is not None:
            progress(done, num_users)
    for i in range(len(settings)):
        own = jax.tree.map(lambda leaf: leaf[i], found)  # noqa: B023
        personalisation.check_heads(family, own, f"setting {i} of the sweep: ")
    return found


def product(**values: Iterable[Any]) -> list[Setting]:
    """Every combination of these values: `product(learning_rate=(1e-4, 1e-3), seed=range(3))` are 6 settings."""
    return [Setting(**dict(zip(values, chosen, strict=True))) for chosen in itertools.product(*values.values())]


def choose(family: heads.Family, dims: heads.Dims) -> user_fit.Over:
    """Whether settings go side by side: always on an accelerator, on a CPU where heads are small."""
    small = head_bytes(family, dims) <= SIDE_BY_SIDE
    return "vmap" if small or jax.default_backend() != "cpu" else "map"


def head_bytes(family: heads.Family, dims: heads.Dims) -> int:
    """Bytes of one head's parameters."""
    template = jax.eval_shape(lambda: family.init_user(jax.random.key(0), dims))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(template))


def _rates(family: heads.Family, settings: Sequence[Setting], grid: np.ndarray) -> Any:
    """Rates with leaves [K, R]; dropout is traced only where it differs."""

    def column(name: str, factor: float = 1.0) -> jax.Array:
        return jnp.asarray(np.array([getattr(one, name) * factor for one in settings], np.float32)[grid])

    return user_fit.Rates(
        learning_rate=column("learning_rate", heads.rate(family)),
        weight_decay=column("weight_decay"),
        prior_strength=column("prior_strength"),
        dropout=None if settings[0].dropout is None else column("dropout"),
    )


def _check(family: heads.Family, settings: Sequence[Any]) -> None:
    if not settings:
        raise DataError("the sweep has no setting, expected at least one")
    for number, one in enumerate(settings):
        if not isinstance(one, Setting):
            raise DataError(f"setting {number} of the sweep is {one!r}, expected a Setting")
        values = {name: value for name, value in vars(one).items() if value is not None}
        try:
            personalisation.check_numbers(**values)
            personalisation.effective_rate(family, one.learning_rate)
        except DataError as error:
            raise DataError(f"setting {number} of the sweep: {error}") from None
    given = {one.dropout is not None for one in settings}
    if len(given) > 1:
        raise DataError("the sweep gives a dropout to some settings only, expected all or none")
    if True in given and not heads.has_dropout(family):
        raise DataError(f"the sweep has dropout, but {type(family).__name__} has none")
