"""Any family with stored parameters, learned as one generic user and what each user differs by.

    user = e_0 + offset,    loss = alpha L(user) + (1 - alpha) L(e_0)

with e_0 shared and trained on everybody beside the users, so that whoever has no profile gets a head that was trained
to stand alone. P-RLHF (Li et al., arXiv 2402.05133), there for embeddings of users, alpha = 0.5.

The second term does not depend on the offset: personalisation, where e_0 is frozen, has the first one alone. Named
`generic_plus_offset:inner=linear`; the heads of a convex family are then fitted by gradient steps as well.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hydrajax.nn import heads
from hydrajax.types import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenericPlusOffset:
    """The family; see the module.

    Attributes:
      inner: name of the family whose parameters are e_0 and offsets.
      alpha: weight of the users' own losses.
      dropout: in the inner family, where it has that.
    """

    inner: str = "mlp"
    alpha: float = 0.5
    dropout: float = 0.1

    def __post_init__(self):
        heads.within(self, 0, 1, "dropout")
        if not 0 < self.alpha <= 1:
            raise DataError(f"alpha of generic_plus_offset is {self.alpha}, expected more than 0 and at most 1")
        if isinstance(self._inner, GenericPlusOffset):
            raise DataError("inner of generic_plus_offset is generic_plus_offset itself, expected another family")
        if not heads.stores_users(self._inner, heads.Dims(features=4)):
            raise DataError(f"inner of generic_plus_offset is {self.inner!r}, which stores nothing of a user")

    @property
    def _inner(self) -> heads.Family:
        return heads.with_dropout(self.inner, self.dropout)

    @property
    def prior(self) -> Callable[[heads.Shared, heads.Dims], Float[Array, ""]]:
        """The inner family's, where it has one."""
        return self._inner.prior  # type: ignore[attr-defined]

    def init_shared(self, key: Array, dims: heads.Dims) -> heads.Shared:
        inner, generic = jax.random.split(key)
        return {**self._inner.init_shared(inner, dims), "generic": self._inner.init_user(generic, dims)}

    def init_user(self, key: Array, dims: heads.Dims) -> heads.User:
        return jax.tree.map(jnp.zeros_like, self._inner.init_user(key, dims))

    def units(self, dims: heads.Dims) -> heads.Units:
        return heads.units(self._inner, dims)

    def score(
        self, shared: heads.Shared, user: heads.User, x: Float[Array, " I"], key: Array | None = None
    ) -> Float[Array, ""]:
        return self._inner.score(shared, jax.tree.map(jnp.add, shared["generic"], user), x, key)

    def trained_as(self, shared: heads.Shared, user: heads.User) -> tuple[tuple[float, heads.User], ...]:
        """Whose losses are added up: the user's, and that of e_0."""
        return (self.alpha, user), (1.0 - self.alpha, self.generic(shared))

    def generic(self, shared: heads.Shared) -> heads.User:
        return jax.tree.map(jnp.zeros_like, shared["generic"])


FAMILY = GenericPlusOffset
