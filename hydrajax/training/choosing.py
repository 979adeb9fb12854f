"""Choosing what a configuration leaves open: rates, epochs and priors of the pooled head and of users' own heads.

Twice a quarter of the training users (of few users a half) is new: what all users share and the pooled head are learned
from the others, heads of the new ones are fitted on most of their pools and judged by the mean loss of the rest. The
pooled head itself, 0 epochs, is among the choices unless a number is given, or the base is yet to be trained. Users'
own heads are then taken where they are better by more than two standard errors over users, than the pooled head and
than the heads of others: what was learned from fewer users than there are leaves something to be learned from any user,
whoever it is.
"""

import dataclasses
import functools
import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from hydrajax.nn import heads
from hydrajax.training import config as configs
from hydrajax.training import fitted as fitted_
from hydrajax.training import head_fits, losses, programs, rows, stages
from hydrajax.training.config import FitConfig
from hydrajax.training.examples import Examples, chunked, padded
from hydrajax.training.fitted import Fitted
from hydrajax.training.solver import Progress, Setting
from hydrajax.types import DataError

_log = logging.getLogger(__name__)

LEAST_USERS = 4  # with examples; of fewer nothing is chosen
LEAST_JUDGING = 2  # new users of whom what is kept aside has a loss
MOST_USERS = 64
MOST_LARGE = 48
MOST_SHARING = 512  # small heads beside shared parameters, which few users cannot teach
ERRORS = 2.0  # the best of many settings is ahead by luck, too
MOST_LENDERS = 8  # of heads, to each user: of few users one may be alike by chance
KEPT_ASIDE = 3  # every third of a user's pools
# Settings whose heads are fitted and judged at once.
SWEPT_BYTES = 2**28


def _grid(config: FitConfig, dims: heads.Dims) -> configs.Grid:
    family = fitted_.family_of(config)
    small = heads.head_bytes(family, dims) < rows.SIDE_BY_SIDE_BYTES
    if not jax.tree.leaves(heads.shared_shapes(family, dims)):
        return configs.CONVEX if isinstance(family, heads.Convex) else configs.SMALL if small else configs.LARGE
    if not heads.stores_users(family, dims) or not small:
        return configs.LARGE_SHARING
    sharing = configs.HELD_SHARING if hasattr(family, "prior") else configs.SMALL_SHARING
    if config.init != "pooled":  # nothing holds heads while they learn
        free = configs.LARGE_SHARING
        sharing = dataclasses.replace(sharing, learning=free.learning, strengths=free.strengths)
    if isinstance(family, heads.Convex):
        exact = configs.CONVEX
        sharing = dataclasses.replace(sharing, rates=exact.rates, offsets=exact.offsets, epochs=exact.epochs)
    return sharing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fold:
    """Users 0..num_users-1 who teach what is shared, and others, who are new, with what is kept aside of them."""

    learned: Examples
    num_users: int
    seen: Examples
    kept: Examples
    num_new: int
    margin: np.ndarray | None
    normaliser: Any


