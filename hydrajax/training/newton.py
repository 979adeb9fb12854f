"""Newton's method for heads whose score is linear in their parameters.

    f(u) = sum of the losses of Phi u + strength/2 |u - anchor|^2

with Phi the design of the user's examples; the losses are convex in the scores, so f has one minimum and no learning
rate, no number of epochs. Each iteration solves (Phi' A Phi + strength I) d = gradient by conjugate gradients, A the
losses' Hessian by the scores, and halves d until f falls.

Where a user has fewer examples than the head has parameters, u - anchor = Phi' a for some a, one number an example:
the same iterations then run on a and Phi Phi', which depends on neither the prior's strength nor the iteration.

Features may be of any size that float32 can square: the system is solved with a diagonal of ones, and Phi of `few` is
divided by a power of two. Sizes that differ too much, or an offset far larger than what varies, leave no digits: what
is `left` to gain then tells that the head is not the minimum, and `check_converged` refuses it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jax import flatten_util
from jaxtyping import Array, Float, Integer

from hydrajax.nn import heads
from hydrajax.training import losses
from hydrajax.types import DataError

ITERATIONS = 30
HALVINGS = 12
PRODUCTS = 300
TOLERANCE = 1e-5  # of the objective: what an iteration gains, below which it was the last (with a prior from 1e-7 on)
ROUNDING = 1e-6  # of the objective: differences that a sum in float32 does not tell
LEFT = 1e-3  # of one and the loss at the anchor: what may be left to gain


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


def minimise(
    loss: losses.Loss,
    chunk: Callable[[Any], tuple[Any, losses.Targets]],
    start: Any,
    stop: Any,
    anchor: heads.User,
    strength: Float[Array, ""],
) -> tuple[heads.User, Float[Array, "2 2"], Float[Array, ""]]:
    """The head that minimises f over chunks start..stop-1.

    Args:
      loss: of one user's scores, convex in them.
      chunk: number of a chunk -> (design of its examples, a user-shaped tree of [E, ...]; targets).
      start: first chunk.
      stop: behind the last chunk.
      anchor: centre of the prior, and first guess.
      strength: of the prior.

    Returns:
      (the head, [[loss sum, weight] at the anchor, the same at the head], about what is left to gain, see `_left`).
    """
    centre, unravel = flatten_util.ravel_pytree(anchor)
    d = centre.shape[0]

    def design(index):
        tree, targets = chunk(index)
        return jax.vmap(lambda row: flatten_util.ravel_pytree(row)[0])(tree), targets

    def value(u):
        def add(index, total):
            phi, targets = design(index)
            loss_sum, weight = loss(phi @ u, targets)
            return total + jnp.stack([loss_sum, weight])

        return jax.lax.fori_loop(start, stop, add, jnp.zeros(2, jnp.float32))

    def objective(u):
        return value(u)[0] + 0.5 * strength * jnp.sum((u - centre) ** 2)

    def derivatives(u):
        def add(index, carry):
            gradient, hessian = carry
            phi, targets = design(index)

            def of_scores(s):
                return loss(s, targets)[0]

            s = phi @ u
            slope_of = jax.grad(of_scores)
            if d < phi.shape[0]:  # fewer products with the losses' Hessian than it has columns
                curved = jax.vmap(lambda v: jax.jvp(slope_of, (s,), (v,))[1], in_axes=1, out_axes=1)(phi)
            else:
                curved = jax.hessian(of_scores)(s) @ phi
            return gradient + phi.T @ slope_of(s), hessian + phi.T @ curved

        zero = (strength * (u - centre), strength * jnp.eye(d, dtype=jnp.float32))
        return jax.lax.fori_loop(start, stop, add, zero)

    def towards(u):
        gradient, hessian = derivatives(u)
        # Conjugate gradients take few products here (a multiple of I plus a matrix of as many ranks as the user has
        # examples), and LAPACK's threads would fight for cores with whatever else runs.
        # Scaled to a diagonal of ones: a large feature would overflow, or drown the others.
        unit = jax.lax.rsqrt(jnp.diagonal(hessian))
        scaled, _ = jax.scipy.sparse.linalg.cg(
            lambda v: unit * (hessian @ (unit * v)), unit * gradient, tol=1e-5, maxiter=PRODUCTS
        )
        direction = unit * scaled
        return direction, jnp.dot(direction, gradient)

    found = _descend(objective, towards, centre, stop > start)

    def slopes(index, carry):
        gradient, squares = carry
        phi, targets = design(index)
        gradient = gradient + phi.T @ jax.grad(lambda s: loss(s, targets)[0])(phi @ found)
        return gradient, squares + jnp.sum(jnp.where(targets.mask[:, None], phi, 0.0) ** 2, axis=0)

    gradient, squares = jax.lax.fori_loop(start, stop, slopes, (strength * (found - centre), jnp.zeros(d, jnp.float32)))
    return unravel(found), jnp.stack([value(centre), value(found)]), _left(gradient, squares, strength)


def few(
    loss: losses.Loss,
    design: heads.User,
    targets: losses.Targets,
    anchor: heads.User,
    full_strength: Float[Array, ""],
) -> tuple[heads.User, Float[Array, "2 2"], Float[Array, ""]]:
    """`minimise` for a user with few examples, all in one chunk.

    With u = anchor + Phi' a and K = Phi Phi', scores are s = Phi anchor + K a and f's gradient is Phi' (l'(s) +
    strength a); conjugate gradients in the inner product <b, c> = b' K c are those of `minimise`, product by product.

    Args:
      loss: of one user's scores, convex in them.
      design: of the examples, a user-shaped tree of [E, ...].
      targets: of the examples.
      anchor: centre of the prior, and first guess.
      full_strength: of the prior.

    Returns:
      what `minimise` returns.
    """
    centre, unravel = flatten_util.ravel_pytree(anchor)
    phi = jax.vmap(lambda row: flatten_util.ravel_pytree(row)[0])(design)
    phi = jnp.where(targets.mask[:, None], phi, 0.0)
    s0 = phi @ centre
    # With features in units of a power of two, the same numbers in all places but the exponent: no product overflows.
    unit = _power_of_two(jnp.max(jnp.abs(phi)))
    squares = jnp.sum(phi**2, axis=0)
    whole, phi = phi, phi / unit
    kernel = phi @ phi.T

    def of_scores(s):
        return loss(s, targets)[0]

    slope_of = jax.grad(of_scores)

    strength = full_strength / unit**2

    def objective(point):
        a, ka = point
        return of_scores(s0 + ka) + 0.5 * strength * jnp.dot(a, ka)

    def towards(point):
        a, ka = point
        gradient = slope_of(s0 + ka) + strength * a

        def times(b, kb):
            return jax.jvp(slope_of, (s0 + ka,), (kb,))[1] + strength * b

        direction, k_direction, k_gradient = _conjugate_gradients(times, kernel, gradient)
        return (direction, k_direction), jnp.dot(direction, k_gradient)

    zero = jnp.zeros_like(s0)
    a, _ = _descend(objective, towards, (zero, zero), jnp.any(targets.mask))
    found = centre + a @ phi / unit
    s = whole @ found
    gradient = slope_of(s) @ whole + full_strength * (found - centre)
    curve = jnp.stack([jnp.stack(loss(each, targets)) for each in (s0, s)])
    return unravel(found), curve, _left(gradient, squares, full_strength)


def intercepts(
    s: Float[np.ndarray, " N"],
    label: Float[np.ndarray, " N"],
    user: Integer[np.ndarray, " N"],
    num_users: int,
    strength: float = 1.0,
) -> Float[np.ndarray, " U"]:
    """What to add to each user's scores under the cross-entropy, with a Gaussian prior around 0."""
    b = np.zeros(num_users)
    for _ in range(ITERATIONS):
        p = scipy.special.expit(s + b[user])
        slope = np.bincount(user, p - label, num_users) + strength * b
        # A step of at most 1: far from the minimum the curvature tells nothing.
        b -= np.clip(slope / (np.bincount(user, p * (1.0 - p), num_users) + strength), -1.0, 1.0)
    return b.astype(np.float32)


