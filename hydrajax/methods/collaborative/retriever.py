"""CFRAG's retriever: what finds records for a question and a user, learned by what records did for the LLM.

    t(x) = A x / |A x|,   w(u) = W u / |W u|,   s_i = (lambda w(u) + (1 - lambda) t(q))' t(p_i)
    loss = KL(softmax(m / tau) || softmax(s / tau)),   m_i = quality of the LLM's answer when shown p_i alone

over the candidates of a question. The paper fine-tunes its whole encoder for t; here A is a linear map behind the
frozen base. Both maps begin as the identity, with which nothing is changed. Shi et al. (SIGIR 2025, arXiv 2504.05731).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from hydrajax.data import draws
from hydrajax.prompting import peers
from hydrajax.prompting.collaboration import Candidates
from hydrajax.training import optimizers

TEMPERATURE = 1.0
QUESTIONS = 4  # of an update
# The public code has 1 and 6e-5, for a whole encoder and thousands of questions. With these, maps learned from a
# hundred made-up questions find up to twice as many records that help, and where there is nothing to learn as many.
EPOCHS, RATE, DECAY = 4, 3e-4, 1e-5

Maps = dict[str, Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retriever:
    """The two maps, [D, D] each."""

    text: Float[np.ndarray, "D D"]
    user: Float[np.ndarray, "D D"]

    def texts(self, features: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
        """t."""
        return peers.unit(features @ self.text)

    def liked(self, users: Float[np.ndarray, "U D"]) -> Float[np.ndarray, "U D"]:
        """w."""
        return peers.unit(users @ self.user)


def untaught(width: int) -> Retriever:
    """With which nothing is changed."""
    return Retriever(text=np.eye(width), user=np.eye(width))


def fit(
    tried: Sequence[tuple[Candidates, Float[np.ndarray, " _"]]],
    *,
    width: int,
    weight: float,
    seed: int = 0,
    epochs: int = EPOCHS,
    rate: float = RATE,
) -> Retriever:
    """The retriever, learned from questions with the quality of the LLM's answer to each of their candidates.

    Questions whose candidates are all alike teach nothing and are left out.

    Args:
      tried: (candidates, quality of each).
      width: D.
      weight: lambda.
      epochs: passes over the questions.
      rate: of AdamW, falls to 0 in a line.
    """
    told = [(found, qualities) for found, qualities in tried if len(qualities) and np.ptp(qualities) > 0]
    if not told:
        return untaught(width)
    most = max(len(qualities) for _, qualities in told)
    q, u = (np.array(part, np.float32) for part in zip(*((one.question, one.user) for one, _ in told), strict=True))
    p = np.zeros((len(told), most, width), np.float32)
    m = np.full((len(told), most), -np.inf, np.float32)
    for i, (one, qualities) in enumerate(told):
        p[i, : len(qualities)], m[i, : len(qualities)] = one.features, qualities
    size = min(QUESTIONS, len(told))
    total = np.float32(-(-len(told) // size) * epochs)
    maps: Maps = {"text": jnp.eye(width), "user": jnp.eye(width)}
    state = _optimizer(rate, total).init(maps)
    rng = np.random.default_rng(draws.number(seed, "order of questions"))
    for _ in range(epochs):
        order = rng.permutation(len(told))
        order = np.concatenate([order, order[: -len(told) % size]])  # whole updates, of one shape
        for take in order.reshape(-1, size):
            given = (q[take], u[take], p[take], m[take], np.float32(weight))
            maps, state = _update(maps, state, *given, np.float32(rate), total)
    return Retriever(text=np.asarray(maps["text"], np.float64), user=np.asarray(maps["user"], np.float64))


def scores(
    maps: Maps, q: Float[Array, " D"], u: Float[Array, " D"], p: Float[Array, "N D"], weight: Float[Array, ""]
) -> Float[Array, " N"]:
    """s of the candidates of one question; arguments of length one."""
    direction = weight * _unit(u @ maps["user"]) + (1 - weight) * _unit(q @ maps["text"])
    return _unit(p @ maps["text"]) @ direction


def divergence(s: Float[Array, " N"], quality: Float[Array, " N"], mask: Bool[Array, " N"]) -> Float[Array, ""]:
    """KL of the scores' softmax from that of the qualities, where there are candidates."""
    teacher = jax.nn.softmax(jnp.where(mask, quality, -jnp.inf) / TEMPERATURE)
    student = jax.nn.log_softmax(jnp.where(mask, s, -jnp.inf) / TEMPERATURE)
    log_teacher = jnp.log(jnp.where(teacher > 0, teacher, 1.0))
    return jnp.sum(teacher * jnp.where(mask, log_teacher - jnp.where(mask, student, 0.0), 0.0))


def _optimizer(rate: Any, total: Any) -> Any:
    return optimizers.adamw(rate, DECAY, total=total)


@jax.jit
def _update(
    maps: Maps, state: Any, q: Array, u: Array, p: Array, m: Array, weight: Array, rate: Array, total: Array
) -> tuple[Maps, Any]:
    def loss(maps: Maps) -> Array:
        mask = jnp.isfinite(m)
        s = jax.vmap(scores, in_axes=(None, 0, 0, 0, None))(maps, q, u, p, weight)
        return jnp.mean(jax.vmap(divergence)(s, jnp.where(mask, m, 0.0), mask))

    updates, state = optimizers.update(_optimizer(rate, total), jax.grad(loss)(maps), state, maps)
    return optax.apply_updates(maps, updates), state


def _unit(x: Array) -> Array:
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x**2, axis=-1, keepdims=True), 1e-24))