def choose(config: FitConfig, examples: Examples, num_users: int, *, progress: Progress | None = None) -> FitConfig:
    """The configuration with numbers in the place of what is None.

    With fewer than `LEAST_USERS` users who have two pools (or two examples, where the loss does not look at pools; of
    families that give users nothing of their own one is enough), or where what is kept aside has no loss (no two
    candidates of a pool differ), nothing can be chosen: `configs.FALLBACK` is taken.

    Args:
      config: numbers that are given stay.
      examples: of users 0..num_users-1, with features.
      progress: called with (fits done, fits).
    """
    family, dims, grid = fitted_.family_of(config), examples.dims, _grid(config, examples.dims)
    shares = bool(jax.tree.leaves(heads.shared_shapes(family, dims)))
    stores = heads.stores_users(family, dims)
    small = heads.head_bytes(family, dims) < rows.SIDE_BY_SIDE_BYTES
    most = MOST_LARGE if not small else MOST_SHARING if shares and stores else MOST_USERS
    # Nothing need be seen of a user to whom a family gives nothing of their own.
    least = 2 if stores or isinstance(family, heads.Encoded) else 1
    is_open = any(getattr(config, name) is None for name in configs.FALLBACK)
    folds = _folds(config, examples, num_users, most, least) if is_open else []
    if sum(_judging(config, fold) for fold in folds) < LEAST_JUDGING:
        return configs.resolved(config)

    trials = _trials(config, grid, stages.updates_an_epoch(config, folds[0].learned, folds[0].num_users))
    judged = (len(trials) if shares else 1) if stores else 0
    steps = itertools.count(1)

    def tick() -> None:
        if progress is not None:
            progress(next(steps), len(folds) * len(trials) + judged)

    learned = _learned(trials, folds, tick)
    pooled = {trial: _means(map(_pooled_loss, scorers, folds)) for trial, scorers in learned.items()}
    best = _least(config, pooled, "its loss is")
    if not stores:
        return configs.resolved(best)
    # Beside shared parameters the pooled head says little of what they are worth to users: all are tried.
    user_losses: dict[FitConfig, np.ndarray] = {}
    scorers_of: dict[FitConfig, list[Fitted]] = {}
    for trial in trials if shares else [best]:
        for setting, epochs, losses_ in _personal_losses(trial, grid, learned[trial], folds):
            chosen = {name: getattr(setting, name) for name in ("learning_rate", "prior_strength", "offset_strength")}
            full = dataclasses.replace(configs.resolved(trial, **chosen), epochs=epochs)
            user_losses[full], scorers_of[full] = losses_, learned[trial]
        tick()
    best = _least(config, user_losses, "users' heads lose what is")
    without_own = {full: losses_ for full, losses_ in user_losses.items() if full.epochs == 0}
    if without_own and best.epochs:
        pooled_best = _least(config, without_own, "its pooled head's loss is")
        surely = {full: own for full, own in user_losses.items() if _better(own, user_losses[pooled_best])}
        best = _least(config, surely, "users' heads lose what is") if surely else pooled_best
        if surely and not _better(user_losses[best], _lent_losses(best, scorers_of[best], folds)):
            best = pooled_best
    if best.epochs == 0:
        _tell_of_worse_than_constant(config, user_losses[best], folds)
    return dataclasses.replace(best, fit_bank=config.fit_bank)


