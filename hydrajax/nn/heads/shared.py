"""One perceptron for everybody and nothing of a user's own: the ablation without personalisation."""

import dataclasses

from jaxtyping import Array, Float

from hydrajax.nn import heads
from hydrajax.nn.heads import mlp


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedMlp(mlp.Mlp):
    """The family; the perceptron is that of `mlp`, learned with the base's optimizer."""

    def init_shared(self, key: Array, dims: heads.Dims) -> heads.Shared:
        return super().init_user(key, dims)

    def init_user(self, key: Array, dims: heads.Dims) -> heads.User:
        return {}

    def score(
        self, shared: heads.Shared, user: heads.User, x: Float[Array, " I"], key: Array | None = None
    ) -> Float[Array, ""]:
        return mlp.apply(shared, x, self.dropout, key)

    def generic(self, shared: heads.Shared) -> heads.User:
        return {}


FAMILY = SharedMlp
