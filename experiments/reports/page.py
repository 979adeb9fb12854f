"""What the reports of experiments share: `report.md`, whose tables stand in `results.json` too."""

import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import rich.text

from hydrajax import files
from hydrajax.data import tasks
from hydrajax.evaluation import intervals, predictions, summary
from hydrajax.types import Query

Rows = Sequence[Mapping[str, Any]]
Parts = Mapping[str, Mapping[str, Any]]
Tables = Callable[[Any, Rows, Parts], str]


def results(tables: Tables, config: Any, rows: Rows, parts: Parts) -> tuple[Rows, dict[str, Any]]:
    """What `run.Kind.compute` returns, of prediction rows and the facts of each part."""
    return rows, {"experiment": config.experiment, "parts": dict(parts), "tables": tables(config, rows, parts)}


def make_together(tables: Tables) -> Callable[..., tuple[Rows, dict[str, Any]]]:
    """`run.KindInParts.together` of experiments whose parts return `results`."""

    def together(
        config: Any, out: pathlib.Path, folders: Sequence[pathlib.Path], of_parts: Sequence[Mapping[str, Any]]
    ) -> tuple[Rows, dict[str, Any]]:
        rows = [row for folder in folders for row in predictions.read(folder / "predictions.jsonl")]
        return results(tables, config, rows, {name: part for one in of_parts for name, part in one["parts"].items()})

    return together


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


def table(columns: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """The lines of a Markdown table; rows without any cell are left out."""
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return lines + [f"| {name} | {' | '.join(cells)} |" for name, cells in rows if any(cells)]


def value(measured: intervals.Measured, method: str) -> str:
    """A method on the metric that decides, with its interval; empty where it was not measured."""
    if method not in measured.methods:
        return ""
    metric = measured.metrics[0]
    cell = intervals.interval(measured, method, metric)
    return f"{summary.number(cell.value, metric)} {summary.span(cell.low, cell.high, metric)}".rstrip()


def difference(measured: intervals.Measured, a: str, b: str, detectable: str = ", {}") -> str:
    """How much better `a` is than `b`, likewise, with the smallest detectable difference."""
    if not {a, b} <= set(measured.methods):
        return ""
    metric = measured.metrics[0]
    cell = intervals.difference(measured, a, b, metric)
    shown = summary.number(cell.value, metric, signed=True)
    if cell.detectable is None:
        return shown
    span = summary.span(cell.low, cell.high, metric, signed=True)
    return f"{shown} {span}{detectable.format(summary.number(cell.detectable, metric))}"
