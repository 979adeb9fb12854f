"""Whether a head family keeps its contract: by shapes, and a family of one's own by numbers at one user, too."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hydrajax import plugins
from hydrajax.nn import heads
from hydrajax.types import DataError

EXAMPLES = 3  # of the context that a user is encoded from
METHODS = (*heads.METHODS, "design", "encode_user", "penalty", "trained_as", "units", "prior")  # that it may have
ARRAY = "an array of float32, jnp.zeros(()) for one number"
_ARRAYS = (jax.Array, np.ndarray, np.generic)
LINEAR = 1e-3  # of the sum of the terms' sizes: how far a score may be from <user, design>


def fitted_shapes(family: heads.Family, dims: heads.Dims) -> tuple[heads.Shared, heads.User]:
    """Shapes and types of what a fit gives: (what all users share, the pooled head among it; one user)."""
    shared, user = heads.shared_shapes(family, dims), heads.user_shapes(family, dims)
    if jax.tree.leaves(user) and "generic" not in shared:
        shared = {**shared, "generic": user}
    return shared, jax.eval_shape(family.generic, shared)


def check(family: str | heads.Family, dims: heads.Dims) -> None:
    """Refuses a family whose methods raise, or give something else than the contract says.

    Shapes and types are looked at without computing anything. A family that is not of this package is computed as well,
    at the user that it begins with and at one nearby: scores and gradients must be finite, and where it has a `design`,
    the score must be linear in the user.

    Args:
      family: itself, or its name with its settings.
      dims: widths of its input.

    Raises:
      DataError: naming the family and the first method at fault.
    """
    name = family if isinstance(family, str) else type(family).__name__
    family = heads.get(family) if isinstance(family, str) else family
    for setting, value in vars(family).items():
        try:
            hash(value)
        except TypeError:
            given = f"{setting} is the {type(value).__name__} {value!r:.40}"
            raise DataError(
                f"head family {name!r}: its setting {given}, expected what cannot change, a tuple for example: a "
                "compiled program is found again by the settings of its family"
            ) from None
    _check(name, family, dims)


@functools.lru_cache(maxsize=256)
def _check(name: str, family: heads.Family, dims: heads.Dims) -> None:
    if not plugins.is_own(type(family)):
        for given, likely in plugins.misspelt(family, dict.fromkeys(METHODS, Callable)).items():
            raise DataError(f"head family {name!r}: a family has no {given}, and nothing reads it: expected {likely}")
    _check_shapes(name, family, dims)
    if not plugins.is_own(type(family)) or "." in name:
        check_numbers(name, family, dims)


def _check_shapes(name: str, family: heads.Family, dims: heads.Dims) -> None:
    def shapes(method: str, call: Callable[..., Any], *args: Any) -> Any:
        with plugins.blamed(f"head family {name!r}: {method}"):
            return jax.eval_shape(call, *args)

    def refuse(method: str, got: Any, expected: str) -> None:
        raise DataError(f"head family {name!r}: {method} gives {_described(got)}, expected {expected}")

    def parameters(method: str, nothing: str) -> Any:
        others = {}  # than arrays: JAX would take a number for one here, and fail where its shape is asked for

        def initialised(key: Any) -> Any:
            tree = getattr(family, method)(key, dims)
            leaves = _leaves(tree).items()
            others.update({leaf: value for leaf, value in leaves if not isinstance(value, _ARRAYS)})
            return {} if others else tree

        tree = shapes(method, initialised, key)
        for leaf, value in others.items():
            what = f"the {type(value).__name__} {value!r:.40}{leaf and f' as {leaf}'}"
            raise DataError(f"head family {name!r}: {method} gives {what}, expected {ARRAY}")
        if not isinstance(tree, dict):
            refuse(method, tree, f"a dictionary of arrays, {{}} where nothing is {nothing}")
        for leaf, value in _leaves(tree).items():
            if value.dtype != np.float32:
                refuse(method, tree, "arrays of float32, which gradients can move")
            if min(value.shape, default=0) < 0:
                refuse(method, tree, f"no negative length in {leaf}: a setting of the family is out of its range")
        return tree

    key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype)
    shared = parameters("init_shared", "shared")
    user = stored = parameters("init_user", "stored")
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
    if hasattr(family, "prior"):
        prior = shapes("prior", lambda shared: family.prior(shared, dims), shared)
        if _described(prior) != "float32[]":
            refuse("prior", prior, "one number, float32[]")
    if hasattr(family, "units") and jax.tree.leaves(stored):
        with plugins.blamed(f"head family {name!r}: units"):
            units = family.units(dims)
        for part, least in (("scale", "more than 0"), ("offset", "0 or more")):
            tree = getattr(units, part, None)
            try:
                numbers = jax.tree.leaves(jax.tree.map(_broadcastable, tree, stored))
            except (ValueError, TypeError):
                numbers = [np.array(np.nan)]
            lowest = min(float(leaf.min(initial=1.0)) for leaf in numbers)
            if not all(np.isfinite(leaf).all() for leaf in numbers) or lowest < 0 or (lowest == 0 and part == "scale"):
                expected = f"expected finite numbers, {least}, for {_described(stored)}"
                raise DataError(f"head family {name!r}: units gives {tree!r:.80} as {part}, {expected}")
    if isinstance(family, heads.Convex):
        design = shapes("design", family.design, shared, x)
        if _described(design) != _described(user):
            refuse("design", design, f"what a user is, {_described(user)}")


def check_numbers(name: str, family: heads.Family, dims: heads.Dims) -> None:
    """Refuses a family whose scores or gradients are not finite, or whose `design` is not that of its score.

    Args:
      name: of the family, in what is refused.
      family: one whose shapes are right.
      dims: widths of its input.

    Raises:
      DataError: naming the family and the method at fault.
    """

    encodes = isinstance(family, heads.Encoded)

    def made(key: Any) -> tuple[heads.Shared, heads.User, Any]:
        keys = jax.random.split(key, 3)
        shared, stored = family.init_shared(keys[0], dims), family.init_user(keys[1], dims)
        if jax.tree.leaves(stored) and "generic" not in shared:
            shared = {**shared, "generic": stored}
        return shared, stored, jax.random.normal(keys[2], (dims.inputs,))

    def user_of(shared: heads.Shared, stored: heads.User, x: Any, mask: bool) -> heads.User:
        if not isinstance(family, heads.Encoded):
            return stored
        rows = jnp.linspace(-1.0, 1.0, EXAMPLES)[:, None] * x[None, :]
        context = heads.Context(x=rows, label=jnp.array([0.0, 1.0, 1.0]), mask=jnp.full(EXAMPLES, mask))
        return family.encode_user(shared, context)

    def near(tree: Any, key: Any) -> Any:
        """The tree with a normal draw added to every number."""
        leaves, structure = jax.tree.flatten(tree)
        keys = jax.random.split(key, max(len(leaves), 1))
        moved = [
            leaf + jax.random.normal(k, jnp.shape(leaf)) for leaf, k in zip(leaves, keys[: len(leaves)], strict=True)
        ]
        return jax.tree.unflatten(structure, moved)

    def computed(key: Any) -> dict[str, Any]:
        shared, stored, x = made(key)

        def score(learned: Any, mask: bool) -> Any:
            return family.score(learned[0], user_of(learned[0], learned[1], x, mask), x)

        points = [(stored, True), (stored, False) if encodes else (near(stored, key), True)]
        each = [jax.value_and_grad(score)((shared, point), mask) for point, mask in points]
        if not isinstance(family, heads.Convex):
            return {"score": each}
        user = near(user_of(shared, stored, x, True), key)
        terms = jax.tree.map(jnp.multiply, user, family.design(shared, x))
        product, size = (sum(map(jnp.sum, jax.tree.leaves(jax.tree.map(of, terms)))) for of in (jnp.array, jnp.abs))
        return {"score": each, "terms": (product, size), "linear": family.score(shared, user, x)}

    # All methods have been traced, for their shapes: what tracing finds now is of the gradient.
    with plugins.blamed(f"head family {name!r}: the gradient of score"):
        lowered = jax.jit(computed).lower(jax.random.key(0))
    with plugins.blamed(f"head family {name!r}: score, computed,"):
        values = jax.device_get(lowered.compile()(jax.random.key(0)))
    stored_at = ("the user that it begins with", "a user nearby")
    encoded_at = ("a user with examples", "a user without examples")
    for where, (score, gradients) in zip(encoded_at if encodes else stored_at, values["score"], strict=True):
        what = "score" if not np.isfinite(score) else "the gradient of score"
        if not all(np.isfinite(leaf).all() for leaf in (score, *jax.tree.leaves(gradients))):
            raise DataError(f"head family {name!r}: {what} is not finite at {where}, expected finite numbers")
    if "linear" in values:
        product, size = values["terms"]
        if not abs(values["linear"] - product) <= LINEAR * (1.0 + size):
            raise DataError(
                f"head family {name!r}: score gives {values['linear']:.6g} where <user, design> is {product:.6g}: a "
                "family with a design has no score but that product, all others have no design"
            )


def _leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by name, `w` or `inner/w`; the tree itself, if it is one, has none."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in paths}


def _broadcastable(given: Any, leaf: Any) -> np.ndarray:
    """What is given, as numbers.

    Raises:
      ValueError, TypeError: they are none, or do not broadcast to the leaf's shape.
    """
    numbers = np.asarray(given, np.float32)
    jnp.broadcast_shapes(numbers.shape, leaf.shape)
    return numbers


def _described(tree: Any) -> str:
    """Structure, shapes and types of a tree: `float32[]`, `{'b': float32[], 'w': float32[8]}`."""
    return str(jax.tree.map(_Shown, tree))


class _Shown:
    def __init__(self, leaf: Any):
        self.text = f"{leaf.dtype}{list(leaf.shape)}"

    def __repr__(self) -> str:
        return self.text
