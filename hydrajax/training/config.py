"""How a scorer is fitted. Configurations are read where nothing is computed yet: this file imports no JAX."""

import dataclasses
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, Literal

from hydrajax.nn import families
from hydrajax.types import DataError

LARGEST_RATE = 1000
# The names in `losses.LOSSES`.
LOSSES = ("cross_entropy", "pairwise", "regression", "listwise", "distillation", "ordinal")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Numbers:
    """What `pretrain` chooses where `FitConfig` has None; here as it is with too few users to choose."""

    epochs: int = 8
    learning_rate: float = 1e-3
    prior_strength: float = 10.0
    offset_strength: float = 6.0
    pooled_epochs: int = 4
    pooled_learning_rate: float = 1e-3
    pooled_ridge: float = 1.0


FALLBACK = dataclasses.asdict(Numbers())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """The values that are tried for one kind of family, every combination of them.

    Attributes:
      learning: (learning rate, epochs, updates) of the pooled head and of what users share. Where so many epochs are
        fewer updates than these, as with few users, there are as many epochs as hold them.
      strengths: (`pooled_ridge`, `prior_strength`) while these are learned; the latter None where it is `priors`.
      rates: of users' own heads, as are the following.
      priors: `prior_strength`.
      offsets: `offset_strength`.
      epochs: passes; 0 are tried as well, unless a number is given or a base is to be trained.
    """

    learning: Sequence[tuple[float, int, int]]
    strengths: Sequence[tuple[float, float | None]] = ((1.0, None),)
    rates: Sequence[float] = (3e-4, 1e-3, 3e-3)
    priors: Sequence[float] = (3.0, 100.0)
    offsets: Sequence[float] = (6.0,)
    epochs: Sequence[int] = (4, 16)


