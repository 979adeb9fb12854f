"""The tables of `union`."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hydrajax import metrics
from hydrajax.data import tasks
from hydrajax.evaluation import captured, intervals

BEST = "best source"
CONTROLS = (
    "most frequent", "nearest by words", "factorised", "query text", "first sentence",
)  # fmt: skip
Parts = Sequence[Mapping[str, Any]]


def tables(found: Mapping[str, Parts], seed: int) -> str:
    """Markdown: every method by task; the union against source and control; the average; whose answers; choices."""
    measured = {
        name: intervals.measure(tasks.LAMP[name], [row for part in parts for row in part["rows"]], seed=seed)
        for name, parts in found.items()
    }
    lines = [
        _head(
            "method", [f"{n}: {m.metrics[0]}, {len(m.users)} users, {m.queries} questions" for n, m in measured.items()]
        )
    ]
    for method in dict.fromkeys(method for m in measured.values() for method in m.methods):
        cells = [_value(m, method) if method in m.methods else "" for m in measured.values()]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    lines += ["", _head("union minus", ["difference", "smallest detectable", "standard error", "captured"])]
    against: dict[str, dict[str, tuple[intervals.Measured, str]]] = collections.defaultdict(dict)
    for name, m in measured.items():
        kind = tasks.LAMP[name].kind
        usual = [c for c in CONTROLS if c != "factorised" or kind == "classification"]
        for label, other in (
            (BEST, BEST),
            ("best control", _best_in_hindsight(m, CONTROLS)),
            ("best control of runs", _best_in_hindsight(m, usual)),
            ("union_pooled", "union_pooled"),
        ):
            against[label][name] = (m, other)
            lines.append(f"| {name}: {label if label == other else f'{label} ({other})'} | {_difference(m, other)} |")
    for label, pairs in against.items():
        lines.append(f"| average over {len(pairs)} tasks: {label} | {average(list(pairs.values()))} |")
    lines += ["", _head("whose own answers the union gives", list(measured))]
    shares = {name: own_shares(parts) for name, parts in found.items()}
    for source in sorted({source for own in shares.values() for source in own}):
        cells = [f"{own[source]:.2f}" if source in own else "" for own in shares.values()]
        lines.append(f"| {source} | {' | '.join(cells)} |")
    lines += ["", _head("chosen on training users", ["best single source", "setting of the union", "spread of b"])]
    for name, parts in found.items():
        sources = collections.Counter(part["best_source"] for part in parts)
        settings = collections.Counter(part["settings"]["union"] for part in parts)
        spread = {s: float(np.mean([part["spread"][s] for part in parts])) for s in parts[0]["spread"]}
        lines.append(f"| {name} | {_times(sources)} | {_times(settings)} | {_spread(spread)} |")
    return "\n".join(lines)


def average(pairs: Sequence[tuple[intervals.Measured, str]]) -> str:
    """The mean over tasks of the union's difference on the deciding metric, ratings by 1 - MAE / 4.

    Users of different tasks are different people: their resamples are independent, so any may be paired.
    """
    values, resampled = [], []
    for m, other in pairs:
        metric = m.metrics[0]
        unit = 0.25 if metric == "mae" else 1.0
        sign = unit if metrics.STATISTICS[metric].higher_is_better else -unit
        values.append(sign * (m.values["union", metric] - m.values[other, metric]))
        draws = sign * (m.resampled["union", metric] - m.resampled[other, metric])
        resampled.append(np.random.default_rng(len(resampled)).permutation(draws))
    value, draws = float(np.mean(values)), np.mean(resampled, axis=0)
    low, high = np.quantile(draws, [0.025, 0.975])
    error = float(np.std(draws, ddof=1))
    detectable = intervals.DETECTABLE_STANDARD_ERRORS * error
    return f"{value:+.4f} [{low:+.4f}, {high:+.4f}] | {detectable:.4f} | {error:.4f} | "


def own_shares(parts: Parts) -> dict[str, float]:
    """Share of the union's answers that are a source's own answer; an answer may be that of several, or of none."""
    rows = [row for part in parts for row in part["rows"]]
    counts = collections.Counter(source for row in rows for source in row["own"] or ["nobody's"])
    return {source: n / len(rows) for source, n in counts.items()}


def _best_in_hindsight(m: intervals.Measured, among: Sequence[str]) -> str:
    metric = m.metrics[0]
    sign = 1.0 if metrics.STATISTICS[metric].higher_is_better else -1.0
    return max((c for c in among if c in m.methods), key=lambda c: sign * m.values[c, metric])


def _difference(m: intervals.Measured, other: str) -> str:
    metric = m.metrics[0]
    d = intervals.difference(m, "union", other, metric)
    if d.low is None or d.detectable is None:
        return f"{d.value:+.3f} | | | "
    error = d.detectable / intervals.DETECTABLE_STANDARD_ERRORS
    share = captured.captured_share(m, source=other, method="union", oracle="union_oracle")
    caught = "" if share is None else f"{share.value:.2f}"
    return f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}] | {d.detectable:.3f} | {error:.3f} | {caught}"


def _value(m: intervals.Measured, method: str) -> str:
    cell = intervals.interval(m, method, m.metrics[0])
    return f"{cell.value:.3f}" if cell.low is None else f"{cell.value:.3f} [{cell.low:.3f}, {cell.high:.3f}]"


def _head(title: str, cells: Sequence[str]) -> str:
    return f"| {title} | {' | '.join(cells)} |\n|---|{'---|' * len(cells)}"


def _times(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({n})" for name, n in collections.Counter(counts).most_common())


def _spread(spread: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {n:.2f}" for name, n in spread.items())
