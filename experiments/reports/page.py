"""What the reports of experiments share: `report.md`, whose tables stand in `results.json` too."""

import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import rich.text

from hydrajax import files
from hydrajax.evaluation import predictions

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
