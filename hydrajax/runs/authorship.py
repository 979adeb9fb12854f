"""HyPerAlign's authorship task: authors, strategies, a judge, win rates. A kind of run."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hydrajax.data import authorship
from hydrajax.evaluation.authorship import classifier as authorship_classifier
from hydrajax.evaluation.authorship import judges, report
from hydrajax.evaluation.authorship import results as results_lib
from hydrajax.llm import models
from hydrajax.methods import controls, hyperalign, shuffled
from hydrajax.methods import lab as lab_lib
from hydrajax.methods import settings as settings_lib
from hydrajax.runs import accounts, workbench
from hydrajax.runs import plan as plan_lib
from hydrajax.runs.authorship_config import Authorship
from hydrajax.runs.run import Rows
from hydrajax.types import Query

SHOWN_AUTHORS = 3  # whose user models stand in the report

write_report, text_table, verdicts = report.write_report, report.text_table, report.verdicts


def compute(
    config: Authorship,
    data: authorship.Authorship,
    bench: workbench.Workbench,
    out: pathlib.Path,
    clock: accounts.Clock,
) -> tuple[Rows, dict[str, Any]]:
    """See `run.Kind.compute`."""
    lab = _lab(config, data, bench, out)
    with clock.stage("texts"):
        rows = _rows(config, data, lab)
    with clock.stage("judge"):
        facts = _judged(config, data, bench, rows)
    return rows, _results(config, data, lab, rows, facts, bench.llms, clock)


def plan(
    runs: Sequence[tuple[Authorship, authorship.Authorship]], bench: workbench.Workbench
) -> Sequence[accounts.Plan]:
    """See `run.Kind.plan`."""
    for config, data in runs:
        lab = dataclasses.replace(_lab(config, data, bench), strategy=plan_lib.strategy)
        rows = _rows(config, data, lab)
        if config.judge == "llm":
            _judged(config, data, bench, rows)
    return bench.plans()


def _lab(
    config: Authorship, data: authorship.Authorship, bench: workbench.Workbench, folder: pathlib.Path | None = None
) -> lab_lib.Lab:
    settings = settings_lib.Settings(
        retrieved=config.shown,
        shown=(config.shown,),
        temperature=config.temperature,
        prompts=config.prompts,
        cross_user=config.cross_user,
    )
    return bench.lab(authorship.TASK, data.users, settings, seed=config.seed, population=data.users, folder=folder)


def _rows(config: Authorship, data: authorship.Authorship, lab: lab_lib.Lab) -> list[results_lib.Row]:
    """Every contestant's texts for the test queries, without the sentence that they start with."""
    (lender,) = controls.derangements(tuple(data.users), seed=config.seed, n=1)
    texts: dict[str, Mapping[str, Sequence[str]]] = {}
    for strategy in config.compared:
        texts[strategy] = hyperalign.hyperalign(lab, data.test, strategy=strategy, samples=config.samples)
    for strategy in shuffled.personal(config.compared):
        name = shuffled.name(strategy)
        written: dict[str, list[str]] = {}
        for apart, queries in shuffled.apart(strategy, lab, data.test):
            lent = shuffled.lent(queries, lender)
            written |= hyperalign.hyperalign(apart, lent, strategy=strategy, samples=config.control_samples, stage=name)
        texts[name] = written
    real = _golds(data.test)
    return [_row(query, texts, real, lender, lab) for query in data.test]


def _row(query: Query, texts, real, lender, lab: lab_lib.Lab) -> results_lib.Row:
    first = query.inputs["first_sentence"]
    place = [text for author, text in real if author == query.user_id].index(query.gold)
    rivals = [text for author, text in real if author == lender[query.user_id]]
    written = {
        name: [authorship.without_first_sentence(text, first) for text in by_query[query.id]]
        for name, by_query in texts.items()
    }
    return {
        "query": query.id,
        "user": query.user_id,
        "input": first,
        "gold": query.gold,
        "shown": [record.fields["text"] for record in lab.users[query.user_id].profile],
        "texts": written
        | {results_lib.THE_AUTHOR: [query.gold], results_lib.ANOTHER_AUTHOR: [rivals[place % len(rivals)]]},
    }


def _judged(config, data: authorship.Authorship, bench: workbench.Workbench, rows) -> dict[str, Any]:
    """Wins in the rows, and what is known of the judge. An LLM knows the validation texts: it judges the others."""
    if config.judge == "llm":
        llm = bench.last_llm()
        known = {author: text for author, text in reversed(_golds(data.validation))}
        temperature = 0.0 if models.find(llm.model).temperature else None
        judge = judges.LlmJudge(llm, known, temperature=temperature, words=config.judge_words)
        results_lib.judge_rows(judge, rows, config.compared, limit=config.judge_words)
        return results_lib.judge_facts(judge, rows, real=_golds(data.test), others=1, seed=config.seed)
    unseen = {author: texts[: config.judge_texts] for author, texts in data.unseen.items()}
    fitted = authorship_classifier.fit(unseen, embed=bench.embed, chunk_words=config.judge_words, seed=config.seed)
    by_words = judges.ClassifierJudge(fitted)
    results_lib.judge_rows(by_words, rows, config.compared, limit=config.judge_words)
    real = [*_golds(data.test), *_golds(data.validation)]
    features = np.asarray(bench.embed([text for _, text in real]), np.float64)
    facts = results_lib.judge_facts(by_words, rows, real=real, features=features, by_words=True, seed=config.seed)
    return facts | {
        "cross_validation": fitted.accuracy,
        "weight_of_ngrams": fitted.weight,
        "training_texts": len(fitted.ngrams.out_of_fold),
    }


def _golds(queries: Sequence[Query]) -> list[tuple[str, str]]:
    return [(query.user_id, query.gold) for query in queries if query.gold is not None]


def _results(config, data: authorship.Authorship, lab, rows, facts, llms, clock) -> dict[str, Any]:
    rates = results_lib.win_rates(rows, seed=config.seed)
    first = list(data.users)[:SHOWN_AUTHORS]
    models_of: dict[str, dict[str, str]] = {author: {} for author in first}
    for key, model in lab.library.items():
        if key.user_id in models_of:
            models_of[key.user_id][key.strategy] = model.text
    return {
        "experiment": config.experiment,
        "task": authorship.TASK.name,
        "split": "test",
        "users": len(data.users),
        "queries": len(rows),
        "llm": accounts.llm(llms[0]),
        "judge_llm": None if len(llms) == 1 else accounts.llm(llms[1]),
        "judge": facts | {"llm": llms[-1].model if config.judge == "llm" else None},
        "win_rates": rates,
        "personal": results_lib.personal(rates),
        **results_lib.lengths_and_copies(rows),
        "user_models": models_of,
        "near_duplicates": data.near_duplicates,
        "notes": list(data.notes),
        "faults": dict(lab.ctx.faults),
        "cut": dict(lab.ctx.cut),
        "seconds": dict(clock.seconds),
    }
