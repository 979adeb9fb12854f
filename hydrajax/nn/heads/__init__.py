"""Head families: how a user's parameters turn features into a score.

A family is one file in this folder with a `FAMILY`, a frozen dataclass that has the methods of `Family`; its file's
name is its name. The maths is written for one user and one example; batching is `jax.vmap`'s, outside.
"""

import dataclasses
import importlib
import pkgutil
from typing import Any, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Float

from hydrajax.types import DataError

Shared = Any  # parameters that all users share, a tree of arrays, {} if none
User = Any  # one user's stored parameters, a tree of arrays, {} if none


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dims:
    """Widths: D features of the base and X extras (the candidate's source, its votes), which are appended."""

    features: int
    extras: int = 0

    @property
    def inputs(self) -> int:
        """The width of a family's input, D + X."""
        return self.features + self.extras


@runtime_checkable
class Family(Protocol):
    """What every family has.

    A family may also have
      design(shared, x): see `Convex`;
      encode_user(shared, context, key=None) -> user: its heads are encoded from a profile, not stored;
      penalty(shared, user, context, target) -> scalar: a term of its own in the loss.
    Families are hashable: compiled programs are kept by family. A setting named `dropout`, where there is one, is set
    from the fit's configuration.
    """

    def __hash__(self) -> int: ...

    def init_shared(self, key: Array, dims: Dims) -> Shared:
        """Parameters that all users share, learned in pretraining."""
        ...

    def init_user(self, key: Array, dims: Dims) -> User:
        """One user's stored parameters."""
        ...

    def score(self, shared: Shared, user: User, x: Float[Array, " I"], key: Array | None = None) -> Float[Array, ""]:
        """The logit of one example; x is [D + X], `key` switches dropout on."""
        ...

    def generic(self, shared: Shared) -> User:
        """Who stands in for a user without a profile.

        Where heads are stored, pretraining puts the pooled head (one head fitted on everybody) into
        `shared["generic"]`, and this is it.
        """
        ...


@runtime_checkable
class Convex(Family, Protocol):
    """A family with score(shared, user, x) = <user, design(shared, x)>.

    Its heads are fitted by Newton's method, which is exact and needs no learning rate.
    """

    def design(self, shared: Shared, x: Float[Array, " I"]) -> User:
        """The gradient of the score by the user's parameters, user-shaped."""
        ...


def names() -> tuple[str, ...]:
    """Every family there is."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def get(name: str, **settings: Any) -> Family:
    """The family of that name.

    Raises:
      DataError: there is no such family, or it has no such setting.
    """
    if name not in names():
        raise DataError(f"head family is {name!r}, expected one of {', '.join(names())}")
    family = importlib.import_module(f"{__name__}.{name}").FAMILY
    valid = [field.name for field in dataclasses.fields(family)]
    unknown = sorted(set(settings) - set(valid))
    if unknown:
        raise DataError(f"head family {name} has no setting {', '.join(unknown)}, it has {', '.join(valid) or 'none'}")
    return family(**settings)


def stores_users(family: Family, dims: Dims) -> bool:
    """Whether a user has parameters of their own."""
    return bool(jax.tree.leaves(jax.eval_shape(lambda key: family.init_user(key, dims), jax.random.key(0))))


def shares_parameters(family: Family, dims: Dims) -> bool:
    """Whether there are parameters that all users share."""
    return bool(jax.tree.leaves(jax.eval_shape(lambda key: family.init_shared(key, dims), jax.random.key(0))))
