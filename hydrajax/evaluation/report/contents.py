"""The files of a finished run, checked when they are read: a report names the file that is damaged, and where."""

import pathlib
from typing import Any

from hydrajax import files, forms
from hydrajax.evaluation import predictions, summary

_NUMBER = (float, None)
_METRIC = frozenset(summary.TITLES)
_INTERVAL = {"value": _NUMBER, "low": _NUMBER, "high": _NUMBER}
_COMPARISON = {
    "a": str,
    "b": str,
    "metric": _METRIC,
    "difference": float,
    "low": _NUMBER,
    "high": _NUMBER,
    "detectable": _NUMBER,
}
_CAPTURED = {"from_best_source": _NUMBER, "low": _NUMBER, "high": _NUMBER, "source": (str, None), "metric": _METRIC}
LLM = {"model": str, "calls": int, "cached": int, "input_tokens": int, "output_tokens": int, "cost_usd": _NUMBER}
COMMON = {"experiment": str, "task": str, "users": int, "queries": int, "llm": LLM, "seconds": {...: float}}
RESULTS = COMMON | {
    "split": str,
    "methods": {...: {...: _INTERVAL}},
    "comparisons": [_COMPARISON],
    "new_user": {...: {"calls": float, "input_tokens": float, "output_tokens": float, "cost_usd": _NUMBER}},
    "captured?": (None, _CAPTURED),
    "per_user?": (None, {...: {...: _INTERVAL}}),
    "gains?": (None, {"a": str, "b": str, "metric": _METRIC, "users": {...: float}}),
    "sources?": (None, {...: {...: float}}),
    "bleu_signature?": (str, None),
    "union?": (None, {"comparisons": [_COMPARISON], "captured": _CAPTURED}),
    "personal?": (None, [_COMPARISON]),
    "curves?": (None, {...: {...: [[float]]}}),
}
COMMAND = {"command?": (str, [str])}
CHOICES = {
    "validation_users?": int,
    "validation_queries?": int,
    "scorers?": {...: {"epochs": int, "loss": str, "family?": str}},
    "shown?": {...: {"k": int}},
    "union?": (None, {"candidates": {...: float}, "settings": {"union": object}}),
    "notes?": [str],
    "faults?": {...: int},
}
INVOCATION = {"calls": int, "seconds": float, "cost_usd?": _NUMBER}
USER_MODEL = {
    "strategy": str,
    "user_id": str,
    "part": str,
    "model": (None, {"text": str, "edited": bool}),
}
CANDIDATE = {"prediction": str, "source": str, "votes": int, "quality?": _NUMBER, "scores?": (None, {...: _NUMBER})}
PREDICTION = {
    "user": str,
    "query": str,
    "gold": (str, None),
    "input?": str,
    "answers": {...: {"predictions": [str], "candidate?": (None, [object])}},
    "pools?": (None, {...: (None, [CANDIDATE])}),
    "records?": (None, {...: (None, [object])}),
    "record_texts?": (None, {...: str}),
}


def read_object(path: pathlib.Path, form: Any) -> dict[str, Any]:
    """A JSON object of a form.

    Raises:
      DataError: there is no such file, or it holds something else; one sentence with file, place and what is expected.
    """
    values = dict(files.read_json(path))
    forms.check(path, values, form)
    return values


def read_results(path: pathlib.Path) -> dict[str, Any]:
    """A `results.json` of HYDRA; errors as `read_object`. Every method has the metrics that the first one has."""
    results = read_object(path, RESULTS)
    metrics = dict.fromkeys(summary.metric_names(results), _INTERVAL)
    known = dict.fromkeys(results["methods"], metrics)
    forms.check(path, results["methods"], known, "methods")
    for metric in metrics:
        forms.check(path, metric, _METRIC, "a metric of methods")
    for i, comparison in enumerate(results["comparisons"]):
        forms.check(path, comparison, {"a": frozenset(known), "metric": frozenset(metrics)}, f"comparisons[{i}]")
    return results


def read_predictions(path: pathlib.Path, form: Any = PREDICTION) -> list[predictions.Row]:
    """The rows of a `predictions.jsonl`; errors as `read_object`."""
    rows = predictions.read(path)
    for number, row in enumerate(rows, start=1):
        forms.check(path, row, form, f"row {number}")
    return rows


def read_lines(path: pathlib.Path, form: Any) -> list[dict[str, Any]]:
    """The rows of a file that lines are appended to; errors as `read_object`, but that it may be missing."""
    rows = files.read_lines(path)
    for number, row in enumerate(rows, start=1):
        forms.check(path, row, form, f"row {number}")
    return rows
