"""Whether a head family keeps its contract, by shapes alone: nothing is computed, so that it is known at once."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from hydrajax import plugins
from hydrajax.nn import heads
from hydrajax.types import DataError

EXAMPLES = 3  # of the context that a user is encoded from


def fitted_shapes(family: heads.Family, dims: heads.Dims) -> tuple[heads.Shared, heads.User]:
    """Shapes and types of what a fit gives: (what all users share, the pooled head among it; one user)."""
    shared, user = heads.shared_shapes(family, dims), heads.user_shapes(family, dims)
    if jax.tree.leaves(user) and "generic" not in shared:
        shared = {**shared, "generic": user}
    return shared, jax.eval_shape(family.generic, shared)


def check(name: str, dims: heads.Dims) -> None:
    """Refuses a family whose methods raise, or give something of another shape than the contract says.

    Args:
      name: of the family, with its settings.
      dims: widths of its input.

    Raises:
      DataError: naming the family and the first method at fault.
    """
    family = heads.get(name)

    def shapes(method: str, call: Callable[..., Any], *args: Any) -> Any:
        with plugins.blamed(f"head family {name!r}: {method}"):
            return jax.eval_shape(call, *args)

    def refuse(method: str, got: Any, expected: str) -> None:
        raise DataError(f"head family {name!r}: {method} gives {_described(got)}, expected {expected}")

    key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype)
    shared = shapes("init_shared", lambda key: family.init_shared(key, dims), key)
    if not isinstance(shared, dict):
        refuse("init_shared", shared, "a dictionary of arrays, {} where nothing is shared")
    user = stored = shapes("init_user", lambda key: family.init_user(key, dims), key)
    if jax.tree.leaves(stored) and "generic" not in shared:
        shared = {**shared, "generic": stored}
    x = jax.ShapeDtypeStruct((dims.inputs,), np.float32)
    if isinstance(family, heads.Encoded):
        several = [jax.ShapeDtypeStruct((EXAMPLES, *shape), kind) for shape, kind in (
            ((dims.inputs,), np.float32), ((), np.float32), ((), np.bool_)
        )]  # fmt: skip
        context = heads.Context(*several)
        user = shapes("encode_user", family.encode_user, shared, context)
        if hasattr(family, "penalty"):
            penalty = shapes("penalty", family.penalty, shared, user, context, context)
            if _described(penalty) != "float32[]":
                refuse("penalty", penalty, "one number, float32[]")
    generic = shapes("generic", family.generic, shared)
    if _described(generic) != _described(user):
        refuse("generic", generic, f"what a user is, {_described(user)}")
    for keys in ((), (key,)):
        score = shapes("score", family.score, shared, user, x, *keys)
        if _described(score) != "float32[]":
            refuse("score", score, "one number, float32[]")
    if isinstance(family, heads.Convex):
        design = shapes("design", family.design, shared, x)
        if _described(design) != _described(user):
            refuse("design", design, f"what a user is, {_described(user)}")


def _described(tree: Any) -> str:
    """Structure, shapes and types of a tree: `float32[]`, `{'b': float32[], 'w': float32[8]}`."""
    return str(jax.tree.map(_Shown, tree))


class _Shown:
    def __init__(self, leaf: Any):
        self.text = f"{leaf.dtype}{list(leaf.shape)}"

    def __repr__(self) -> str:
        return self.text
