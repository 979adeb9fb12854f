"""The tables of `union`.

There is a row for each task: the union with the adapter, the best single source as the training users chose it, the
control that is best in hindsight (on the very users reported: a harder opponent than can be known before; `of runs` are
the controls that runs report, which for ratings have no factorised classifier), paired differences with 95 % intervals
over users and the smallest detectable difference, the share of the distance from source to oracle that is captured, and
the share of the union's answers that are each source's own. The average over tasks is that of accuracy, ROUGE-1 and
1 - MAE / 4; its interval comes from independent resamples of each task's users.
"""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import kinds
from experiments.reports import page
from hydrajax.data import tasks
from hydrajax.evaluation import captured, intervals, summary
from hydrajax.evaluation.report import tables as markdown_tables

BEST = "best source"
CONTROLS = ("most frequent", "nearest by words", "factorised", "query text", "first sentence")


def tables(config: kinds.Union, rows: page.Rows, parts: page.Parts) -> str:
    """Markdown: every method by task; the union against source and control; the average; whose answers; choices."""
    of_tasks = {name: [row for row in rows if row["task"] == name] for name in config.tasks}
    measured = {name: intervals.measure(tasks.LAMP[name], own, seed=config.seed) for name, own in of_tasks.items()}
    titles = [f"{n}: {m.metrics[0]}, {len(m.users)} users, {m.queries} questions" for n, m in measured.items()]
    methods = dict.fromkeys(method for m in measured.values() for method in m.methods)
    values = ((method, *(page.value(m, method) for m in measured.values())) for method in methods)

    differences: list[list[str]] = []
    against: dict[str, list[tuple[intervals.Measured, str]]] = collections.defaultdict(list)
    for name, m in measured.items():
        usual = [c for c in CONTROLS if c != "factorised" or tasks.LAMP[name].kind == "classification"]
        for label, other in (
            (BEST, BEST),
            ("best control", _best_in_hindsight(m, CONTROLS)),
            ("best control of runs", _best_in_hindsight(m, usual)),
            ("union_pooled", "union_pooled"),
        ):
            against[label].append((m, other))
            which = label if label == other else f"{label} ({other})"
            differences.append([f"{name}: {which}", *_difference(m, other)])
    for label, pairs in against.items():
        differences.append([f"average over {len(pairs)} tasks: {label}", *average(pairs)])

    shares = [own_shares(own) for own in of_tasks.values()]
    of_source = (
        (source, *(f"{own[source]:.2f}" if source in own else "" for own in shares))
        for source in sorted({source for own in shares for source in own})
    )
    choices = ((name, *_choices(parts[name]["folds"])) for name in config.tasks)
    blocks = (
        (["method", *titles], values),
        (["union minus", "difference", "smallest detectable", "standard error", "captured"], differences),
        (["whose own answers the union gives", *of_tasks], of_source),
        (["chosen on training users", "best single source", "setting of the union", "spread of b"], choices),
    )
    return "\n\n".join(markdown_tables.markdown(heads, rows) for heads, rows in blocks)


def average(pairs: Sequence[tuple[intervals.Measured, str]]) -> list[str]:
    """The mean over tasks of the union's difference on the deciding metric, ratings by 1 - MAE / 4.

    Users of different tasks are different people: their resamples are independent, so any may be paired.
    """
    values: list[float] = []
    resampled: list[np.ndarray] = []
    for m, other in pairs:
        metric = m.metrics[0]
        unit = 0.25 if metric == "mae" else 1.0
        value, draws = intervals.gain(m, "union", other, metric)
        values.append(unit * value)
        resampled.append(np.random.default_rng(len(resampled)).permutation(unit * draws))
    value, draws = float(np.mean(values)), np.mean(resampled, axis=0)
    low, high = np.quantile(draws, [0.025, 0.975])
    error = float(np.std(draws, ddof=1))
    shown = summary.with_interval(value, low, high, signed=True)
    least = intervals.detectable(error, min(len(m.users) for m, _ in pairs))
    return [shown, *map(summary.number, (least, error)), ""]


def own_shares(rows: page.Rows) -> dict[str, float]:
    """Share of the union's answers that are a source's own answer; an answer may be that of several, or of none."""
    counts = collections.Counter(source for row in rows for source in row["own"] or ["nobody's"])
    return {source: n / len(rows) for source, n in counts.items()}


def _best_in_hindsight(m: intervals.Measured, among: Sequence[str]) -> str:
    metric = m.metrics[0]
    return max((c for c in among if c in m.methods), key=lambda c: intervals.sign(metric) * m.values[c, metric])


def _difference(m: intervals.Measured, other: str) -> list[str]:
    metric = m.metrics[0]
    d = intervals.difference(m, "union", other, metric)
    shown = summary.with_interval(d.value, d.low, d.high, metric, signed=True)
    if d.detectable is None:
        return [shown, "", "", ""]
    error = float(np.std(intervals.gain(m, "union", other, metric)[1], ddof=1))
    share = captured.captured_share(m, source=other, method="union", oracle="union_oracle")
    caught = "" if share is None else f"{share.value:.2f}"
    return [shown, summary.number(d.detectable, metric), summary.number(error, metric), caught]


def _choices(folds: Sequence[Mapping[str, Any]]) -> list[str]:
    """The best single source and the union's setting, with how many folds chose it; the mean spread of b."""
    sources, settings = ([fold["best_source"] for fold in folds], [fold["settings"]["union"] for fold in folds])
    spread = {name: float(np.mean([fold["spread"][name] for fold in folds])) for name in folds[0]["spread"]}
    return [_times(sources), _times(settings), ", ".join(f"{name} {n:.2f}" for name, n in spread.items())]


def _times(chosen: Sequence[str]) -> str:
    return ", ".join(f"{name} ({n})" for name, n in collections.Counter(chosen).most_common())
