"""Head families: how a user's parameters turn features into a score.

A family is one file, of this folder or of one's own, with a `FAMILY`, a frozen dataclass that has the methods of
`Family`: its own, or those that it inherits. The maths is written for one user and one example; batching is
`jax.vmap`'s, outside.
"""

import copy
import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hydrajax import plugins
from hydrajax.nn import families
from hydrajax.types import DataError, in_words, is_of

Shared = Any  # parameters that all users share, a dictionary of float32 arrays (or of such dictionaries), {} if none
User = Any  # one user's stored parameters, likewise
INTERCEPT = 1 / 36  # users differ six times as much in severity as in what one label is worth to them


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dims:
    """Widths: D features of the base and X extras (the candidate's source, its votes), which are appended."""

    features: int
    extras: int = 0

    @property
    def inputs(self) -> int:
        """The width of a family's input, D + X."""
        return self.features + self.extras


@flax.struct.dataclass
class Context:
    """What a user is encoded from: some of the user's own examples, without order.

    Attributes:
      x: float32 [E, D + X], inputs as `score` gets them.
      label: float32 [E] in [0, 1].
      mask: bool [E], true = a real example; all false for a user without a profile.
    """

    x: Any
    label: Any
    mask: Any


@runtime_checkable
class Family(Protocol):
    """What every family has; those that inherit from it store nothing and share nothing unless they say so.

    A family may also have
      design(shared, x): see `Convex`;
      encode_user(shared, context, key=None), penalty(shared, user, context, target): see `Encoded`;
      trained_as(shared, user) -> ((weight, user), ...): whose losses pretraining adds up in the place of the user's;
      units(dims) -> Units: in what its users' parameters are fitted;
      prior(shared, dims) -> scalar: minus the log of a Gaussian prior of what is shared; its strength is the fit's.
    Families are hashable: compiled programs are kept by family. A setting named `dropout`, where there is one, is set
    from the fit's configuration.
    """

    def __hash__(self) -> int: ...

    def init_shared(self, key: Array, dims: Dims) -> Shared:
        """Parameters that all users share, learned in pretraining."""
        return {}

    def init_user(self, key: Array, dims: Dims) -> User:
        """One user's stored parameters."""
        return {}

    def score(self, shared: Shared, user: User, x: Float[Array, " I"], key: Array | None = None) -> Float[Array, ""]:
        """The logit of one example; x is [D + X], `key` switches dropout on."""
        ...

    def generic(self, shared: Shared) -> User:
        """Who stands in for a user without a profile.

        Where heads are stored, pretraining puts the pooled head (one head fitted on everybody) into
        `shared["generic"]`, and this is it; a family whose `init_shared` has a "generic" of its own learns it with
        what else is shared.
        """
        return shared["generic"]


@runtime_checkable
class Convex(Family, Protocol):
    """A family with score(shared, user, x) = <user, design(shared, x)>.

    Its heads are fitted by Newton's method, which is exact and needs no learning rate.
    """

    def design(self, shared: Shared, x: Float[Array, " I"]) -> User:
        """The gradient of the score by the user's parameters, user-shaped."""
        ...


@runtime_checkable
class Encoded(Family, Protocol):
    """A family that stores nothing of a user: one forward pass over some of the user's examples gives the user.

    It may also have penalty(shared, user, context, target) -> scalar, a term of its own in the loss of an example;
    `target` is the `Context` of the examples whose loss is taken, which are never those of `context`; and
    clusters: how many clusters of a user's pools are drawn from in training, in turn (`training.clusters`); 0: none.
    """

    def encode_user(self, shared: Shared, context: Context, key: Array | None = None) -> User:
        """The user; `generic(shared)` where the context is empty. A key is for sampling."""
        ...


METHODS = ("init_shared", "init_user", "score", "generic")  # that a `Family` has


def get(name: str, **settings: Any) -> Family:
    """The family of that name, with these settings; those behind the name's colon go before.

    Raises:
      DataError: there is no such family, it has no such setting, or the setting has no such value.
    """
    plain, named = families.parse(name)
    kind = families.KIND.load(plain)
    if isinstance(kind, Family) and not isinstance(kind, type):
        raise DataError(f"head family {plain!r}: FAMILY is an instance, expected FAMILY = {type(kind).__name__}")
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind) and issubclass(kind, Family)):
        lacks = [method for method in METHODS if not hasattr(kind, method)] if isinstance(kind, type) else []
        expected = "a frozen dataclass with the methods of heads.Family"
        if lacks:
            raise DataError(f"head family {plain!r}: FAMILY lacks {', '.join(lacks)}, expected {expected}")
        raise DataError(f"head family {plain!r}: FAMILY is {kind!r:.80}, expected {expected}")
    return kind(**_checked(plain, kind, {**settings, **named}))


def _checked(name: str, family: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(family)]
    unknown = sorted(set(settings) - set(names))
    if unknown:
        raise DataError(f"head family {name} has no setting {', '.join(unknown)}, it has {', '.join(names) or 'none'}")
    with plugins.blamed(f"head family {name!r}: the types of its settings"):
        hints = typing.get_type_hints(family)
    for key, value in settings.items():
        if not is_of(value, hints[key]):
            raise DataError(f"{key} of head family {name} is {value!r}, expected {in_words(hints[key])}")
    return {key: float(value) if hints[key] is float else value for key, value in settings.items()}


