"""Random draws that cost next to nothing: a mixer of integers, and dropout by it."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt32

Rate = float | Float[Array, ""]  # traced in a sweep


def kept(key: Array | None, n: int, rate: Rate) -> Bool[Array, " n"] | None:
    """Which of n units are kept, each with probability 1 - rate; None where nothing is dropped.

    The key gives two words, and each unit's draw is its number mixed with these, twice. Dropout needs no more, and on
    a CPU a `jax.random.bernoulli` of every unit adds half to the time of a head's whole fit.

    Args:
      key: None switches dropout off.
      n: units.
      rate: a number, or a traced scalar (a sweep over rates); the same draws for both.
    """
    if key is None or (isinstance(rate, float) and rate <= 0.0):
        return None
    words = jax.random.bits(key, (2,), jnp.uint32)
    z = mixed(jnp.arange(n, dtype=jnp.uint32) * jnp.uint32(0x9E3779B9) + words[0])
    z = mixed(z ^ words[1])
    uniform = (z >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)
    return uniform >= rate


def mixed(z: UInt32[Array, "*n"]) -> UInt32[Array, "*n"]:
    """Every bit of the input changes about half of the output's.

    A 32-bit mixer of multiplications and xor-shifts; the constants are from the hash-prospector's search for low bias.
    """
    z = (z ^ (z >> 16)) * jnp.uint32(0x21F0AAAD)
    z = (z ^ (z >> 15)) * jnp.uint32(0xD35A2D97)
    return z ^ (z >> 15)


def drop(x: Float[Array, "*n"], keep: Bool[Array, "*n"], rate: Rate) -> Float[Array, "*n"]:
    """x where it is kept, scaled so that the mean stays."""
    return jnp.where(keep, x / (1.0 - rate), 0.0)
