"""The tables of `strategies`."""

from collections.abc import Mapping

from experiments import kinds
from experiments.reports import page
from hydrajax.data import tasks
from hydrajax.evaluation import intervals, summary
from hydrajax.evaluation.report import tables as markdown_tables

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
        cells = ((f"`{s}`", *_cells(measured, s, costs[s])) for s in config.compared if s in costs)
        lines += [markdown_tables.markdown(COLUMNS, cells)]
        lines += [f"\n`{s}` {why}: left out" for s, why in part.get("left_out", {}).items()]
        lines += [f"\n{what}: {count}" for what, count in sorted(part["faults"].items())]
    return "\n".join(lines)


def _cells(measured: intervals.Measured, strategy: str, cost: Mapping[str, float]) -> list[str]:
    shuffled, metric = strategy + SHUFFLED, measured.metrics[0]
    personal = ""
    if shuffled in measured.methods:
        gap = intervals.difference(measured, strategy, shuffled, metric)
        personal = "yes" if gap.low is not None and gap.low > 0 else "not shown"
    own, difference = page.value(measured, strategy), page.difference(measured, strategy, shuffled, " ({})")
    tokens = f"{cost['input_tokens']:,.0f} / {cost['output_tokens']:,.0f}"
    return [own, difference, personal, f"{cost['calls']:.1f}", tokens]