def within(family: Family, low: float | int, high: float | int, *settings: str, above: bool = False) -> None:
    """Refuses numbers below `low`, or at `high` and beyond, and NaN; None is left alone.

    Args:
      family: whose settings are looked at.
      low: the lowest that is taken; not taken itself where `above`.
      high: where numbers are too high; infinity: any finite number will do.
      settings: their names.
      above: whether they must be more than `low`.

    Raises:
      DataError: one of these settings is out of the range.
    """
    for name in settings:
        value = getattr(family, name)
        if value is not None and (not low <= value < high or (above and value == low)):
            least = f"more than {low:g}" if above else f"{low:g} or more"
            most = "finite" if high == math.inf else f"less than {high:g}"
            raise DataError(f"{name} of {type(family).__name__} is {value}, expected {least} and {most}")


@flax.struct.dataclass
class Units:
    """In what users' parameters are fitted, two user-shaped trees, float32, whose axes may be of length 1.

    A user is v = (user - anchor) / scale; the prior is Gaussian in v, and so are steps. A weight is one of D, of
    1/sqrt(D) where scores are to be of the order of 1; an intercept is alone, of 1. Under one prior for both the
    intercept could not move, and what a user gives everything, severity or delight, would be learned by heart in the
    weights: so offsets have a prior of their own.

    Attributes:
      scale: how far a parameter is expected to differ between users.
      offset: strength of an offset's prior, in that of all offsets: 1 of what is added for a label, `INTERCEPT` of
        intercepts; 0 of what is no offset.
      offset_prior: strength of the prior of offsets, in that of all others.
      step: the scale of what moves by the learning rate in one step of AdamW, one of D weights; all else moves as its
        scale is to that.
    """

    scale: Any
    offset: Any
    offset_prior: Any = 1.0
    step: Any = 1.0

    @property
    def prior(self) -> User:
        """Strength of each parameter's prior, in that of the weights'."""
        return jax.tree.map(lambda o: jnp.where(o > 0, self.offset_prior * o, 1.0), self.offset)


def units(family: Family, dims: Dims, *, scaled: bool = True) -> Units:
    """Those of the family; 1 and no offset where it has none, or not `scaled`."""
    shapes = user_shapes(family, dims)
    known = bool(scaled and jax.tree.leaves(shapes)) and hasattr(family, "units")
    made = (
        family.units(dims)
        if known and hasattr(family, "units")
        else Units(scale=jax.tree.map(lambda leaf: 1.0, shapes), offset=jax.tree.map(lambda leaf: 0.0, shapes))
    )

    def broadcastable(leaf: Any, shape: Any) -> np.ndarray:
        array = np.asarray(leaf, np.float32)
        return array.reshape((1,) * (len(shape.shape) - array.ndim) + array.shape)

    scale = jax.tree.map(broadcastable, made.scale, shapes)
    least = min((float(leaf.min()) for leaf in jax.tree.leaves(scale)), default=1.0)
    return Units(
        scale=scale,
        offset=jax.tree.map(broadcastable, made.offset, shapes),
        step=min(least, max(dims.features, 1) ** -0.5) if known else least,
    )


def of_weights(dims: Dims) -> Units:
    """`Units` of the weights [I] of one output: extras are few, and what is added for them is an offset."""
    extra = np.arange(dims.inputs) >= dims.features
    return Units(scale=np.where(extra, 1.0, max(dims.features, 1) ** -0.5), offset=extra)


def user_shapes(family: Family, dims: Dims) -> User:
    """Shapes and types of one user's stored parameters."""
    return jax.eval_shape(lambda: family.init_user(jax.random.key(0), dims))


def shared_shapes(family: Family, dims: Dims) -> Shared:
    """Shapes and types of what all users share."""
    return jax.eval_shape(lambda: family.init_shared(jax.random.key(0), dims))


def shared_prior(family: Family, dims: Dims, strength: Any, shared: Shared) -> Any:
    """What the family's prior of what users share adds to a mean loss; 0 where it has none."""
    return strength * family.prior(shared, dims) if hasattr(family, "prior") else 0.0


def stores_users(family: Family, dims: Dims) -> bool:
    """Whether a user has parameters of their own."""
    return bool(jax.tree.leaves(user_shapes(family, dims)))


def head_bytes(family: Family, dims: Dims) -> int:
    """Of one user's stored parameters."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(user_shapes(family, dims)))


def has_dropout(family: Family) -> bool:
    """Whether the family has a setting named `dropout`."""
    return any(field.name == "dropout" for field in dataclasses.fields(family))  # type: ignore[arg-type]


def with_dropout(name: str, dropout: float | Float[Array, ""]) -> Family:
    """The family of that name, with this dropout where it has any and its name does not say another."""
    family = get(name)
    return at_dropout(family, dropout) if has_dropout(family) and "dropout" not in families.parse(name)[1] else family


def at_dropout(family: Family, dropout: float | Float[Array, ""]) -> Family:
    """The family with another dropout; a traced one (of a sweep) is for use inside the program that traces it."""
    if isinstance(dropout, (int, float)):
        return dataclasses.replace(family, dropout=float(dropout))  # type: ignore[type-var]
    other = copy.copy(family)
    # The field is declared a float, which a tracer is not.
    object.__setattr__(other, "dropout", dropout)
    return other
