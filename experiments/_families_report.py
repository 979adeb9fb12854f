"""The tables of `families`: methods by task, differences, curves over the records that taught."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hydrajax.data import tasks
from hydrajax.evaluation import intervals, summary

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """What came out of one task and pool: prediction rows, choices as loss/epochs by family, records on the curve."""

    task: tasks.Task
    rows: Sequence[Mapping[str, Any]]
    choices: Mapping[str, Sequence[str]]
    numbers: Sequence[int]


def measure(task: tasks.Task, rows: Iterable[Mapping[str, Any]], seed: int) -> intervals.Measured:
    """Every method's mean quality, measured as a reward is."""
    return intervals.measure(dataclasses.replace(task, kind="reward"), rows, seed=seed)


def tables(found: Mapping[str, Found], families: Iterable[str], seed: int) -> str:
    """Markdown: methods by task; differences; the curve over records; users with few and with many records."""
    measured = {name: measure(one.task, one.rows, seed) for name, one in found.items()}
    head = "| " + " | ".join(f"{name} ({len(m.users)} users, {m.queries} questions)" for name, m in measured.items())
    points = {curve_name(name, n) for one in found.values() for name in CURVES for n in one.numbers}
    methods = dict.fromkeys(method for m in measured.values() for method in m.methods if method not in points)
    lines = _table(
        "selected by", head, ((method, [_value(m, method) for m in measured.values()]) for method in methods)
    )

    over_shared = [(name, "shared") for name in families if name != "shared"]
    pairs = [(f"{a} − {b}", a, b) for a, b in dict.fromkeys((*PAIRS, *over_shared))]
    counts = sorted({n for one in found.values() for n in one.numbers})
    curves = [(f"{curve_name(name, n)} − shared", curve_name(name, n), "shared") for name in CURVES for n in counts]
    for title, chosen in (("difference, smallest detectable", pairs), ("own records that taught", curves)):
        cells = ((name, [_difference(m, a, b) for m in measured.values()]) for name, a, b in chosen)
        lines += ["", *_table(title, head, cells)]

    few: list[str] = []
    many: list[str] = []
    for one in found.values():
        middle = float(np.median([row["records"] for row in one.rows]))
        for half, side in (
            (few, [r for r in one.rows if r["records"] <= middle]),
            (many, [r for r in one.rows if r["records"] > middle]),
        ):
            label = f"{min(r['records'] for r in side)} to {max(r['records'] for r in side)} records" if side else ""
            half.append(f"{label}: {_difference(measure(one.task, side, seed), 'mlp', 'shared')}" if side else "")
    lines += ["", *_table("mlp − shared", head, [("users with few records", few), ("with many", many)])]

    times = {
        name: [
            ", ".join(f"{choice} {n}" for choice, n in collections.Counter(one.choices.get(name, ())).most_common(3))
            for one in found.values()
        ]
        for name in families
    }
    lines += ["", *_table("chosen loss/epochs, times", head, times.items())]
    return "\n".join(lines)


def _table(title: str, head: str, rows: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """The lines of a Markdown table; rows without any cell are left out."""
    lines = [f"| {title} {head} |", "|---|" + "---|" * head.count(" | ") + "---|"]
    return lines + [f"| {name} | {' | '.join(cells)} |" for name, cells in rows if any(cells)]


def _value(measured: intervals.Measured, method: str) -> str:
    if method not in measured.methods:
        return ""
    cell = intervals.interval(measured, method, "reward")
    return f"{summary.number(cell.value, 'reward')} {summary.span(cell.low, cell.high, 'reward')}".rstrip()


def _difference(measured: intervals.Measured, a: str, b: str) -> str:
    if not {a, b} <= set(measured.methods):
        return ""
    cell = intervals.difference(measured, a, b, "reward")
    value = summary.number(cell.value, "reward", signed=True)
    if cell.detectable is None:
        return value
    span = summary.span(cell.low, cell.high, "reward", signed=True)
    return f"{value} {span}, {summary.number(cell.detectable, 'reward')}"
