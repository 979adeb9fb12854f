"""Every prompt strategy with own and with shuffled profiles. A kind of run; `configs/strategies.py` tells of it."""

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from experiments import data, kinds
from experiments.reports import page
from experiments.reports import strategies as report
from hydrajax import training
from hydrajax.data import folds
from hydrajax.methods import controls, hydra, lab, llm_stages, sampling, selection, settings
from hydrajax.methods.collaborative import learn as collaborative
from hydrajax.prompting import library, registry
from hydrajax.runs import accounts, workbench
from hydrajax.runs import plan as plan_lib
from hydrajax.types import Query

TEACHERS = 40  # training users whose questions `cfrag` learns from
SHOWN = 2  # records, for all strategies alike: so nothing is chosen on anybody
SETTINGS = dataclasses.replace(
    settings.SMALL,
    shown=(SHOWN,),
    prompts=dataclasses.replace(settings.SMALL.prompts, compared_records=2, summary_records=6),
)

together, write_report, text_table, verdicts = page.together, page.write_report, page.text_table, page.verdicts


def plan(runs: Sequence[tuple[kinds.Strategies, data.Data]], bench: workbench.Workbench) -> Sequence[accounts.Plan]:
    """See `run.Kind.plan`."""
    for config, asked in runs:
        names = compared(config, asked)

        def guess(everybody: lab.Lab, people: hydra.People, config=config, names=names) -> lab.Lab:
            return plan_lib.teach(everybody, people, names, lambda: learner(config, bench))[0]

        here = taught(config, asked, make_lab(config, asked, bench), guess)
        answer(here, asked.held_out.queries, names, accounts.Clock(lambda line: None))
    return bench.plans()


def compute(
    config: kinds.Strategies, asked: data.Data, bench: workbench.Workbench, out: pathlib.Path, clock: accounts.Clock
) -> tuple[page.Rows, dict[str, Any]]:
    """See `run.Kind.compute`."""
    here, queries = make_lab(config, asked, bench, out), asked.held_out.queries
    names = compared(config, asked)

    def learn(everybody: lab.Lab, people: hydra.People) -> lab.Lab:
        return collaborative.teach(everybody, people, names, learner(config, bench))

    with clock.stage("learning"):
        here = taught(config, asked, here, learn)
    texts = answer(here, queries, names, clock)
    rows = [
        page.row(config.lamp_task, query, {method: [of_method[i]] for method, of_method in texts.items()})
        for i, query in enumerate(queries)
    ]
    costs = {name: cost(here, name) for name in names}
    left_out = lacking(config, asked)
    return page.part(config, rows, bench, costs=costs, faults=dict(here.ctx.faults), left_out=left_out)


def lacking(config: kinds.Strategies, asked: data.Data) -> dict[str, str]:
    """What the task's data lack that strategies need, by strategy."""
    return registry.lacking(config.compared, config.lamp_task, asked.train.users, SETTINGS.prompts)


def compared(config: kinds.Strategies, asked: data.Data) -> tuple[str, ...]:
    """The strategies that the task's data allow."""
    without = lacking(config, asked)
    return tuple(name for name in config.compared if name not in without)


def make_lab(
    config: kinds.Strategies, asked: data.Data, bench: workbench.Workbench, folder: pathlib.Path | None = None
) -> lab.Lab:
    """A lab whose user models are kept in the run's folder; those of a plan in memory."""
    chosen = dataclasses.replace(SETTINGS, cross_user=config.cross_user)
    users, population = asked.held_out.users, asked.train.users
    return bench.lab(config.lamp_task, users, chosen, seed=config.seed, population=population, folder=folder)


def taught(
    config: kinds.Strategies, asked: data.Data, here: lab.Lab, learn: Callable[[lab.Lab, hydra.People], lab.Lab]
) -> lab.Lab:
    """The lab with what strategies learn of training users, which costs nobody who is asked.

    Args:
      learn: the lab of everybody, who teaches -> the lab with what was learned.
    """
    many = len({query.user_id for query in asked.train.queries}) > TEACHERS
    teachers = folds.subset(asked.train, users=TEACHERS if many else None, queries_per_user=1, seed=config.seed)
    people = hydra.People(
        train=tuple(asked.train.users),
        validation=(),
        new=tuple(here.users),
        label_queries=teachers.queries,
        validation_queries=(),
        new_queries=asked.held_out.queries,
    )
    everybody = dataclasses.replace(here, users={**asked.train.users, **here.users}, ledger={})
    return dataclasses.replace(here, ctx=learn(everybody, people).ctx)


def learner(config: kinds.Strategies, bench: workbench.Workbench) -> selection.ValidatedLearner:
    """What fits rerankers."""
    return selection.ValidatedLearner(bench.encode, [training.FitConfig(seed=config.seed)], **collaborative.FITTED)


def swapped(here: lab.Lab) -> lab.Lab:
    """The same lab, in which everybody has another user's profile and attributes; nothing that it learns is kept."""
    (lent,) = controls.derangements(sorted(here.users), seed=here.seed, n=1)
    users = {user_id: dataclasses.replace(here.users[lent[user_id]], id=user_id) for user_id in here.users}
    ctx = dataclasses.replace(here.ctx, cut=collections.Counter(), faults=collections.Counter())
    return dataclasses.replace(here, ctx=ctx, users=users, library=library.Library(), ledger={})


def answer(
    here: lab.Lab, queries: Sequence[Query], strategies: Sequence[str], clock: accounts.Clock
) -> dict[str, list[str]]:
    """Each strategy's greedy answers to the queries, with own and with shuffled profiles."""
    texts = {}
    other = swapped(here)
    for name in strategies:
        for method, where in ((name, here), (name + report.SHUFFLED, other)):
            if method == "zero_shot" + report.SHUFFLED:
                continue
            with clock.stage(method):
                prompts = sampling.prompts(where, name, queries, SHOWN)
                texts[method] = [answer.text for answer in sampling.answer(where, name, prompts, stage=name)]
    return texts


def cost(here: lab.Lab, strategy: str) -> dict[str, float]:
    """Mean calls and tokens of a user, answers from the store included."""
    needed = (llm_stages.learned(strategy, "whole"), llm_stages.notes(strategy), strategy)
    entries = [here.ledger.get((stage, user_id)) for stage in needed for user_id in here.users]
    return {
        kind: sum(entry[kind] for entry in entries if entry) / len(here.users)
        for kind in ("calls", "input_tokens", "output_tokens")
    }
