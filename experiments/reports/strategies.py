"""The tables of `strategies`."""

from collections.abc import Mapping

from experiments import kinds
from experiments.reports import page
from hydrajax.data import tasks
from hydrajax.evaluation import intervals, summary

SHUFFLED = " (another user's profile)"
COLUMNS = ("strategy", "own profile", "own − shuffled (smallest detectable)", "personal", "calls", "tokens in / out")


def tables(config: kinds.Strategies, rows: page.Rows, parts: page.Parts) -> str:
    """For each task, by strategy the metric, its difference to the shuffled profile, and the cost of a user."""
    lines = []
    for name in config.tasks:
        task, part = tasks.LAMP[name], parts[name]
        metric = task.metrics[0]
        measured = intervals.measure(task, [row for row in rows if row["task"] == name], seed=config.seed)
        title = f"{name}: {summary.title(metric)}, {len(measured.users)} users, {measured.queries} questions"
        costs = part["costs"]
        lines += ["", f"### {title}", ""]
        lines += page.table(COLUMNS, ((f"`{s}`", _cells(measured, s, costs[s])) for s in config.compared))
        lines += [f"\n{what}: {count}" for what, count in sorted(part["faults"].items())]
    return "\n".join(lines)


def _cells(measured: intervals.Measured, strategy: str, cost: Mapping[str, float]) -> list[str]:
    metric = measured.metrics[0]
    own = intervals.interval(measured, strategy, metric)
    cells = [f"{summary.number(own.value, metric)} {summary.span(own.low, own.high, metric)}", "", ""]
    if strategy + SHUFFLED in measured.methods:
        gap = intervals.difference(measured, strategy, strategy + SHUFFLED, metric)
        span = summary.span(gap.low, gap.high, metric, signed=True)
        least = "" if gap.detectable is None else f" ({summary.number(gap.detectable, metric)})"
        cells[1] = f"{summary.number(gap.value, metric, signed=True)} {span}{least}"
        cells[2] = "yes" if gap.low is not None and gap.low > 0 else "not shown"
    return [*cells, f"{cost['calls']:.1f}", f"{cost['input_tokens']:,.0f} / {cost['output_tokens']:,.0f}"]
