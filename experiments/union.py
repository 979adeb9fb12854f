"""The union of prompt strategies and proposals, every user held out once. A kind of run; see `configs/union.py`.

In each fold shared models, adapters and every choice (what teaches, ridge, own heads or none, the best single source)
come from the training users: their questions, and records of their profiles asked as questions, are answered by models
that have seen neither user nor text. Held-out users are only reported.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

from experiments import data, kinds
from experiments.reports import page
from experiments.reports import union as report
from hydrajax.data import folds
from hydrajax.llm import request
from hydrajax.methods import lab, sampling, settings
from hydrajax.methods.union import proposals, union
from hydrajax.nn import feature_cache
from hydrajax.runs import accounts, workbench

together, write_report, text_table, verdicts = page.together, page.write_report, page.text_table, page.verdicts


def plan(runs: Sequence[tuple[kinds.Union, data.Data]], bench: workbench.Workbench) -> Sequence[accounts.Plan]:
    """See `run.Kind.plan`."""
    for config, asked in runs if bench.llms else ():
        here, of_folds = divided(config.sized(), asked, bench)
        for questions in of_folds:
            union.sample(here, questions, config.strategies, {}, thompson=config.thompson)
    return bench.plans()


def compute(
    config: kinds.Union, asked: data.Data, bench: workbench.Workbench, out: pathlib.Path, clock: accounts.Clock
) -> tuple[page.Rows, dict[str, Any]]:
    """See `run.Kind.compute`. Folds that are finished are not computed again."""
    if not config.ask:
        missing = sum(stage.calls for p in plan([(config, asked)], bench.afresh()) for stage in p.stages.values())
        if missing:
            raise request.LLMError(
                f"the store lacks {missing:,} answers of {bench.llm.model} for {config.part}; --ask calls the LLM"
            )
    here, of_folds = divided(config.sized(), asked, bench)
    known = proposals.Known(task=config.lamp_task, embed=feature_cache.in_memory(bench.embed), seed=config.seed)
    rows_of = functools.partial(compute_fold, config, here, known, bench.encode)
    done = data.of_folds(of_folds, rows_of, out, asked.digest, clock)
    rows = [row for fold in done for row in fold["rows"]]
    return page.part(config, rows, bench, folds=[fold["chosen"] for fold in done])


def divided(config: kinds.Union, asked: data.Data, bench: workbench.Workbench) -> tuple[lab.Lab, list[union.Questions]]:
    """A lab with everybody, and the folds."""
    chosen = dataclasses.replace(
        settings.SMALL,
        pseudo_queries=config.pseudo,
        shown=(max(1, config.shown or 0),),
        candidates=config.candidates,
    )
    here = bench.lab(config.lamp_task, asked.held_out.users, chosen, seed=config.seed)
    can_ask = config.lamp_task.pseudo_query != "paraphrase" or bench.llms
    pseudo = sampling.pseudo_queries(here, tuple(asked.held_out.users)) if can_ask else []
    return here, [
        union.Questions(
            train=part.train,
            new=part.held_out,
            train_pseudo=[query for query in pseudo if query.user_id in part.train.users],
            new_pseudo=[query for query in pseudo if query.user_id in part.held_out.users],
        )
        for part in folds.k_folds(config.lamp_task, (asked.held_out,), folds=config.folds, seed=config.seed)
    ]


def compute_fold(
    config: kinds.Union, here: lab.Lab, known: proposals.Known, encode: workbench.Encode, questions: union.Questions
) -> dict[str, Any]:
    """The rows of a fold, and what its training users chose."""
    result = union.union(
        here,
        questions,
        known,
        encode if config.read_base else union.nothing,
        strategies=config.strategies,
        thompson=config.thompson,
        fits=union.configs(config.losses),
    )
    chosen = {
        "best_source": result.best_source,
        "training": dict(result.training),
        "spread": dict(result.spread),
        "settings": {variant: choice.setting for variant, choice in result.choices.items()},
        "quality": {variant: dict(choice.quality) for variant, choice in result.choices.items()},
    }
    return {"rows": prediction_rows(config, questions, result), "chosen": chosen}


def prediction_rows(config: kinds.Union, questions: union.Questions, result: union.Result) -> list[dict[str, Any]]:
    """Rows for `intervals.measure`; `own` says whose own answers the union's answer is."""
    rows = []
    for i, query in enumerate(questions.new.queries):
        texts = {name: [answers[i]] for name, answers in result.single.items()}
        for by_method in result.answers.values():
            texts |= {method: [draw.text for draw in draws[i]] for method, draws in by_method.items()}
        texts[report.BEST] = texts[result.best_source]
        answer: Any = result.answers["union"]["union"][i][0].chosen
        rows.append(page.row(config.lamp_task, query, texts) | {"own": list(answer.owners)})
    return rows