def _trials(config: FitConfig, grid: configs.Grid, updates_an_epoch: int) -> list[FitConfig]:
    """Configurations in which what is shared and the pooled head have numbers."""
    trials = []
    for (rate, epochs, updates), (ridge, prior) in itertools.product(grid.learning, grid.strengths):
        chosen: dict[str, Any] = {
            "pooled_learning_rate": rate,
            "pooled_epochs": max(epochs, -(-updates // updates_an_epoch)),
            "pooled_ridge": ridge,
            "prior_strength": prior,
        }
        free = {name: value for name, value in chosen.items() if getattr(config, name) is None}
        trials.append(dataclasses.replace(config, **free))
    return list(dict.fromkeys(trials))


def _learned(
    trials: Sequence[FitConfig], folds: Sequence[Fold], tick: Callable[[], None]
) -> dict[FitConfig, list[Fitted]]:
    """What each fold's teachers give under every trial; `tick` is called after each."""
    learned: dict[FitConfig, list[Fitted]] = {trial: [] for trial in trials}
    bare = [configs.resolved(dataclasses.replace(trial, fit_bank=False)) for trial in trials]
    for fold in folds:
        known = {"margin": fold.margin, "normaliser": fold.normaliser}
        for trial, fitted in zip(trials, stages.learn_each(bare, fold.learned, fold.num_users, **known), strict=True):
            learned[trial].append(fitted)
            tick()
    return learned


def _least(config: FitConfig, user_losses: Mapping[FitConfig, np.ndarray], what: str) -> FitConfig:
    """The setting of the least mean loss, of equal ones that with the fewest epochs.

    Raises:
      DataError: none is finite.
    """

    def rank(setting: FitConfig) -> tuple[float, int]:
        mean = float(user_losses[setting].mean())
        return round(mean, 6) if math.isfinite(mean) else math.inf, setting.epochs or 0

    best = min(user_losses, key=rank)
    if rank(best)[0] == math.inf:
        raise DataError(f"head family {config.family!r}: {what} not finite under any setting that was tried")
    return best


def _personal_losses(
    trial: FitConfig, grid: configs.Grid, learned: Sequence[Fitted], folds: Sequence[Fold]
) -> Iterator[tuple[Setting, int, np.ndarray]]:
    """(setting, epochs, each new user's mean loss) of every choice for users' own heads; 0 epochs first."""
    family, dims = learned[0].family, learned[0].dims
    tried = {"learning_rate": grid.rates, "prior_strength": grid.priors, "offset_strength": grid.offsets}
    tried |= {name: (getattr(trial, name),) for name in tried if getattr(trial, name) is not None}
    if not stages.pulled(learned[0]):
        tried |= {"prior_strength": (0.0,), "offset_strength": (0.0,)}
    epochs = grid.epochs if trial.epochs is None else (trial.epochs,)
    settings = head_fits.product(**tried, weight_decay=(trial.weight_decay,), seed=(trial.seed,))
    # A base that is yet to learn from users' own heads says nothing of what these will be worth.
    if trial.epochs is None and not trial.train_base:
        priors = tried["prior_strength"]
        first = dataclasses.replace(settings[0], prior_strength=priors[len(priors) // 2])
        yield first, 0, _means(_loss(fitted, None, fold) for fitted, fold in zip(learned, folds, strict=True))
    users = max(fold.num_new for fold in folds)
    at_once = max(1, SWEPT_BYTES // (heads.head_bytes(family, dims) * users * len(epochs)))
    for part in (settings[i : i + at_once] for i in range(0, len(settings), at_once)):
        found = [
            stages.swept(fitted, fold.seen, fold.num_new, part, epochs)
            for fitted, fold in zip(learned, folds, strict=True)
        ]
        for i, setting in enumerate(part):
            for n in epochs:
                parts = [
                    _loss(fitted, jax.tree.map(lambda leaf: leaf[i], heads_[n]), fold)  # noqa: B023
                    for fitted, heads_, fold in zip(learned, found, folds, strict=True)
                ]
                yield setting, n, _means(parts)


def _lent_losses(best: FitConfig, learned: Sequence[Fitted], folds: Sequence[Fold]) -> np.ndarray:
    """Each new user's mean loss by the heads that others of the fold's new users got, who are two or more."""
    setting, epochs = stages.setting(best, learned[0]), configs.numbers_of(best).epochs
    parts = []
    for fitted, fold in zip(learned, folds, strict=True):
        heads_ = stages.swept(fitted, fold.seen, fold.num_new, [setting], (epochs,))[epochs]
        lent = [
            _loss(fitted, jax.tree.map(lambda leaf: np.roll(leaf[0], n, axis=0), heads_), fold)  # noqa: B023
            for n in range(1, min(fold.num_new, MOST_LENDERS + 1))
        ]
        parts.append((np.mean([sums for sums, _ in lent], axis=0), lent[0][1]))
    return _means(parts)


def _better(losses: np.ndarray, others: np.ndarray) -> bool:
    """Whether users' losses are lower by more than `ERRORS` standard errors of the mean difference."""
    gain = others - losses
    return bool(gain.mean() > ERRORS * gain.std() / math.sqrt(len(gain)))


def _tell_of_worse_than_constant(config: FitConfig, user_losses: np.ndarray, folds: Sequence[Fold]) -> None:
    """A warning where users who are new to a head are worse off with it than with one score for everything."""
    constant = []
    for fold in folds:
        rate = np.clip(fold.learned.label.mean(), 1e-3, 1 - 1e-3)
        score = 0.0 if config.loss in losses.WITHIN_POOL else math.log(rate / (1 - rate))
        scores = np.full(len(fold.kept.user), score, np.float32)
        constant.append(_user_losses(config.loss, scores, fold.kept, fold.num_new))
    others = _means(constant)
    if _better(others, user_losses):
        _log.warning(
            "head family %r: the pooled head, which was taken for everybody, loses %.3f on users it has not seen, and "
            "one and the same score for everything %.3f: it has learned nothing that is of use to them",
            config.family,
            user_losses.mean(),
            others.mean(),
        )


def _folds(config: FitConfig, examples: Examples, num_users: int, most: int, least: int) -> list[Fold]:
    """Two folds of at most so many users, who have so many pools at least, new ones spread evenly; none where there are
    too few."""
    groups = [_groups(config, examples, np.flatnonzero(examples.user == user)) for user in range(num_users)]
    users = np.array([user for user in range(num_users) if len(groups[user]) >= least], int)
    if len(users) < LEAST_USERS:
        return []
    if len(users) > most:
        users = users[np.linspace(0, len(users) - 1, most).astype(int)]
    aside = np.zeros(len(examples.user), bool)
    for user in users:
        every = min(KEPT_ASIDE, len(groups[user]))
        aside[np.concatenate(groups[user][every - 1 :: every])] = True
    made = []
    share = 4 if len(users) >= 2 * LEAST_USERS else 2  # two new users at least: one is lent the other's head
    for new in (users[::share], users[share // 2 :: share]):
        teachers = np.setdiff1d(users, new)
        learned = _of(examples, np.isin(examples.user, teachers), teachers)
        is_new = np.isin(examples.user, new)
        made.append(
            Fold(
                learned=learned,
                num_users=len(teachers),
                seen=_of(examples, is_new & ~aside, new),
                kept=_of(examples, is_new & aside, new),
                num_new=len(new),
                margin=stages.offsets(config, learned),
                normaliser=stages.normaliser_of(config, learned),
            )
        )
    return made


def _judging(config: FitConfig, fold: Fold) -> int:
    """How many new users' examples that are kept aside have a loss at all."""
    zeros = np.zeros(len(fold.kept.user), np.float32)
    return int((_user_losses(config.loss, zeros, fold.kept, fold.num_new)[1] > 0).sum())


def _groups(config: FitConfig, examples: Examples, rows: np.ndarray) -> list[np.ndarray]:
    """A user's rows by pool; one by one where there is a single pool that the loss does not look at."""
    pool = examples.pool[rows]
    pools = np.unique(pool)
    if len(pools) > 1 or config.loss in losses.WITHIN_POOL:
        return [rows[pool == number] for number in pools]
    return list(rows[:, None])


def _of(examples: Examples, keep: np.ndarray, users: np.ndarray) -> Examples:
    """These rows, users numbered anew."""
    columns = {field.name: getattr(examples, field.name)[keep] for field in dataclasses.fields(examples)}
    return Examples(**columns | {"user": np.searchsorted(users, columns["user"])})


def _pooled_loss(fitted: Fitted, fold: Fold) -> tuple[np.ndarray, np.ndarray]:
    """`_loss` of the pooled head; of users that are encoded, where that is how the family has users at all."""
    family = fitted.family
    if not isinstance(family, heads.Encoded):
        return _loss(fitted, None, fold)
    users = stages.encode_users(family, fitted.shared, fold.seen, fold.num_new, normaliser=fitted.normaliser)
    return _loss(fitted, users, fold)


def _loss(fitted: Fitted, users: Any, fold: Fold) -> tuple[np.ndarray, np.ndarray]:
    """(Summed loss, weight) of each user's examples that were kept aside, by users' own heads or by the pooled head."""
    kept = fold.kept
    rows = kept.user
    if users is None:
        users = jax.tree.map(lambda leaf: np.asarray(leaf)[None], fitted.generic)
        rows = np.zeros_like(rows)
    if not jax.tree.leaves(users):
        rows = np.zeros_like(rows)
    scores = programs.score(
        fitted.family, fitted.shared, users, kept.features, kept.extras, rows, normaliser=fitted.normaliser
    )
    return _user_losses(fitted.config.loss, scores, kept, fold.num_new)


def _means(parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Mean losses of users with any weight, of all folds after each other."""
    sums, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
    return (sums / np.maximum(weights, 1e-9))[weights > 0]


def _user_losses(
    loss: str, scores: Float[np.ndarray, " N"], examples: Examples, num_users: int
) -> tuple[Float[np.ndarray, " U"], Float[np.ndarray, " U"]]:
    """(Summed loss, its weight) of these scores, by user."""
    made = chunked(examples.user, examples.pool, num_users, size=int(np.bincount(examples.user).max(initial=1)))
    size = padded(made.rows.shape[1])
    take = np.pad(made.rows, ((0, 0), (0, size - made.rows.shape[1])), constant_values=-1)
    columns = (scores, examples.label, examples.score, examples.pool)
    s, label, score, pool = (column[np.maximum(take, 0)] for column in columns)
    targets = losses.Targets(label=label, score=score, pool=pool, mask=take >= 0)
    owner = np.repeat(np.arange(num_users), (made.stop - made.start)[0])  # a user without examples has no row
    total, weight = np.zeros(num_users, np.float32), np.zeros(num_users, np.float32)
    total[owner], weight[owner] = jax.device_get(_losses(loss)(s, targets))
    return total, weight


@functools.lru_cache(maxsize=8)
def _losses(loss: str) -> Any:
    return jax.jit(jax.vmap(losses.get(loss)))
