"""HYDRA on several tasks of LaMP: a kind of run whose parts are runs of HYDRA. `configs/lamp_small.py` tells of it."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import kinds
from experiments.reports import lamp_small as report
from experiments.reports import page
from hydrajax.evaluation import predictions
from hydrajax.runs import lamp

compute, plan = lamp.compute, lamp.plan
write_report, text_table, verdicts = page.write_report, page.text_table, page.verdicts


def together(
    config: kinds.LampSmall,
    out: pathlib.Path,
    folders: Sequence[pathlib.Path],
    results: Sequence[Mapping[str, Any]],
) -> tuple[page.Rows, dict[str, Any]]:
    """See `run.KindInParts.together`."""
    tasks = [folder.name for folder in folders]
    rows = [
        {"task": task, **row}
        for task, folder in zip(tasks, folders, strict=True)
        for row in predictions.read(folder / "predictions.jsonl")
    ]
    return page.results(lambda *run: report.table(run[-1]), config, rows, dict(zip(tasks, results, strict=True)))
