"""What training a base would take, for a plan: how many tokens go through it, and roughly how long, without training.

The time is that of the products of matrices which a training consists of, at the speed at which this machine multiplies
two large ones, measured for a moment; a training reaches a part of it.
"""

import dataclasses
import math
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hydrajax.methods import scorers
from hydrajax.methods.collaborative import learn as collaborative
from hydrajax.methods.rows import Row
from hydrajax.runs import accounts
from hydrajax.runs import config as config_lib
from hydrajax.types import DataError

SAMPLED = 512  # pairs whose tokens are counted, of all
PASSES = 4.0  # of a forward pass: itself, once more for a micro-batch, and twice its work backwards
REACHED = (1.0, 0.25)  # share of the speed of large products, at best and at worst
SIDE = 1024  # of the matrices that are multiplied


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
    """A training of a base.

    Attributes:
      rows: what it learns from.
      losses: that are tried, a training each.
      halves: whether it is done once more in two halves, for cross-fitting.
    """

    rows: Sequence[Row]
    losses: Sequence[str]
    halves: bool


def training(config: config_lib.RunConfig, fits: Sequence[Fit]) -> accounts.Training:
    """Of a run that trains its bases."""
    counts = [(len(fit.losses) + fit.halves) * len(fit.rows) for fit in fits]
    found = accounts.Training(
        fits=sum(len(fit.losses) + 2 * fit.halves for fit in fits if fit.rows),
        examples=sum(counts),
        epochs=config.scorer.base_epochs,
    )
    try:
        return _timed(config, fits, counts, found)
    except DataError:  # the run will say what is wrong with its base
        return found


def _timed(
    config: config_lib.RunConfig, fits: Sequence[Fit], counts: Sequence[int], found: accounts.Training
) -> accounts.Training:
    from hydrajax.nn import tokens, weights

    folder = weights.find_base(config.encoder.name)
    shape, tokenizer = weights.load_config(folder), tokens.load_tokenizer(folder)
    most = min(config.encoder.max_pair_tokens or shape.max_tokens, shape.max_tokens)
    total = operations = 0.0
    for fit, count in zip(fits, counts, strict=True):
        pairs = [(row.first, row.second) for row in fit.rows[:: max(1, len(fit.rows) // SAMPLED)]]
        if not pairs:
            continue
        lengths = [len(e.ids) for e in tokens.tokenize(tokenizer, pairs, max_tokens=most, truncate="second")]
        padded = min(tokens.bucket(max(lengths)), shape.max_tokens)
        total += count * found.epochs * sum(lengths) / len(lengths)
        operations += PASSES * count * found.epochs * padded * _forward(shape, padded)
    rate = _rate()
    least, most_seconds = (operations / (share * rate) for share in REACHED)
    return dataclasses.replace(found, tokens=round(total), seconds=(least, most_seconds))


def _forward(shape: Any, length: int) -> float:
    """Operations of a forward pass, for each of the tokens of a text of this length."""
    d, f = shape.hidden_size, shape.intermediate_size
    return float(shape.num_hidden_layers * (2 * (4 * d * d + 2 * d * f) + 4 * length * d))


def _rate() -> float:
    """Operations a second of products of matrices on this machine's devices, measured for a moment."""
    import jax
    import jax.numpy as jnp

    from hydrajax.nn import backends

    square = jnp.ones((SIDE, SIDE), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    product(square).block_until_ready()
    best = math.inf
    for _ in range(3):
        start = time.perf_counter()
        product(square).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2.0 * SIDE**3 / best * len(backends.devices())


def fits(config: config_lib.RunConfig, taught: Mapping[str, Sequence[Row]], cross_fitted: Collection[str]) -> list[Fit]:
    """The trainings of a run's scorers.

    Args:
      taught: rows of training users, by scorer.
      cross_fitted: the scorers that are cross-fitted.
    """
    made = []
    for name, rows in taught.items():
        fixed = collaborative.FITTED["losses"].get(name)
        losses = [fixed] if fixed else config.losses
        if not scorers.rated(rows):  # see `selection.ValidatedLearner`
            losses = ["cross_entropy" if loss == "ordinal" else loss for loss in losses]
        made.append(Fit(rows=rows, losses=tuple(dict.fromkeys(losses)), halves=name in cross_fitted))
    return made
