"""HYDRA with all baselines and controls, on LaMP, on a task of one's own, or on simulated users: a kind of run."""

import dataclasses
import functools
import logging
import pathlib
from collections.abc import Sequence
from typing import Any

from hydrajax import files
from hydrajax.data import folds
from hydrajax.evaluation import predictions, results, summary
from hydrajax.evaluation.report import page
from hydrajax.methods import baselines, comparison, hydra, scorers, selection, telling
from hydrajax.methods import lab as lab_lib
from hydrajax.methods.collaborative import learn as collaborative
from hydrajax.nn import family_checks, heads
from hydrajax.runs import accounts, compare, encoder, finished, load, saved, training_plan, workbench
from hydrajax.runs import plan as plan_lib
from hydrajax.runs.config import RunConfig
from hydrajax.runs.run import Rows

_log = logging.getLogger(__name__)
EXACT = "every answer that the reranker learns from is stored: it is trained, so that the count is exact"

write_report, text_table, verdicts = page.write_report, summary.text_table, summary.verdicts


def compute(
    config: RunConfig, data: load.Data, bench: workbench.Workbench, out: pathlib.Path, clock: accounts.Clock
) -> tuple[Rows, dict[str, Any]]:
    """See `run.Kind.compute`."""
    _check_families(config, bench.encode([]).shape[1])
    lab = _lab(config, data, bench, out)
    people = people_of(config, data)
    learns = _learner(config, bench, out / finished.CHECKPOINTS)
    with clock.stage("prompt baselines"):
        lab = collaborative.teach(lab, people, strategies(config, data), learns)
        prompts = {
            name: baselines.answer(lab, name, people.validation_queries, people.asked)
            for name in strategies(config, data)
        }
    with clock.stage("hydra"):
        result = hydra.hydra(lab, learns, people, prompts["rag"].k)
    with clock.stage("controls"):
        compared = comparison.compare(lab, people, prompts, result, (data.train, data.validation), bench.embed)
        rows = compare.rows(lab, compared)
    reranker, adapter = map(learns.with_training_users, saved.SCORERS)
    saved.save(out / "scorers", hydra.System(reranker=reranker, adapter=adapter, k=result.system.k))
    curves = {
        name: {stage: [[i + 1, v] for i, v in enumerate(curve) if v == v] for stage, curve in choice.curves.items()}
        for name, choice in learns.choices.items()
    }
    files.write_json(out / "curves.json", curves)
    files.write_json(out / "choices.json", _choices(prompts, learns, compared, lab, data, people, result.system))
    return rows, results.build(
        data.task,
        rows,
        experiment=config.experiment,
        split=config.split,
        llm=accounts.llm(bench.llm),
        best_source=compared.best_source,
        best_prompt=compared.best_prompt,
        new_user=accounts.new_user(lab, people.new),
        seconds=clock.seconds,
        seed=config.seed,
    )


def together(
    config: RunConfig, out: pathlib.Path, folders: Sequence[pathlib.Path], parts: Sequence[dict[str, Any]]
) -> tuple[Rows, dict[str, Any]]:
    """See `run.Kind.together`: one report over the users of all folds, each of whom was held out once."""
    rows = [row for path in folders for row in predictions.read(path / "predictions.jsonl")]
    curves = {path.name: files.read_json(path / "curves.json") for path in folders}
    plots = {f"{fold}: {name}": plot for fold, by_name in curves.items() for name, plot in by_name.items()}
    files.write_json(out / "curves.json", plots)
    files.write_json(
        out / "choices.json", {path.name: dict(files.read_json(path / "choices.json")) for path in folders}
    )
    return rows, results.build(
        load.task(config),
        rows,
        experiment=config.experiment,
        split=config.split,
        llm=accounts.summed([part["llm"] for part in parts]),
        # Every user is reported, so nobody is left on whom a best source could be chosen.
        new_user={
            method: accounts.averaged([part["new_user"][method] for part in parts]) for method in parts[0]["new_user"]
        },
        seconds=accounts.summed([part["seconds"] for part in parts]),
        seed=config.seed,
    )


