"""One perceptron for everybody and nothing of a user's own: the ablation without personalisation."""

import dataclasses

from jaxtyping import Array, Float

from hydrajax.nn import heads
from hydrajax.nn.heads import mlp


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedMlp:
    """The family; the perceptron is that of `mlp`, learned with the base's optimizer."""

    dropout: float = 0.1
    width: int | None = None

    def __post_init__(self):
        heads.at_least(self, 1, "width")
        heads.within(self, 0, 1, "dropout")

    def init_shared(self, key: Array, dims: heads.Dims) -> heads.Shared:
        return mlp.init(key, dims.inputs, self.width or dims.features)

    def init_user(self, key: Array, dims: heads.Dims) -> heads.User:
        return {}

    def score(
        self, shared: heads.Shared, user: heads.User, x: Float[Array, " I"], key: Array | None = None
    ) -> Float[Array, ""]:
        return mlp.apply(shared, x, self.dropout, key)

    def generic(self, shared: heads.Shared) -> heads.User:
        return {}


FAMILY = SharedMlp
