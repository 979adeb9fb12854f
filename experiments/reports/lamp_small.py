"""The table of `lamp_small`: every method on the deciding metric of each task."""

from experiments import kinds
from experiments.reports import page
from hydrajax.evaluation import summary
from hydrajax.evaluation.report import tables as markdown_tables


def tables(config: kinds.LampSmall, rows: page.Rows, parts: page.Parts) -> str:
    """Markdown with 95 % intervals, of the `results.json` of each task."""
    metric = {task: summary.metric_names(part)[0] for task, part in parts.items()}
    cells: dict[str, dict[str, str]] = {}
    for task, part in parts.items():
        for method, values in part["methods"].items():
            cell = values[metric[task]]
            shown = summary.with_interval(cell["value"], cell["low"], cell["high"], metric[task])
            cells.setdefault(method, {})[task] = shown
    heads = ["method", *(f"{task} {summary.title(metric[task])}" for task in parts)]
    lines = ([method, *(by_task.get(task, "") for task in parts)] for method, by_task in cells.items())
    return markdown_tables.markdown(heads, lines)
