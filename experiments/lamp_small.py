"""HYDRA on six LaMP tasks with the embedded 135M LLM: every method and control, with intervals over users.

Source    HYDRA (Zhuang et al., NeurIPS 2024), LaMP (Salemi et al., ACL 2024); sizes cut to what a laptop pays in hours.
Command   python -m experiments.lamp_small --data-dir DIR        (DIR/LaMP_2N/train_questions.json, ...)
          python -m experiments.lamp_small --data-dir DIR --tasks LaMP_7 --plan
Expected  the table of the README; answers are random, so a new store gives other numbers inside the intervals.
Cost      11,000 to 15,000 calls of the embedded LLM, 2 to 3 hours on 2 cores; nothing in money. A killed run goes on
          with the same command, and answers are paid for once.
Smoke     python -m experiments.lamp_small --data-dir DIR --tasks LaMP_7 --smoke       (seconds, a scripted LLM)
"""

import dataclasses
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import tyro

from hydrajax.evaluation import summary
from hydrajax.methods import settings
from hydrajax.runs import config, run
from hydrajax.runs.machine import Machine

# Task -> training users, new users, questions of each at most.
SIZES: Mapping[str, tuple[int, int, int]] = {
    "LaMP_2N": (40, 25, 2),
    "LaMP_2M": (40, 25, 1),
    "LaMP_3": (40, 25, 2),
    "LaMP_4": (40, 25, 1),
    "LaMP_5": (25, 20, 1),
    "LaMP_7": (25, 20, 1),
}
SMOKE_SIZE = (8, 4, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Six LaMP tasks with the embedded LLM."""

    data_dir: str
    """Folder with TASK/{train,dev}_{questions,outputs}.json."""
    tasks: tuple[str, ...] = tuple(SIZES)
    """Which tasks."""
    llm: str = "local"
    """`local` or a GGUF file."""
    out: pathlib.Path = pathlib.Path("runs/lamp_small")
    """Holds one run folder a task."""
    store: str | None = None
    """File of the LLM's answers."""
    seed: int = 0
    """Of every draw."""
    plan: bool = False
    """Print the calls of each task, and call nothing."""
    smoke: bool = False
    """A few users and a scripted LLM: shows that everything runs, says nothing of quality."""


def run_config(task: str, options: Options) -> config.Lamp:
    """The configuration of one task."""
    train_users, dev_users, queries = SMOKE_SIZE if options.smoke else SIZES[task]
    return config.Lamp(
        task=task,
        data_dir=options.data_dir,
        train_users=train_users,
        dev_users=dev_users,
        queries_per_user=queries,
        llm="scripted" if options.smoke else options.llm,
        settings=settings.SMALL,
        losses=("pairwise",) if options.smoke else ("cross_entropy", "pairwise"),
        epochs=(0, 2) if options.smoke else config.Lamp(task=task).epochs,
        seed=options.seed,
    ).resolved()


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The deciding metric of every task and method with its 95 % interval, as a Markdown table."""
    tasks = list(found)
    metric = {task: summary.metric_names(found[task])[0] for task in tasks}
    methods = dict.fromkeys(method for results in found.values() for method in results["methods"])
    lines = [
        "| method | " + " | ".join(f"{task} {summary.title(metric[task])}" for task in tasks) + " |",
        "|---|" + "---|" * len(tasks),
    ]
    for method in methods:
        cells = []
        for task in tasks:
            cell = found[task]["methods"].get(method, {}).get(metric[task])
            if cell is None:
                cells.append("")
                continue
            span = summary.span(cell["low"], cell["high"], metric[task])
            cells.append(f"{summary.number(cell['value'], metric[task])} {span}")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(options: Options) -> None:
    """Runs the tasks one after another and prints the table."""
    machine = Machine(store=options.store)
    found = {}
    for task in options.tasks:
        if task not in SIZES:
            raise SystemExit(f"unknown task {task!r}; valid are {', '.join(SIZES)}")
        wanted = run_config(task, options)
        if options.plan:
            (plan,) = run.plan(wanted, machine=machine)
            calls = sum(stage.calls for stage in plan.stages.values())
            print(f"{task}: {calls:,} calls, about {plan.seconds / 60:.0f} min")
            continue
        print(task, file=sys.stderr)
        command = f"python -m experiments.lamp_small --tasks {task} --data-dir DIR"
        found[task] = run.run(
            wanted, options.out / task, command=command, machine=machine, say=lambda line: print(line, file=sys.stderr)
        )
    if found:
        print(table(found))


if __name__ == "__main__":
    main(tyro.cli(Options))