def check_converged(users: np.ndarray, curve: np.ndarray, left: np.ndarray) -> None:
    """Refuses heads that are not the minimum.

    Args:
      users: row numbers [G].
      curve: of `minimise`, [G, ..., 2, 2].
      left: of `minimise`, [G, ...].

    Raises:
      DataError: naming the first user.
    """
    bad = ~(left <= LEFT * (1.0 + curve[..., 0, 0]))
    if bad.any():
        user = users[np.flatnonzero(bad.reshape(len(users), -1).any(axis=1))[0]]
        raise DataError(
            f"the head of user {user} did not converge: the inputs are too large, or of sizes too unlike, for float32: "
            "give a normaliser (scorer.fit_normaliser)"
        )


def _descend(objective: Callable[[Any], Array], towards: Callable[[Any], Any], first: Any, going: Any) -> Any:
    """The point, a tree, where Newton's steps end.

    Args:
      objective: what is to fall.
      towards: point -> (the direction to go against, the slope of the objective along it).
      first: the point to begin at.
      going: whether there is any example; else the first point is the last one.
    """

    def iterate(carry):
        point, best, number, _ = carry
        direction, slope = towards(point)
        # The last step gains less than the objective's last digits, and its head is more exact all the same.
        bound = best + ROUNDING * jnp.abs(best)

        def moved(scale):
            return jax.tree.map(lambda p, d: p - scale * d, point, direction)

        def too_long(trial):
            scale, halvings = trial
            return (objective(moved(scale)) > bound - 1e-4 * scale * slope) & (halvings < HALVINGS)

        def halve(trial):
            return trial[0] * 0.5, trial[1] + 1

        scale, _ = jax.lax.while_loop(too_long, halve, (jnp.float32(1.0), 0))
        new = moved(scale)
        reached = objective(new)
        better = reached <= bound
        gains = better & (slope > TOLERANCE * jnp.abs(best))
        point = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, point)
        return point, jnp.minimum(reached, best), number + 1, gains

    def unfinished(carry):
        return carry[3] & (carry[2] < ITERATIONS)

    return jax.lax.while_loop(unfinished, iterate, (first, objective(first), 0, jnp.asarray(going)))[0]


