"""Conjugate gradients for the systems of Newton's method: all that is asked of a matrix are its products."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

PRODUCTS = 300


def solve(
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


def solve_in_kernel(
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
