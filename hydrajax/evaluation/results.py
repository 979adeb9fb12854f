"""`results.json`: what a run found, as one strict JSON object.

    {experiment, task, split, users, queries,
     llm: {model, calls, cached, input_tokens, output_tokens, cost_usd},
     methods: {METHOD: {METRIC: {value, low, high}}},
     comparisons: [{a, b, metric, difference, low, high, detectable}],
     captured: {from_best_source, low, high, source, metric},
     new_user: {METHOD: {calls, input_tokens, output_tokens, cost_usd}},
     seconds: {STAGE: s},
     per_user: {METHOD: {METRIC: {value, low, high}}}, gains: {a, b, metric, users: {USER: difference}},
     sources: {METHOD: {SOURCE: share of its answers}}, bleu_signature,
     union: {comparisons: [as above], captured: {as above}} or null, personal: [as comparisons]}

`calls` are requests sent in this run, `cached` answers taken from the store. A comparison is hydra (a) against every
other method and control (b), turned so that positive means that hydra is better, whatever the metric; `detectable` is
the smallest difference that this many users would show. `gains` are hydra's per-user differences to the prompt baseline
that served validation users best. What cannot be known is null: the ends of an interval over fewer than six users, the
captured share where the oracle is no better than the source, `bleu_signature` of a task without BLEU. Of runs with the
union, its comparisons are on the deciding metric, and `personal` holds each prompt strategy (a) against itself with
another user's records (b). An answer that several sources give counts in equal parts for each of them.
"""

import collections
import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hydrajax import metrics
from hydrajax.data import tasks
from hydrajax.evaluation import captured, intervals, predictions, roster
from hydrajax.methods import shuffled


def build(
    task: tasks.Task,
    rows: Iterable[predictions.Row],
    *,
    experiment: str,
    split: str,
    llm: Mapping[str, Any],
    best_source: str | None = None,
    best_prompt: str | None = None,
    new_user: Mapping[str, Mapping[str, Any]],
    seconds: Mapping[str, int | float],
    resamples: int = intervals.RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """The results of a run.

    Args:
      task: decides the metrics.
      rows: prediction rows, in any order.
      split: who was judged, `dev` for example.
      llm: what the LLM did in this run, as above.
      best_source: the best single source by the validation users, a method of the rows; None where none was chosen.
      best_prompt: the best prompt baseline by the validation users, likewise.
      new_user: by method, what it asks of the LLM for one new user: labels, summaries, and the answers to the user's
        queries.
      seconds: time by stage.

    Raises:
      DataError: the rows cannot be judged, or the best source is none of their methods.
      ValueError: a number is not finite.
    """
    rows = predictions.judged(task, rows)
    measured = intervals.measure(task, rows, resamples=resamples, seed=seed)
    methods = roster.ordered(measured.methods)
    results = {
        "experiment": experiment,
        "task": task.name,
        "split": split,
        "users": len(measured.users),
        "queries": measured.queries,
        "llm": llm,
        "methods": {
            method: {m: dataclasses.asdict(intervals.interval(measured, method, m)) for m in measured.metrics}
            for method in methods
        },
        "comparisons": _comparisons(measured, _with_others(roster.REFERENCE, methods), measured.metrics),
        "captured": _captured(measured, best_source, roster.REFERENCE, "oracle"),
        "new_user": {method: new_user[method] for method in roster.ordered(new_user)},
        "seconds": {stage: float(spent) for stage, spent in seconds.items()},
        "per_user": {method: _per_user(measured, method) for method in methods},
        "gains": _gains(measured, best_prompt),
        "sources": _sources(rows, methods),
        "bleu_signature": metrics.bleu_signature() if "bleu" in measured.metrics else None,
        "union": _union(measured, methods, best_source),
        "personal": _comparisons(measured, [(m, shuffled.name(m)) for m in methods if shuffled.name(m) in methods]),
    }
    return _plain(results, "results")


def _comparisons(
    measured: intervals.Measured, pairs: Iterable[tuple[str, str]], metric_names: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Of pairs of methods, by default on the deciding metric alone."""
    comparisons = []
    for (a, b), metric in itertools.product(pairs, metric_names or measured.metrics[:1]):
        values = dataclasses.asdict(intervals.difference(measured, a, b, metric))
        comparisons.append({"a": a, "b": b, "metric": metric, "difference": values.pop("value"), **values})
    return comparisons


def _with_others(method: str, methods: Sequence[str]) -> list[tuple[str, str]]:
    return [(method, other) for other in methods if other != method] if method in methods else []


def _captured(measured: intervals.Measured, source: str | None, method: str, oracle: str) -> dict[str, Any]:
    share = None
    if source is not None and {method, oracle} <= set(measured.methods):
        share = captured.captured_share(measured, source=source, method=method, oracle=oracle)
    ends = {"value": None, "low": None, "high": None} if share is None else dataclasses.asdict(share)
    return {"from_best_source": ends.pop("value"), **ends, "source": source, "metric": measured.metrics[0]}


def _union(measured: intervals.Measured, methods: Sequence[str], source: str | None) -> dict[str, Any] | None:
    if "union" not in methods:
        return None
    return {
        "comparisons": _comparisons(measured, _with_others("union", methods)),
        "captured": _captured(measured, source, "union", "union_oracle"),
    }


def _per_user(measured: intervals.Measured, method: str) -> dict[str, Any]:
    averages = {metric: intervals.per_user_interval(measured, method, metric) for metric in measured.metrics}
    return {metric: dataclasses.asdict(average) for metric, average in averages.items() if average}


def _gains(measured: intervals.Measured, other: str | None) -> dict[str, Any] | None:
    metric = measured.metrics[0]
    if other is None or not {roster.REFERENCE, other} <= set(measured.methods):
        return None
    by_user = (measured.by_user[method, metric] for method in (roster.REFERENCE, other))
    gains = intervals.sign(metric) * np.subtract(*by_user) + 0.0
    users = {user: float(gain) for user, gain in zip(measured.users, gains, strict=True)}
    return {"a": roster.REFERENCE, "b": other, "metric": metric, "users": users}


def _sources(rows: Sequence[predictions.Row], methods: Sequence[str]) -> dict[str, dict[str, float]]:
    """Of every method that chooses among candidates: whose answers it gives."""
    shares = {}
    for method in methods:
        choices = [row["answers"][method].get("candidate") for row in rows]
        if any(choice is None for choice in choices):
            continue
        counts: dict[str, float] = collections.defaultdict(float)
        for row, (pool, index) in zip(rows, choices, strict=True):
            sources = row["pools"][pool][index]["source"].split(", ")
            for source in sources:
                counts[source] += 1 / len(sources)
        shares[method] = {source: counts[source] / len(rows) for source in sorted(counts)}
    return shares


def _plain(value: Any, where: str) -> Any:
    """The value in JSON's own types; a number that JSON cannot write is an error that says where it stands."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}, expected a finite number or null")
    return value
