"""What the reports of experiments share: `report.md`, whose tables stand in `results.json` too."""

import importlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import rich.text

from hydrajax import files
from hydrajax.data import tasks
from hydrajax.evaluation import intervals, predictions, summary
from hydrajax.runs import accounts, workbench
from hydrajax.types import Query

Rows = Sequence[Mapping[str, Any]]
Parts = Mapping[str, Mapping[str, Any]]


def part(config: Any, rows: Rows, bench: workbench.Workbench, **facts: Any) -> tuple[Rows, dict[str, Any]]:
    """`results` of one part, with what its LLM was asked."""
    return results(config, rows, {config.part: {**facts, "llm": accounts.llm(bench.llm)}})


def results(config: Any, rows: Rows, parts: Parts) -> tuple[Rows, dict[str, Any]]:
    """What `run.Kind.compute` returns, with the tables of the experiment (`tables` in `reports/NAME.py`).

    Args:
      rows: prediction rows.
      parts: the facts of each part.
    """
    report = importlib.import_module(f"experiments.reports.{config.experiment}")
    return rows, {"experiment": config.experiment, "parts": dict(parts), "tables": report.tables(config, rows, parts)}


def together(
    config: Any, out: pathlib.Path, folders: Sequence[pathlib.Path], of_parts: Sequence[Mapping[str, Any]]
) -> tuple[Rows, dict[str, Any]]:
    """See `run.KindInParts.together`: of runs that return `results`, or of runs of another kind, one a task."""
    rows: list[Mapping[str, Any]] = []
    parts: dict[str, Mapping[str, Any]] = {}
    for folder, found in zip(folders, of_parts, strict=True):
        rows += [{"task": folder.name, **row} for row in predictions.read(folder / "predictions.jsonl")]
        parts |= found.get("parts", {folder.name: found})
    return results(config, rows, parts)


def row(task: tasks.Task, query: Query, texts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """A prediction row: what each method answers to a query, a text a draw."""
    answers = {method: {"predictions": [task.normalise(text) for text in drawn]} for method, drawn in texts.items()}
    return {"task": task.name, "query": query.id, "user": query.user_id, "gold": query.gold, "answers": answers}


def write_report(out: pathlib.Path) -> pathlib.Path:
    """See `run.Kind.write_report`."""
    files.write_text(out / "report.md", files.read_json(out / "results.json")["tables"] + "\n")
    return out / "report.md"


def text_table(results: Mapping[str, Any]) -> rich.text.Text:
    """See `run.Kind.text_table`; Markdown."""
    return rich.text.Text(results["tables"])


def verdicts(results: Mapping[str, Any]) -> Sequence[str]:
    """See `run.Kind.verdicts`: what there is to say stands beside the tables."""
    return ()


def value(measured: intervals.Measured, method: str) -> str:
    """A method on the metric that decides, with its interval; empty where it was not measured."""
    if method not in measured.methods:
        return ""
    metric = measured.metrics[0]
    cell = intervals.interval(measured, method, metric)
    return summary.with_interval(cell.value, cell.low, cell.high, metric)


def difference(measured: intervals.Measured, a: str, b: str, detectable: str = ", {}") -> str:
    """How much better `a` is than `b`, likewise, with the smallest detectable difference."""
    if not {a, b} <= set(measured.methods):
        return ""
    metric = measured.metrics[0]
    cell = intervals.difference(measured, a, b, metric)
    shown = summary.with_interval(cell.value, cell.low, cell.high, metric, signed=True)
    return shown if cell.detectable is None else shown + detectable.format(summary.number(cell.detectable, metric))
