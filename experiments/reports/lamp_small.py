"""The table of `lamp_small`: every method on the deciding metric of each task."""

from experiments.reports import page
from hydrajax.evaluation import summary


def table(parts: page.Parts) -> str:
    """Markdown with 95 % intervals, of the `results.json` of each task."""
    metric = {task: summary.metric_names(part)[0] for task, part in parts.items()}
    cells: dict[str, dict[str, str]] = {}
    for task, part in parts.items():
        for method, values in part["methods"].items():
            cell = values[metric[task]]
            number = summary.number(cell["value"], metric[task])
            cells.setdefault(method, {})[task] = f"{number} {summary.span(cell['low'], cell['high'], metric[task])}"
    columns = ["method", *(f"{task} {summary.title(metric[task])}" for task in parts)]
    return "\n".join(
        page.table(columns, ((method, [by_task.get(task, "") for task in parts]) for method, by_task in cells.items()))
    )