# Without shared parameters.
LARGE = Grid(learning=((3e-4, 2, 0), (3e-4, 8, 64), (1e-3, 2, 0), (1e-3, 8, 64), (3e-3, 2, 0)))
SMALL = dataclasses.replace(LARGE, rates=(1e-3, 3e-3, 1e-2), priors=(1.0, 10.0, 100.0), epochs=(4, 16, 64))
CONVEX = Grid(
    learning=((3e-4, 2, 0),),  # the pooled head is exact: nothing looks at them
    strengths=tuple((ridge, None) for ridge in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)),
    rates=(3e-4,),
    priors=(0.1, 1.0, 10.0, 100.0, 1000.0),
    offsets=(1.0, 6.0, 36.0, 200.0),
    epochs=(4,),
)
# Beside shared parameters. Small heads learn under the prior that they have later, so that it is chosen with them.
LARGE_SHARING = Grid(learning=((1e-3, 8, 0), (5e-3, 8, 0), (5e-3, 24, 0), (2e-2, 8, 0), (2e-2, 24, 0)))
SMALL_SHARING = Grid(
    learning=((1e-3, 8, 0), (5e-3, 8, 256), (2e-2, 8, 256)),
    strengths=((1.0, 1.0), (1.0, 3.0), (1.0, 10.0)),
    rates=(3e-3, 1e-2, 3e-2),
)
# What is shared has a prior of its own: none is fitted too long, and the two strengths are what matters.
HELD_SHARING = dataclasses.replace(
    SMALL_SHARING,
    learning=((2e-2, 32, 256),),
    strengths=((0.003, 3.0), (0.03, 3.0), (0.1, 1.0), (0.3, 3.0), (1.0, 1.0), (10.0, 1.0)),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How a scorer is fitted. Numbers that are None are chosen by `pretrain` on training users, see `choosing`.

    Attributes:
      family: of the heads, by name, with settings behind a colon where they differ: `low_rank_mlp:rank=4`.
      loss: what is minimised: cross_entropy, pairwise, regression, listwise or distillation; ordinal, the
        cross-entropy of which levels a rating reaches.
      epochs: passes over a user's examples; 0 leaves everybody the pooled head.
      learning_rate: of users' own heads: the step of one of D weights, all else in proportion to its scale.
      decays: the rate of a user's own head falls to 0 in a line over the user's updates, beside a base over those of
        the user who has most; else heads after fewer epochs are those of a shorter fit. Beside shared parameters it
        does.
      clip: largest norm of the gradient of base and shared parameters, and of each user's head apart.
      weight_decay: of the heads, decoupled; shrinks towards 0 (`fresh`) or the pooled head (`pooled`).
      dropout: in the heads that have it.
      batch_examples: most examples of a user in one update.
      users_per_batch: most users in one update (of shared parameters alone an eighth of them, at least 8), and in one
        group of personalisation.
      init: new heads start at the pooled head (`pooled`), or at an initialisation of their own (`fresh`, HYDRA).
      pooled_epochs: passes over all users' examples for what users share, and for the pooled head; for that beside
        shared parameters at most 4, or as many as hold 256 updates.
      pooled_learning_rate: of the pooled head, and of shared parameters and the heads that learn beside them; falls to
        0 in a line.
      prior_strength: of the Gaussian prior around the pooled head, worth so many examples; convex families need one.
      offset_strength: of the prior of intercepts and of what is added for an extra, where `scaled`.
      pooled_ridge: the same around 0 for the pooled head of a convex family, and of the prior of what users share, in
        families that have one (`simplex`: tastes are pulled to their mean).
      train_base: the base learns too, beside the training users' heads; examples then hold tokens.
      base_learning_rate: of the base, falls to 0 in a line; its norms and biases do not decay.
      base_epochs: passes over the examples while the base learns.
      base_batch_examples: examples of all users together in one update of the base, or as near as whole users' shares
        come; users that are encoded, and losses inside pools, may need more.
      micro_batch: examples that go through a trained base at once; gradients are added up before the one update, at the
        price of a second forward pass. None: all of an update's, on a CPU as many as hold 4,096 tokens.
      fit_bank: training users get heads of their own as well, which new users do not need on frozen features.
      moments: type of the moments that AdamW keeps of heads; bfloat16 takes half of the memory.
      scaled: the prior and the steps of each parameter are in units of the family's `scale`, so that intercepts move;
        else the same for all of them, as HYDRA has it.
      standardise: features are centred and divided by one number, extras centred; else all are taken as they are.
      seed: of every initialisation, order and dropout.
    """

    family: str = "mlp"
    loss: str = "cross_entropy"
    epochs: int | None = None
    learning_rate: float | None = None
    decays: bool = False
    clip: float = 1.0
    weight_decay: float = 0.01
    dropout: float = 0.1
    batch_examples: int = 32
    users_per_batch: int = 64
    init: Literal["pooled", "fresh"] = "pooled"
    pooled_epochs: int | None = None
    pooled_learning_rate: float | None = None
    prior_strength: float | None = None
    offset_strength: float | None = None
    pooled_ridge: float | None = None
    train_base: bool = False
    base_learning_rate: float = 2e-5
    base_epochs: int = 2
    base_batch_examples: int = 64
    micro_batch: int | None = None
    fit_bank: bool = True
    moments: Literal["float32", "bfloat16"] = "float32"
    scaled: bool = True
    standardise: bool = True
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class _Range:
    """Which numbers fit, and that in words."""

    whole: bool
    fits: Callable[[Any], bool]
    words: str


_FROM_0 = _Range(True, lambda value: 0 <= value < 2**31, "0 or more and less than 2^31")
_FROM_1 = _Range(True, lambda value: 1 <= value < 2**31, "1 or more and less than 2^31")
_RATE = _Range(False, lambda value: 0 < value < LARGEST_RATE, f"more than 0 and less than {LARGEST_RATE}")
_STRENGTH = _Range(False, lambda value: 0 <= value < math.inf, "a finite number of 0 or more")
_RANGES = {
    "epochs": _FROM_0,
    "learning_rate": _RATE,
    "clip": _Range(False, lambda value: 0 < value < math.inf, "a finite number of more than 0"),
    "weight_decay": _STRENGTH,
    "dropout": _Range(False, lambda value: 0 <= value < 1, "0 or more and less than 1"),
    "batch_examples": _FROM_1,
    "users_per_batch": _FROM_1,
    "pooled_epochs": _FROM_1,
    "pooled_learning_rate": _RATE,
    "prior_strength": _STRENGTH,
    "offset_strength": _STRENGTH,
    "pooled_ridge": _STRENGTH,
    "base_learning_rate": _RATE,
    "base_epochs": _FROM_1,
    "base_batch_examples": _FROM_1,
    "micro_batch": _FROM_1,
    "seed": _Range(True, lambda value: 0 <= value < 2**31, "a whole number, 0 or more"),
}


def check(config: FitConfig) -> None:
    """Refuses what cannot be fitted.

    Raises:
      DataError: an unknown name, or a number out of its range.
    """
    if not isinstance(config, FitConfig):
        raise DataError(f"the configuration: {config!r:.80} ({type(config).__name__}), expected FitConfig")
    if not isinstance(config.family, str):
        raise DataError(
            f"family is {config.family!r:.80}, expected a name, with settings behind a colon where there are any; one "
            "of your own is named by its file or module: 'own.py:rank=4'"
        )
    choices = {"loss": LOSSES, "init": ("pooled", "fresh"), "moments": ("float32", "bfloat16")}
    for name, names in choices.items():
        if getattr(config, name) not in names:
            raise DataError(f"{name} is {getattr(config, name)!r}, expected one of {', '.join(names)}")
    values = {name: getattr(config, name) for name in _RANGES}
    can_be_none = {*FALLBACK, "micro_batch"}
    check_numbers(**{name: value for name, value in values.items() if value is not None or name not in can_be_none})
    if config.micro_batch is not None and not config.train_base:
        raise DataError(f"micro_batch is {config.micro_batch}, but the base is frozen: it is of a base that is trained")
    _check_family(config)


def _check_family(config: FitConfig) -> None:
    plain, settings = families.parse(config.family)
    # The plain name of a family needs no look into its file, which imports JAX; nor does a name that there is not.
    if settings or plain not in families.names():
        families.KIND.load(plain)
        from hydrajax.nn import heads

        heads.get(config.family)
    # Nor does mlp, which the paper fits without a prior.
    if config.prior_strength == 0 and plain != "mlp":
        from hydrajax.nn import heads
        from hydrajax.training import newton

        if isinstance(family := heads.get(config.family), heads.Convex):
            newton.check(family, 0.0)


def resolved(config: FitConfig, **chosen: Any) -> FitConfig:
    """The configuration with numbers in the place of what is None: those chosen, else those of `FALLBACK`."""
    known = FALLBACK | {name: value for name, value in chosen.items() if value is not None}
    return dataclasses.replace(config, **{name: known[name] for name in FALLBACK if getattr(config, name) is None})


def numbers_of(config: FitConfig) -> Numbers:
    """The numbers of a configuration in which nothing is left to choose."""
    full = resolved(config)
    return Numbers(**{name: getattr(full, name) for name in FALLBACK})


def check_numbers(**values: Any) -> None:
    """Refuses settings that are no numbers, or out of their range.

    Raises:
      DataError: the first that is.
    """
    for name, value in values.items():
        range_ = _RANGES[name]
        if isinstance(value, bool) or not isinstance(value, numbers.Integral if range_.whole else numbers.Real):
            raise DataError(f"{name} is {value!r}, expected a {'whole ' * range_.whole}number")
        if not range_.fits(value):
            raise DataError(f"{name} is {value}, expected {range_.words}")
