"""What benchmarks share: contenders that take turns, the machine at its best, tables, goals, the last line."""

import collections
import dataclasses
import importlib.util
import itertools
import json
import os
import pathlib
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import rich.console
import rich.table

CALLS = 4  # of a turn
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
WORDS = "the harbour lay quiet while somebody in town counted letters that never came".split()  # noqa: SIM905


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What every benchmark is told; `parts` too where there are several."""

    json: bool = False
    """Print one JSON object as the last line."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn(Options):
    """What a benchmark is told that draws a curve."""

    plot: pathlib.Path | None = None
    """An HTML file for the curves."""

    def draw(self, title: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> None:
        """Writes the page, where one is asked for."""
        if self.plot is not None:
            from hydrajax.evaluation import markup
            from hydrajax.evaluation.report import parts, plots

            drawn = plots.lines(curves, title)
            self.plot.write_text(parts.page(title, markup.element("h1", title), drawn), encoding="utf-8")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sized(Options):
    """What a benchmark is told that has a smoke size."""

    smoke: bool = False
    """Tiny sizes and few rounds: whether it runs, not how fast."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared(Drawn, Sized):
    """What a benchmark is told whose contenders take turns."""

    def rounds(self, count: int) -> int:
        """How often contenders take turns."""
        return 1 if self.smoke else count


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A benchmark of several parts, called with its options.

    Attributes:
      parts: what measures each, from the options. Figures that are true or false must be true.
      figures: how the names of those begin that also stand at the top of the JSON object.
      least, most: the goals, by the figure's name.
      torch: the parts that need PyTorch.
    """

    parts: Mapping[str, Callable[[Any], dict[str, Any]]]
    figures: tuple[str, ...] = ()
    least: Mapping[str, float] = dataclasses.field(default_factory=dict)
    most: Mapping[str, float] = dataclasses.field(default_factory=dict)
    torch: tuple[str, ...] = ()

    def __call__(self, options: Options) -> None:
        """Measures, prints a table a part, and exits with 1 where a goal is missed."""
        wanted = getattr(options, "parts", tuple(self.parts))
        compared = [part for part in wanted if part in self.torch]
        if compared and importlib.util.find_spec("torch") is None:
            sys.exit(f"the parts {' and '.join(compared)} need PyTorch: pip install -r requirements/parity.txt")
        found: dict[str, dict[str, Any]] = {}
        for part in wanted:
            figures = self.parts[part](options)
            found[part] = figures | {"checks": self.checks(figures)}
            show(part, found[part])
        if options.json:
            flat = {name: value for of in found.values() for name, value in of.items() if name.startswith(self.figures)}
            print(json.dumps({**flat, **found}))
        smoke = isinstance(options, Sized) and options.smoke
        if not smoke and not all(held for of in found.values() for held in of["checks"].values()):
            sys.exit(1)

    def checks(self, figures: Mapping[str, Any]) -> dict[str, bool]:
        """What must hold of the figures of a part, and whether it does; a figure that is None is not reached."""
        checks = {name.replace("_", " "): value for name, value in figures.items() if isinstance(value, bool)}
        for limits, words, sign in ((self.least, "at least", 1), (self.most, "at most", -1)):
            for name in limits.keys() & figures.keys():
                reached = figures[name] is not None and sign * figures[name] >= sign * limits[name]
                checks[f"{name.replace('_', ' ')} {words} {limits[name]:g}"] = bool(reached)
        return checks


class Seconds(NamedTuple):
    """By the clock, and of all cores together: on a machine that others use as well the second is steadier."""

    wall: float
    cpu: float


def timed(contenders: Mapping[Any, Callable[[], Any]], rounds: int, calls: int = CALLS) -> dict[Any, Seconds]:
    """Median seconds of a call of each, taking turns of a few calls.

    The first call of a turn is not timed where there are more: it finds the caches full of another's bank, and the
    threads of PyTorch, which wait busily for a moment after its last product, on the cores. The first turn is not timed
    at all.
    """
    seconds = collections.defaultdict(list)
    for turn in range(rounds + 1):
        for name, run in contenders.items():
            for call in range(calls):
                wall, cpu = time.perf_counter(), time.process_time()
                run()
                if turn and (call or calls == 1):
                    seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {name: Seconds(*np.median(taken, axis=0).tolist()) for name, taken in seconds.items()}


def turns(contenders: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """`timed` by the clock."""
    return {name: seconds.wall for name, seconds in timed(contenders, rounds).items()}


def over(step: Callable[..., Any], batches: Iterable[Sequence[Any]]) -> Callable[[], Any]:
    """A contender that takes one batch after another, and begins again after the last."""
    following = itertools.cycle(batches)
    return lambda: step(*next(following))


def milliseconds(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: round(1e3 * value, 3) for name, value in seconds.items()}


def mean_ratio(ratios: Iterable[float]) -> float:
    """Geometric."""
    return float(np.exp(np.mean(np.log(list(ratios)))))


def peak_bytes(who: int = resource.RUSAGE_SELF) -> int:
    """The largest resident memory so far, of this process or of `RUSAGE_CHILDREN` that have finished."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(who).ru_maxrss * unit


class Machine:
    """What the machine can do at best: copying on all cores, and a large product."""

    def __init__(self, smoke: bool):
        self.source = np.ones((CORES, (1 if smoke else 64) * 2**20 // 4 // CORES), np.float32)
        self.target = np.zeros_like(self.source)
        self.size = 256 if smoke else 1024
        self.matrix = jnp.ones((self.size, self.size), jnp.float32)
        self.product = jax.jit(jnp.matmul)
        self.pool = futures.ThreadPoolExecutor(CORES)

    def copy(self) -> None:
        list(self.pool.map(np.copyto, self.target, self.source))

    def multiply(self) -> None:
        self.product(self.matrix, self.matrix).block_until_ready()

    def copying(self, moved: float, seconds: Mapping[str, float]) -> float:
        """Seconds that so many bytes, read or written, take at the rate of `copy`."""
        return moved / (2 * self.source.nbytes) * seconds["copy"]

    def multiplying(self, operations: float, seconds: Mapping[str, float]) -> float:
        """Seconds that so many operations take at the rate of `multiply`."""
        return operations / (2 * self.size**3) * seconds["multiply"]


def show(part: str, found: Mapping[str, Any]) -> None:
    """A table of what one part of a benchmark has found; its `checks` say what holds."""
    table = rich.table.Table(title=part, show_header=False)
    for name, value in found.items():
        if name != "checks" and not isinstance(value, bool):
            for key, inner in value.items() if isinstance(value, dict) else [("", value)]:
                table.add_row(f"{name} {key}".replace("_", " ").rstrip(), _written(inner))
    for name, held in found["checks"].items():
        table.add_row(name, "yes" if held else "NO", style="" if held else "bold red")
    rich.console.Console().print(table)


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_written(inner)}" for name, inner in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