def plan(runs: Sequence[tuple[RunConfig, load.Data]], bench: workbench.Workbench) -> Sequence[accounts.Plan]:
    """See `run.Kind.plan`.

    What the answers will decide is guessed until they are there: which number of records validation users choose (the
    middle one is counted) and which records a reranker prefers. The least and the most are told apart. A base that is
    trained is never trained for it.
    """
    first, data = runs[0]
    if (width := encoder.width(first.encoder)) is not None:
        _check_families(first, width)
    said: set[str] = set()
    fits: list[training_plan.Fit] = []

    def learner(config: RunConfig, counting: workbench.Workbench) -> selection.ValidatedLearner | None:
        if config.train_base:
            return None
        if EXACT not in said:
            _log.info(EXACT)
            said.add(EXACT)
        return _learner(config, counting, None)

    def count(
        counting: workbench.Workbench, guess_k: plan_lib.GuessK = plan_lib.middle, keeps: int = plan_lib.KEEPS
    ) -> accounts.Plan:
        fits.clear()
        for config, data in runs:
            guessing = plan_lib.ask(
                _lab(config, data, counting),
                people_of(config, data),
                strategies(config, data),
                (data.train, data.validation),
                functools.partial(learner, config, counting),
                guess_k,
                keeps,
            )
            if config.train_base:
                fits.extend(training_plan.fits(config, guessing.taught, guessing.cross_fitted))
        (planned,) = counting.plans()
        return planned

    planned = count(bench)
    asking_on = tuple(name for name in strategies(first, data) if name in plan_lib.ASKING_ON)
    if first.train_base:
        planned = dataclasses.replace(planned, training=training_plan.training(first, fits))
    if planned.calls[0] > 0:
        with telling.silent():  # of what was told when the first one was counted
            ends = [planned, count(bench.afresh(), min, 1), count(bench.afresh(), max, 0)]
        calls, tokens = ([getattr(one, name)[0] for one in ends] for name in ("calls", "tokens"))
        planned = dataclasses.replace(
            planned, calls=(min(calls), max(calls)), tokens=(min(tokens), max(tokens)), asking_on=asking_on
        )
    return [planned]


def strategies(config: RunConfig, data: load.Data) -> tuple[str, ...]:
    """The prompt strategies that a run compares."""
    return tuple(dict.fromkeys((*baselines.STRATEGIES, *load.strategies(config, data))))


def people_of(config: RunConfig, data: load.Data) -> hydra.People:
    """Training, validation and new users with what they are asked."""
    labelled = data.train.queries
    if config.settings.label_queries is not None:
        labelled = folds.subset(
            data.train, users=None, queries_per_user=config.settings.label_queries, seed=config.seed
        ).queries
    return hydra.People(
        train=tuple(data.train.users),
        validation=tuple(data.validation.users),
        new=tuple(data.dev.users),
        label_queries=labelled,
        validation_queries=data.validation.queries,
        new_queries=data.dev.queries,
        feedback=data.feedback,
    )


def _lab(
    config: RunConfig, data: load.Data, bench: workbench.Workbench, folder: pathlib.Path | None = None
) -> lab_lib.Lab:
    return bench.lab(
        data.task,
        data.users,
        dataclasses.replace(config.settings, strategies=load.strategies(config, data)),
        seed=config.seed,
        population=data.train.users,
        reward=data.reward,
        folder=folder,
    )


def _learner(config: RunConfig, bench: workbench.Workbench, folder: pathlib.Path | None) -> selection.ValidatedLearner:
    adapter = dataclasses.replace(config.fit, family=config.adapter_family or config.scorer.family, seed=config.seed)
    return selection.ValidatedLearner(
        bench.encode,
        [dataclasses.replace(adapter, loss=loss) for loss in config.losses],
        families={
            "reranker": config.reranker_family or config.scorer.family,
            **collaborative.FITTED["families"],
        },
        losses=collaborative.FITTED["losses"],
        epochs=config.epochs,
        folder=folder,
    )


def _check_families(config: RunConfig, features: int) -> None:
    """Refuses a head family that breaks its contract, before anybody is asked."""
    for family, extras in ((config.reranker_family, 0), (config.adapter_family, 1)):
        family_checks.check(family or config.scorer.family, heads.Dims(features=features, extras=extras))


def _choices(prompts, learns, compared, lab, data, people, system) -> dict[str, Any]:
    """What validation users chose, and what was cut: enough to see why the run looks as it does."""
    untaught = [name for name in ("reranker", "adapter") if isinstance(getattr(system, name), scorers.Untrained)]
    if collaborative.STRATEGY in lab.ctx.taught and collaborative.RERANKER not in learns.choices:
        untaught.append(collaborative.RERANKER)
    return {
        "validation_users": len(people.validation),
        "validation_queries": len(people.validation_queries),
        "shown": {
            name: {"k": prompt.k, "quality": {str(k): v for k, v in prompt.validation.items()}}
            for name, prompt in prompts.items()
        },
        "scorers": {
            name: {
                "family": choice.family,
                "loss": choice.loss,
                "epochs": choice.epochs,
                "quality": choice.quality,
                "pools": choice.pools,
            }
            for name, choice in learns.choices.items()
        },
        "single_sources": compared.validation,
        "best_source": compared.best_source,
        "best_prompt": compared.best_prompt,
        "union": compared.union,
        "cut_from_records": dict(lab.ctx.cut),
        "faults": dict(lab.ctx.faults),
        "skipped": list(data.skipped),
        "notes": [*data.notes, *map(selection.untaught, untaught)],
        "removed": None if data.removed is None else dataclasses.asdict(data.removed),
    }