def _left(gradient: Float[Array, " P"], squares: Float[Array, " P"], strength: Any) -> Float[Array, ""]:
    """sum_j g_j^2 / h_j, h_j a bound of the Hessian's diagonal for cross-entropy: in units of the loss, whatever those
    of the features. NaN where a square overflows."""
    return jnp.sum(jnp.square(gradient) / (strength + 0.25 * squares))


def _power_of_two(x: Float[Array, ""]) -> Float[Array, ""]:
    """The largest one that is at most x; 1 for 0."""
    found = jax.lax.bitcast_convert_type(jax.lax.bitcast_convert_type(x, jnp.uint32) & 0x7F800000, jnp.float32)
    return jnp.where(x > 0, found, 1.0)


def _conjugate_gradients(
    times: Callable[[Array, Array], Array], kernel: Float[Array, "E E"], right: Float[Array, " E"]
) -> tuple[Array, Array, Array]:
    """(x, K x, K right) with M x = right, M = `times`(b, K b) self-adjoint in <b, c> = b' K c."""
    k_right = kernel @ right
    size = jnp.dot(right, k_right)

    def advance(carry):
        x, kx, r, p, kp, rr, number = carry
        mp = times(p, kp)
        length = rr / jnp.dot(kp, mp)
        r = r - length * mp
        kr = kernel @ r
        new = jnp.dot(r, kr)
        ratio = new / rr
        return x + length * p, kx + length * kp, r, r + ratio * p, kr + ratio * kp, new, number + 1

    def going(carry):
        return (carry[5] > 1e-10 * size) & (carry[6] < PRODUCTS)

    zero = jnp.zeros_like(right)
    found = jax.lax.while_loop(going, advance, (zero, zero, right, right, k_right, size, 0))
    return found[0], found[1], k_right
