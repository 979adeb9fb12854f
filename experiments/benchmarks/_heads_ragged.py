"""Users with 1 to 500 examples in one update: three ways to lay out the examples.

`longest` pads every user to the one with most examples; `buckets` is what `training.loop` does: users with like
numbers of examples share a batch, padded to a power of two; `ragged` sorts all examples by user and multiplies them
with `jax.lax.ragged_dot`, without any padding. What is timed is the sum of the losses and its gradient with respect to
every user's head of the family `mlp`; gathering and updating rows is the same in all three.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import _benchmark
from hydrajax.nn.heads import mlp
from hydrajax.training import losses

MOST = 500  # examples of a user


def measure(users: int, d: int, *, rounds: int) -> dict[str, Any]:
    """Milliseconds of each way, ratios over `buckets`, and how far the gradients are apart.

    Args:
      users: with a head each; their numbers of examples are log-uniform from 1 to 500.
      d: features.
      rounds: turns of each way.
    """
    rng = np.random.default_rng(0)
    counts = np.exp(rng.uniform(0.0, np.log(MOST), users)).astype(int)
    counts[0] = MOST
    head = jax.vmap(lambda key: mlp.init(key, d, d))(jax.random.split(jax.random.key(0), users))
    user = np.repeat(np.arange(users), counts)
    x = rng.standard_normal((len(user), d), np.float32)
    label = (rng.random(len(user)) < 0.5).astype(np.float32)

    edges = np.maximum(8, 2 ** np.ceil(np.log2(counts)).astype(int))
    groups = [(np.flatnonzero(edges == edge), edge) for edge in np.unique(edges)]
    buckets = [_padded(members, edge, user, x, label) for members, edge in groups]
    longest = [_padded(np.arange(users), MOST, user, x, label)]
    sizes = jnp.asarray(counts, jnp.int32)
    ways = {
        "longest": lambda: jax.block_until_ready(_user_major(head, longest)),
        "buckets": lambda: jax.block_until_ready(_user_major(head, buckets)),
        "ragged": lambda: jax.block_until_ready(_sorted_rows(head, sizes, user, x, label)),
    }
    gradients = {name: way() for name, way in ways.items()}
    seconds = _benchmark.turns(ways, rounds)
    return {
        "step_ms": _benchmark.milliseconds(seconds),
        "rows": {
            "longest": users * MOST,
            "buckets": sum(len(members) * int(edge) for members, edge in groups),
            "ragged": len(user),
        },
        "ratio_ragged": seconds["ragged"] / seconds["buckets"],
        "ratio_longest": seconds["longest"] / seconds["buckets"],
        "difference": max(_apart(gradients["buckets"], other) for other in gradients.values()),
    }


def _padded(members: np.ndarray, width: int, user: np.ndarray, x: np.ndarray, label: np.ndarray) -> Any:
    rows = np.full((len(members), width), -1)
    for slot, member in enumerate(members):
        own = np.flatnonzero(user == member)
        rows[slot, : len(own)] = own
    take = np.maximum(rows, 0)
    return jax.device_put((members, x[take], label[take], rows >= 0))


@jax.jit
def _user_major(head: Any, parts: list[Any]) -> Any:
    def summed(head):
        total = jnp.zeros(())
        for members, x, label, mask in parts:
            own = jax.tree.map(lambda leaf, members=members: leaf[members], head)
            one = lambda user, x: jax.vmap(lambda row: mlp.apply(user, row, 0.0, None))(x)  # noqa: E731
            total += _loss(jax.vmap(one)(own, x), label, mask)
        return total

    return jax.grad(summed)(head)


@jax.jit
def _sorted_rows(head: Any, sizes: Any, user: Any, x: Any, label: Any) -> Any:
    def summed(head):
        hidden = jnp.tanh(jax.lax.ragged_dot(x, head["w1"], sizes) + head["b1"][user])
        out = jax.lax.ragged_dot(hidden, head["w2"], sizes) + head["b2"][user]
        return _loss(out[:, 1] - out[:, 0], label, jnp.ones(len(label), bool))

    return jax.grad(summed)(head)


def _loss(logit: Any, label: Any, mask: Any) -> Any:
    flat = losses.Targets(label=label.ravel(), score=label.ravel(), pool=jnp.zeros(label.size, int), mask=mask.ravel())
    return losses.cross_entropy(logit.ravel(), flat)[0]


def _apart(a: Any, b: Any) -> float:
    return float(max(jnp.abs(p - q).max() for p, q in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)))
