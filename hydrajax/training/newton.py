"""Newton's method for heads whose score is linear in their parameters.

    f(u) = sum of the losses of Phi u + 1/2 sum_j (u_j - anchor_j)^2 / variance_j

with Phi the design of the user's examples; the losses are convex in the scores, so f has one minimum and no learning
rate, no number of epochs. Each iteration solves (Phi' A Phi + diag(1 / variance)) d = gradient by conjugate gradients,
A the losses' Hessian by the scores, which is never formed for more than a pool, and halves d until f falls. A product
with the matrix is one pass over the examples; under several priors at once (`jax.vmap`) it still is one. How many it
takes hardly depends on the features: the Hessian at the anchor, of some of the examples, preconditions them.

Where a user has fewer examples than the head has parameters, u - anchor = diag(variance) Phi' a for some a, one number
an example: the same iterations then run on a and Phi diag(variance) Phi', which no iteration changes.

Features may be of any size that float32 can square: systems are solved with a diagonal of ones, and Phi of `few` is
divided by a power of two. Sizes that differ too much, or an offset far larger than what varies, leave no digits: what
is `left` to gain then tells that the head is not the minimum, and `check_converged` refuses it.
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import flatten_util
from jaxtyping import Array, Float

from hydrajax.nn import heads
from hydrajax.training import losses
from hydrajax.types import DataError

ITERATIONS = 30
HALVINGS = 12
TOLERANCE = 1e-5  # of the objective: what an iteration gains, below which it was the last (with a prior from 1e-7 on)
ROUNDING = 1e-6  # of the objective: differences that a sum in float32 does not tell
LEFT = 1e-3  # of one and the loss at the anchor: what may be left to gain
SAMPLE = 16  # blocks whose Hessian preconditions the system
PRODUCTS = 300  # most in a system
LOOSE, EXACT = 0.1, 1e-3  # how exactly the system is solved: far from the minimum, and near it


@flax.struct.dataclass
class Prior:
    """Gaussian around the anchor: variance_j = weights_j / strength + offsets_j / offset_strength.

    Attributes:
      weights: float32 [P], 0 for offsets.
      offsets: float32 [P], 0 for all others.
      strength: of the weights' prior.
      offset_strength: of that of offsets.
      places: of parameters that may be offsets, the others are none; there are few.
    """

    weights: Any
    offsets: Any
    strength: Any
    offset_strength: Any
    places: tuple[int, ...] = flax.struct.field(pytree_node=False)

    @classmethod
    def of(
        cls, units: heads.Units, like: heads.User, strength: Any, offset_strength: Any, places: tuple[int, ...]
    ) -> "Prior":
        """The prior in these units, of heads of the shape of `like`."""

        def flat(variance: Callable[[Any, Any], Any]) -> Float[Array, " P"]:
            made = jax.tree.map(lambda s, o, leaf: jnp.broadcast_to(variance(s, o), leaf.shape), *trees)
            return flatten_util.ravel_pytree(made)[0]

        trees = (units.scale, units.offset, like)
        return cls(
            weights=flat(lambda s, o: jnp.where(o > 0, 0.0, s**2)),
            offsets=flat(lambda s, o: jnp.where(o > 0, s**2 / jnp.where(o > 0, o, 1.0), 0.0)),
            strength=strength,
            offset_strength=offset_strength,
            places=places,
        )

    @property
    def variance(self) -> Float[Array, " P"]:
        return self.weights / self.strength + self.offsets / self.offset_strength


def check(family: heads.Family, prior_strength: float) -> None:
    """A convex family needs a prior: separable examples have no finite optimum without one.

    Raises:
      DataError: the prior has no strength.
    """
    if not prior_strength > 0:
        raise DataError(
            f"prior_strength is {prior_strength}, expected more than 0: {type(family).__name__} heads are fitted "
            "exactly, and a user's few examples are always separable"
        )


def offset_places(family: heads.Family, dims: heads.Dims) -> tuple[int, ...]:
    """`Prior.places` of heads of the family."""
    units, shapes = heads.units(family, dims), heads.user_shapes(family, dims)
    offset = jax.tree.map(lambda o, leaf: np.broadcast_to(o > 0, leaf.shape).ravel(), units.offset, shapes)
    return tuple(np.flatnonzero(np.concatenate(jax.tree.leaves(offset))).tolist())


def minimise(
    loss: losses.ConvexLoss,
    block: Callable[[Any], tuple[Any, losses.Targets]],
    blocks: Any,
    anchor: heads.User,
    prior: Prior,
) -> tuple[heads.User, Float[Array, "2 2"], Float[Array, ""]]:
    """The head that minimises f over blocks 0..blocks-1.

    Args:
      loss: of one user's scores, convex in them.
      block: its number -> (design of its examples, a user-shaped tree of [B, E, ...]; targets [B, E]). Examples are
        compared with those beside them in E alone.
      blocks: how many.
      anchor: centre of the prior, and first guess.
      prior: of the head.

    Returns:
      (the head, [[loss sum, weight] at the anchor, the same at the head], about what is left to gain, see `_left`).
    """
    centre, unravel = flatten_util.ravel_pytree(anchor)
    d, precision, slope_of = centre.shape[0], 1.0 / prior.variance, _slope(loss)

    def design(index):
        tree, targets = block(index)
        return jax.vmap(jax.vmap(lambda row: flatten_util.ravel_pytree(row)[0]))(tree), targets

    def evaluate(u):
        def add(index, carry):
            sums, gradient = carry
            phi, targets = design(index)
            slope, of_parts = jax.vmap(slope_of)(phi @ u, targets)
            return sums + jnp.sum(jnp.stack(of_parts), axis=1), gradient + jnp.tensordot(slope, phi, 2)

        sums, gradient = jax.lax.fori_loop(0, blocks, add, (jnp.zeros(2, jnp.float32), precision * (u - centre)))
        return sums[0] + 0.5 * jnp.sum(precision * (u - centre) ** 2), (gradient, sums)

    every = jnp.maximum(blocks // SAMPLE, 1)

    def sample(number, hessian):
        phi, targets = design(number * every)
        curved = jax.vmap(losses.curved)(jax.vmap(loss.curvature)(phi @ centre, targets), phi)
        return hessian + jnp.tensordot(phi, curved, ((0, 1), (0, 1)))

    taken = -(-blocks // every)
    sampled = jax.lax.fori_loop(0, taken, sample, jnp.zeros((d, d), jnp.float32)) * (blocks / jnp.maximum(taken, 1))
    # Scaled to a diagonal of ones: a large feature would overflow, or drown the others.
    unit = jax.lax.rsqrt(jnp.diagonal(sampled) + precision)

    def scaled(product):
        return lambda v: unit * (product(unit * v) + precision * unit * v)

    def precondition(v):
        # Conjugate gradients again: LAPACK's threads would fight for cores with whatever else runs.
        return _conjugate_gradients(scaled(lambda v: sampled @ v), v, LOOSE**2)

    def towards(u, known):
        objective, (gradient, _) = known

        def curved(v):
            def add(index, product):
                phi, targets = design(index)
                curvature = jax.vmap(loss.curvature)(phi @ u, targets)
                return product + jnp.tensordot(jax.vmap(losses.curved)(curvature, phi @ v), phi, 2)

            return jax.lax.fori_loop(0, blocks, add, jnp.zeros_like(v))

        # What there is to gain, about, decides how exactly the system is to be solved.
        right = unit * gradient
        share = jnp.dot(right, precondition(right)) / jnp.maximum(jnp.abs(objective), 1e-30)
        tolerance = jnp.clip(share, EXACT**2, LOOSE**2)
        direction = unit * _conjugate_gradients(scaled(curved), right, tolerance, precondition)
        return direction, jnp.dot(direction, gradient)

    start = evaluate(centre)
    found, (_, (gradient, sums)) = _descend(evaluate, towards, centre, start, blocks > 0)

    def add_squares(index, squares):
        phi, targets = design(index)
        return squares + jnp.sum(jnp.where(targets.mask[..., None], phi, 0.0) ** 2, axis=(0, 1))

    squares = jax.lax.fori_loop(0, blocks, add_squares, jnp.zeros(d, jnp.float32))
    return unravel(found), jnp.stack([start[1][1], sums]), _left(gradient, squares, precision)


def few(
    loss: losses.ConvexLoss,
    design: heads.User,
    targets: losses.Targets,
    anchor: heads.User,
    prior: Prior,
) -> tuple[heads.User, Float[Array, "2 2"], Float[Array, ""]]:
    """`minimise` for a user with few examples.

    With V = diag(strength variance), u = anchor + V Phi' a and K = Phi V Phi', scores are s = Phi anchor + K a and f's
    gradient is Phi' (l'(s) + strength a); conjugate gradients in the inner product <b, c> = b' K c are those of
    `minimise` without its preconditioner, product by product.

    Args:
      design: of the examples, a user-shaped tree of [E, ...].
      targets: of the examples; the others are those of `minimise`, and so is what is returned.
    """
    centre, unravel = flatten_util.ravel_pytree(anchor)
    phi = jax.vmap(lambda row: flatten_util.ravel_pytree(row)[0])(design)
    phi = jnp.where(targets.mask[:, None], phi, 0.0)
    s0, slope_of = phi @ centre, _slope(loss)
    places = np.array(prior.places, int)
    parts = [
        phi * jnp.sqrt(prior.weights)[None],
        phi[:, places] * jnp.sqrt(prior.offsets[places])[None],
    ]
    # With features in units of a power of two, the same numbers in all places but the exponent: no product overflows.
    unit = _power_of_two(jnp.maximum(*(jnp.max(jnp.abs(part), initial=0.0) for part in parts)))
    # Neither kernel depends on the prior's strengths.
    weights, offsets = ((part / unit) @ (part / unit).T for part in parts)
    ratio, strength = prior.strength / prior.offset_strength, prior.strength / unit**2

    def kernel(b):
        return weights @ b + ratio * (offsets @ b)

    def evaluate(point):
        a, ka = point
        slope, (total, _) = slope_of(s0 + ka, targets)
        return total + 0.5 * strength * jnp.dot(a, ka), slope

    def towards(point, known):
        a, ka = point
        gradient = known[1] + strength * a
        curvature = loss.curvature(s0 + ka, targets)

        def times(b, kb):
            return losses.curved(curvature, kb) + strength * b

        direction, k_direction, k_gradient = _conjugate_gradients_in_kernel(times, kernel, gradient)
        return (direction, k_direction), jnp.dot(direction, k_gradient)

    first = (jnp.zeros_like(s0), jnp.zeros_like(s0))
    (a, _), _ = _descend(evaluate, towards, first, evaluate(first), jnp.any(targets.mask))
    found = centre + (prior.weights + ratio * prior.offsets) * ((a @ (phi / unit)) / unit)
    slope, after = slope_of(phi @ found, targets)
    precision = 1.0 / prior.variance
    gradient = slope @ phi + precision * (found - centre)
    totals = jnp.stack([jnp.stack(each) for each in (loss(s0, targets), after)])
    return unravel(found), totals, _left(gradient, jnp.sum(phi**2, axis=0), precision)


def check_converged(users: np.ndarray, totals: np.ndarray, left: np.ndarray) -> None:
    """Refuses heads that are not the minimum.

    Args:
      users: row numbers [G].
      totals: of `minimise`, [G, ..., 2, 2].
      left: of `minimise`, [G, ...].

    Raises:
      DataError: naming the first user.
    """
    bad = ~(left <= LEFT * (1.0 + totals[..., 0, 0]))
    if bad.any():
        user = users[np.flatnonzero(bad.reshape(len(users), -1).any(axis=1))[0]]
        raise DataError(
            f"the head of user {user} did not converge: the inputs are too large, or of sizes too unlike, for float32: "
            "give a normaliser (scorer.fit_normaliser)"
        )


Evaluated = tuple[Float[Array, ""], Any]  # the objective, and what else `towards` needs


def _slope(loss: losses.ConvexLoss) -> Callable[[Array, losses.Targets], tuple[Array, losses.Weighted]]:
    """scores [E], targets -> (the gradient of the loss by the scores, its (sum, weight))."""

    def total(s, targets):
        weighted = loss(s, targets)
        return weighted[0], weighted

    return jax.grad(total, has_aux=True)


def _descend(
    evaluate: Callable[[Any], Evaluated],
    towards: Callable[[Any, Evaluated], Any],
    first: Any,
    known: Evaluated,
    going: Any,
) -> tuple[Any, Evaluated]:
    """The point, a tree, where Newton's steps end, and `evaluate` of it.

    Args:
      evaluate: of what is to fall.
      towards: point, `evaluate` of it -> (the direction to go against, the slope of the objective along it).
      first: the point to begin at.
      known: `evaluate` of it.
      going: whether there is any example; else the first point is the last one.
    """

    def iterate(carry):
        point, known, number, _ = carry
        best = known[0]
        direction, slope = towards(point, known)
        # The last step gains less than the objective's last digits, and its head is more exact all the same.
        bound = best + ROUNDING * jnp.abs(best)

        def tried(scale):
            new = jax.tree.map(lambda p, d: p - scale * d, point, direction)
            return new, evaluate(new)

        def too_long(trial):
            scale, halvings, (_, (reached, _)) = trial
            return (reached > bound - 1e-4 * scale * slope) & (halvings < HALVINGS)

        def halve(trial):
            scale, halvings, _ = trial
            return scale * 0.5, halvings + 1, tried(scale * 0.5)

        _, _, new = jax.lax.while_loop(too_long, halve, (jnp.float32(1.0), 0, tried(jnp.float32(1.0))))
        reached = new[1][0]
        better = reached <= bound
        gains = better & (slope > TOLERANCE * jnp.abs(best))
        point, known = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, (point, known))
        return point, known, number + 1, gains

    def unfinished(carry):
        return carry[3] & (carry[2] < ITERATIONS)

    point, known, _, _ = jax.lax.while_loop(unfinished, iterate, (first, known, 0, jnp.asarray(going)))
    return point, known


def _conjugate_gradients(
    times: Callable[[Array], Array],
    right: Float[Array, " P"],
    tolerance: Any,
    precondition: Callable[[Array], Array] = lambda v: v,
) -> Float[Array, " P"]:
    """x with `times`(x) = right, by conjugate gradients.

    Args:
      times: the product with a positive definite matrix.
      right: of the system.
      tolerance: of the residual's squared length in that of `right`, both after `precondition`.
      precondition: about the inverse of the matrix; it need not be linear (Golub and Ye, SIAM J. Sci. Comput. 1999).
    """
    z = precondition(right)
    size = jnp.dot(right, z)

    def advance(carry):
        x, r, p, rz, number = carry
        product = times(p)
        length = rz / jnp.dot(p, product)
        new = r - length * product
        z = precondition(new)
        return x + length * p, new, z + jnp.dot(new - r, z) / rz * p, jnp.dot(new, z), number + 1

    def going(carry):
        return (carry[3] > tolerance * size) & (carry[4] < PRODUCTS)

    return jax.lax.while_loop(going, advance, (jnp.zeros_like(right), right, z, size, 0))[0]


def _conjugate_gradients_in_kernel(
    times: Callable[[Array, Array], Array], kernel: Callable[[Array], Array], right: Float[Array, " E"]
) -> tuple[Array, Array, Array]:
    """(x, K x, K right) with M x = right, M = `times`(b, K b) self-adjoint in <b, c> = b' K c, K b = `kernel`(b)."""
    k_right = kernel(right)
    size = jnp.dot(right, k_right)

    def advance(carry):
        x, kx, r, p, kp, rr, number = carry
        mp = times(p, kp)
        length = rr / jnp.dot(kp, mp)
        r = r - length * mp
        kr = kernel(r)
        new = jnp.dot(r, kr)
        ratio = new / rr
        return x + length * p, kx + length * kp, r, r + ratio * p, kr + ratio * kp, new, number + 1

    def going(carry):
        return (carry[5] > 1e-10 * size) & (carry[6] < PRODUCTS)

    zero = jnp.zeros_like(right)
    found = jax.lax.while_loop(going, advance, (zero, zero, right, right, k_right, size, 0))
    return found[0], found[1], k_right


def _left(gradient: Float[Array, " P"], squares: Float[Array, " P"], precision: Any) -> Float[Array, ""]:
    """sum_j g_j^2 / h_j, h_j a bound of the Hessian's diagonal for cross-entropy: in units of the loss, whatever those
    of the features. NaN where a square overflows."""
    return jnp.sum(jnp.square(gradient) / (precision + 0.25 * squares))


def _power_of_two(x: Float[Array, ""]) -> Float[Array, ""]:
    """The largest one that is at most x; 1 for 0."""
    found = jax.lax.bitcast_convert_type(jax.lax.bitcast_convert_type(x, jnp.uint32) & 0x7F800000, jnp.float32)
    return jnp.where(x > 0, found, 1.0)
