"""The tables of `families`: methods by task, differences, curves over the records that taught."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments import kinds
from experiments.reports import page
from hydrajax.data import tasks
from hydrajax.evaluation import intervals
from hydrajax.evaluation.report import tables as markdown_tables

POOLED = "mlp, pooled head"
LENT = "mlp, another user's head"
CHOSEN = "mlp or pooled head"
CURVES = ("mlp", "linear")
LABEL, MEDIAN = "most frequent label", "median rating"
PAIRS = (
    ("mlp", "shared"), ("mlp", POOLED), ("mlp", LENT), ("mlp", "mlp, fresh"), ("mlp", LABEL), ("mlp", MEDIAN),
    (CHOSEN, "shared"), ("linear", "linear, 0 records"), ("linear", LABEL), ("linear", MEDIAN),
)  # fmt: skip


def curve_name(name: str, n: int) -> str:
    """The method of a point of the curve."""
    return f"{name}, {n} records"


def tables(config: kinds.Families, rows: page.Rows, parts: page.Parts) -> str:
    """The tables of each pool; of candidates that were asked for alone, how many calls that took."""
    if config.only_ask:
        return "\n".join(f"{name}: {part['llm']['calls']:,} calls, nothing fitted" for name, part in parts.items())
    return "\n\n".join(
        f"## {pool}\n\n"
        + of_pool(
            {name: [row for row in rows if (row["task"], row["pool"]) == (name, pool)] for name in config.tasks},
            {name: parts[f"{name}-{pool}"] for name in config.tasks},
            config.families,
            config.seed,
        )
        for pool in config.pools
    )


def of_pool(rows: Mapping[str, page.Rows], parts: page.Parts, families: Iterable[str], seed: int) -> str:
    """Methods by task; differences; the curve over records; users with few and with many records; what was chosen.

    Args:
      rows: prediction rows by task.
      parts: by task how often what was chosen (`choices`), and the numbers of records on the curve (`numbers`).
      families: of the table.
      seed: of the bootstrap.
    """
    measured = {name: measure(name, of_task, seed) for name, of_task in rows.items()}
    head = [f"{name} ({len(m.users)} users, {m.queries} questions)" for name, m in measured.items()]
    counts = sorted({n for part in parts.values() for n in part["numbers"]})
    points = [curve_name(name, n) for name in CURVES for n in counts]
    methods = dict.fromkeys(method for m in measured.values() for method in m.methods if method not in points)
    values = ((method, *(page.value(m, method) for m in measured.values())) for method in methods)

    def differences(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
        return [[f"{a} − {b}", *(page.difference(m, a, b) for m in measured.values())] for a, b in pairs]

    sides = [["users with few records"], ["with many"]]
    for name, of_task in rows.items():
        middle = float(np.median([row["records"] for row in of_task]))
        for many, cells in enumerate(sides):
            cells.append(_side(name, [row for row in of_task if (row["records"] > middle) == many], seed))

    times = ((name, *(_most_common(part["choices"].get(name, ())) for part in parts.values())) for name in families)
    pairs = dict.fromkeys((*PAIRS, *((name, "shared") for name in families if name != "shared")))
    blocks = {
        "selected by": values,
        "difference, smallest detectable": differences(pairs),
        "own records that taught": differences((point, "shared") for point in points),
        "mlp − shared": sides,
        "chosen loss/epochs, times": times,
    }
    return "\n\n".join(markdown_tables.markdown([title, *head], of_block) for title, of_block in blocks.items())


def measure(task: str, rows: page.Rows, seed: int) -> intervals.Measured:
    """Every method's mean quality, measured as a reward is."""
    return intervals.measure(dataclasses.replace(tasks.LAMP[task], kind="reward"), rows, seed=seed)


def _side(task: str, rows: page.Rows, seed: int) -> str:
    """What heads do for users whose numbers of records lie on one side of the middle."""
    if not rows:
        return ""
    records = [row["records"] for row in rows]
    return f"{min(records)} to {max(records)} records: {page.difference(measure(task, rows, seed), 'mlp', 'shared')}"


def _most_common(choices: Sequence[Any]) -> str:
    return ", ".join(f"{choice} {n}" for choice, n in collections.Counter(choices).most_common(3))
