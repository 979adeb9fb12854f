"""What benchmarks share: contenders that take turns, what the machine can do at best, tables and the last line."""

import collections
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from concurrent import futures
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rich.console
import rich.table

CALLS = 4  # of a turn


def turns(contenders: Mapping[str, Callable[[int], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of a call of each, taking turns of a few calls.

    The first call of a turn is not timed: it finds the caches full of another's bank, and the threads of PyTorch,
    which wait busily for a moment after its last product, on the cores. The first turn is not timed at all.
    """
    seconds = collections.defaultdict(list)
    for turn in range(rounds + 1):
        for name, run in contenders.items():
            for call in range(CALLS):
                start = time.perf_counter()
                run(turn * CALLS + call)
                if turn and call:
                    seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(taken)) for name, taken in seconds.items()}


class Machine:
    """What the machine can do at best: copying on all cores, and a large product."""

    def __init__(self, smoke: bool):
        self.cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.source = np.ones((self.cores, (1 if smoke else 64) * 2**20 // 4 // self.cores), np.float32)
        self.target = np.zeros_like(self.source)
        self.size = 256 if smoke else 1024
        self.matrix = jnp.ones((self.size, self.size), jnp.float32)
        self.product = jax.jit(jnp.matmul)
        self.pool = futures.ThreadPoolExecutor(self.cores)

    def copy(self, _: int) -> None:
        list(self.pool.map(np.copyto, self.target, self.source))

    def multiply(self, _: int) -> None:
        self.product(self.matrix, self.matrix).block_until_ready()


def show(part: str, found: Mapping[str, Any]) -> None:
    """A table of what one part of a benchmark has found; its `checks` say what holds."""
    table = rich.table.Table(title=part, show_header=False)
    for name, value in found.items():
        if isinstance(value, dict) and name != "checks":
            for key, inner in value.items():
                table.add_row(f"{name} {key}".replace("_", " "), _written(inner))
        elif name != "checks":
            table.add_row(name.replace("_", " "), str(value))
    for name, held in found["checks"].items():
        table.add_row(name, "yes" if held else "NO", style="" if held else "bold red")
    rich.console.Console().print(table)


def end(found: Mapping[str, Mapping[str, Any]], figures: tuple[str, ...], *, as_json: bool, smoke: bool) -> None:
    """Prints all as one JSON object, with the figures whose names begin so at its top, and exits with 1 where a check
    is false."""
    if as_json:
        flat = {name: value for one in found.values() for name, value in one.items() if name.startswith(figures)}
        print(json.dumps({**flat, **found}))
    if not smoke and not all(held for one in found.values() for held in one["checks"].values()):
        sys.exit(1)


def _written(value: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
