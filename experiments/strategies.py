"""Every prompt strategy on LaMP tasks, and whether what it shows of the user is personal at all.

Each strategy answers the dev users' questions twice: with the user's own profile, and with another user's (a
derangement). One that does not beat its own shuffled profile may format answers well, but knows nothing of the user.
Records shown: two, for all strategies alike, so nothing is chosen on anybody.

Source    the strategies of `hydrajax.prompting`, each with its paper; LaMP (Salemi et al., ACL 2024).
Command   python -m experiments.strategies --data-dir DIR        (DIR/LaMP_2M/dev_questions.json, ...)
          python -m experiments.strategies --data-dir DIR --plan
Expected  the table of the README; answers are random, so a new store gives other numbers inside the intervals.
Cost      about 4,000 calls of the embedded LLM, 70 minutes on 2 cores; nothing in money. A killed run goes on with the
          same command, and answers are paid for once.
Smoke     python -m experiments.strategies --data-dir DIR --tasks LaMP_7 --smoke         (seconds, a scripted LLM)

A task's folder belongs to one LLM, one seed and one draw of users (`settings.json`); another one is refused there. What
the smoke size writes goes into a folder of its own.
"""

import collections
import dataclasses
import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tyro

from experiments import _mains
from hydrajax import files
from hydrajax.data import folds, lamp, tasks
from hydrajax.evaluation import intervals, summary
from hydrajax.llm import planner, sampler, store
from hydrajax.methods import controls, lab, sampling, settings, stages
from hydrajax.nn import feature_cache
from hydrajax.prompting import contract, library, registry
from hydrajax.runs import config, workbench
from hydrajax.runs.machine import Machine
from hydrajax.types import DataError, Query, Split, User

SHOWN = 2
SHUFFLED = " (another user's profile)"
SETTINGS = dataclasses.replace(
    settings.SMALL,
    shown=(SHOWN,),
    prompts=contract.PromptSettings(max_record_tokens=80, compared_records=2, summary_records=6),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Every prompt strategy, with own and with shuffled profiles."""

    data_dir: str
    """Folder with TASK/{train,dev}_{questions,outputs}.json."""
    tasks: tuple[str, ...] = ("LaMP_2M", "LaMP_2N", "LaMP_4", "LaMP_7")
    """Which tasks."""
    strategies: tuple[str, ...] = tuple(name for name in registry.names() if name != "hypothesis_bank")
    """Which strategies; hypothesis_bank, whose trials are as many calls as all the others together, only by name."""
    users: int = 20
    """Dev users of each task, with a question each."""
    cross_user: bool = True
    """Whether strategies that compare users run at all; they look at training users' records."""
    llm: str = "local"
    """`local`, a GGUF file, or a Claude model."""
    store: str | None = None
    """File of the LLM's answers."""
    cache: str | None = None
    """Folder of base features."""
    out: pathlib.Path = pathlib.Path("runs/strategies")
    """One folder a task: predictions, costs, and what was learned of users; with `smoke` in its folder `smoke`."""
    seed: int = 0
    """Of the draws of users and records, and of the derangement."""
    plan: bool = False
    """Print the calls of each task, and call nothing."""
    report: bool = False
    """Print the tables of what `out` holds, and compute nothing."""
    smoke: bool = False
    """A few users and a scripted LLM: shows that everything runs, says nothing of quality."""

    @property
    def asked(self) -> str:
        """The LLM that is asked."""
        return "scripted" if self.smoke else self.llm

    def folder(self, task_name: str) -> pathlib.Path:
        """Of a task."""
        return (self.out / "smoke" if self.smoke else self.out) / task_name

    def check(self) -> None:
        """Refuses what cannot be run.

        Raises:
          DataError: a task or strategy that there is not, a number that there cannot be, a folder nobody can write.
        """
        _mains.check_tasks(self.tasks)
        _mains.check_numbers(self, users=1, seed=0)
        if not self.chosen():
            raise DataError("no strategy is left to run; give --strategies, or --cross-user")
        if not self.plan and not self.report:
            _mains.check_out(self.out)

    def chosen(self) -> tuple[str, ...]:
        """The strategies that run."""
        return registry.permitted(self.strategies, cross_user=self.cross_user)


def read(task: tasks.Task, options: Options) -> tuple[Split, Split]:
    """All training users, and the drawn dev users, cleaned of what these are asked."""
    folder = pathlib.Path(options.data_dir) / task.name
    (train, _), (dev, _) = (lamp.read_split(folder, task, name) for name in ("train", "dev"))
    drawn = folds.subset(dev, users=6 if options.smoke else options.users, queries_per_user=1, seed=options.seed)
    fold = folds.hold_out(task, train, drawn)
    return fold.train, fold.held_out


def bench(
    task: tasks.Task, train: Split, users: Mapping[str, User], options: Options, llm: sampler.Sampler, embed: Any
) -> lab.Lab:
    """A lab whose user models are kept in the task's folder; those of a plan in memory."""
    keep = None if isinstance(llm, planner.Planner) else options.folder(task.name) / library.FILE
    ctx = contract.Context(
        task=task,
        llm=llm,
        settings=SETTINGS.prompts,
        population=train.users if options.cross_user else None,
        embed=embed,
        seed=options.seed,
    )
    return lab.Lab(ctx=ctx, users=users, settings=SETTINGS, seed=options.seed, library=library.Library(keep))


def swapped(here: lab.Lab, options: Options) -> lab.Lab:
    """The same lab, in which everybody has another user's profile; nothing that it learns is kept."""
    (lent,) = controls.derangements(sorted(here.users), seed=options.seed, n=1)
    users = {user_id: User(id=user_id, profile=here.users[lent[user_id]].profile) for user_id in here.users}
    ctx = dataclasses.replace(here.ctx, cut=collections.Counter(), faults=collections.Counter())
    return dataclasses.replace(here, ctx=ctx, users=users, library=library.Library(), ledger={})


Answers = dict[str, dict[str, str]]


def answer(here: lab.Lab, queries: Sequence[Query], options: Options) -> Answers:
    """Each strategy's greedy answers by query id, with own and with shuffled profiles."""
    found: Answers = {}
    other = swapped(here, options)
    for name in options.chosen():
        for method, where in ((name, here), (name + SHUFFLED, other)):
            if method == "zero_shot" + SHUFFLED:
                continue
            _say(f"{here.ctx.task.name}: {method}")
            prompts = sampling.prompts(where, name, queries, SHOWN)
            answers = sampling.answer(where, name, prompts, stage=name)
            found[method] = {answer.query.id: answer.text for answer in answers}
    return found


def costs(here: lab.Lab, strategies: Iterable[str]) -> dict[str, dict[str, float]]:
    """Mean calls and tokens of a user, answers from the store included, by strategy."""
    found = {}
    for name in strategies:
        needed = (stages.learned(name, "whole"), stages.notes(name), name)
        spent = [here.ledger.get((stage, user_id), {}) for stage in needed for user_id in here.users]
        found[name] = {
            kind: sum(entry.get(kind, 0) for entry in spent) / len(here.users)
            for kind in ("calls", "input_tokens", "output_tokens")
        }
    return found


def claim(task_name: str, options: Options, model: str) -> pathlib.Path:
    """A task's folder, of these settings from now on.

    Raises:
      DataError: it holds what other settings gave, or nobody knows which.
    """
    folder = options.folder(task_name)
    wanted = {
        "llm": model,
        "seed": options.seed,
        "users": options.users,
        "cross_user": options.cross_user,
        "data_dir": str(pathlib.Path(options.data_dir).resolve()),
    }
    path = folder / "settings.json"
    if path.exists():
        there = files.read_json(path)
        differing = sorted(name for name in wanted if there.get(name) != wanted[name])
        if differing:
            raise DataError(f"{folder}: holds a run with other settings ({', '.join(differing)}); give another --out")
    elif (folder / library.FILE).exists() or (folder / "predictions.jsonl").exists():
        raise DataError(f"{folder}: holds a run without its settings (there is no settings.json); give another --out")
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(path, wanted)
    return folder


def run(task_name: str, options: Options, machine: Machine) -> None:
    """One task, into its folder."""
    task = tasks.LAMP[task_name]
    train, dev = read(task, options)
    transport = machine.connect(options.asked)
    folder = claim(task_name, options, transport.model)
    held = store.Store(machine.store)
    llm = sampler.StoredSampler(transport, held)
    try:
        base = config.Base()
        embed = workbench.encoders(base, machine.features(held.path))[1]
        here = bench(task, train, dev.users, options, llm, embed)
        answers = answer(here, dev.queries, options)
        files.write_lines(folder / "predictions.jsonl", prediction_rows(here, dev.queries, answers))
        files.write_json(folder / "costs.json", costs(here, options.chosen()))
        files.write_json(folder / "faults.json", dict(here.ctx.faults))
    finally:
        llm.close()
        held.close()
    _say(f"{task_name}: {llm.usage.calls:,} calls made, {llm.usage.cached:,} answers were stored")


def prediction_rows(here: lab.Lab, queries: Sequence[Query], answers: Answers) -> list[dict[str, Any]]:
    """Rows for `intervals.measure`."""
    normalise = here.ctx.task.normalise
    return [
        {
            "query": query.id,
            "user": query.user_id,
            "gold": query.gold,
            "answers": {method: {"predictions": [normalise(own[query.id])]} for method, own in answers.items()},
        }
        for query in queries
    ]


def table(options: Options) -> str:
    """Markdown: by strategy and task, the metric, its difference to the shuffled profile, and the cost of a user.

    Raises:
      DataError: a task's predictions are missing, or those of a strategy, or tasks have other settings than others.
    """
    lines, settings_of = [], {}
    for name in options.tasks:
        task, folder = tasks.LAMP[name], options.folder(name)
        rows = files.read_lines(folder / "predictions.jsonl")
        if not rows:
            raise DataError(f"{folder}: holds no predictions")
        if (folder / "settings.json").exists():
            settings_of[name] = files.read_json(folder / "settings.json")
            first, values = next(iter(settings_of.items()))
            if settings_of[name] != values:
                raise DataError(f"{folder}: its settings.json differs from that of {first}; report them one by one")
        measured = intervals.measure(task, rows, seed=options.seed)
        missing = [strategy for strategy in options.chosen() if strategy not in measured.methods]
        if missing:
            raise DataError(f"{folder}: holds no predictions of {', '.join(missing)}; name others with --strategies")
        spent, faults = files.read_json(folder / "costs.json"), files.read_json(folder / "faults.json")
        metric = task.metrics[0]
        lines += [
            f"\n### {name}: {summary.title(metric)}, {len(measured.users)} users, {measured.queries} questions\n",
            "| strategy | own profile | own − shuffled (smallest detectable) | personal | calls | tokens in / out |",
            "|---|---|---|---|---|---|",
        ]
        for strategy in options.chosen():
            own = intervals.interval(measured, strategy, metric)
            cells = [f"{summary.number(own.value, metric)} {summary.span(own.low, own.high, metric)}"]
            if strategy + SHUFFLED in measured.methods:
                gap = intervals.difference(measured, strategy, strategy + SHUFFLED, metric)
                span = summary.span(gap.low, gap.high, metric, signed=True)
                least = "" if gap.detectable is None else f" ({summary.number(gap.detectable, metric)})"
                cells.append(f"{summary.number(gap.value, metric, signed=True)} {span}{least}")
                cells.append("yes" if gap.low is not None and gap.low > 0 else "not shown")
            else:
                cells += ["", ""]
            cost = spent[strategy]
            cells.append(f"{cost['calls']:.1f}")
            cells.append(f"{cost['input_tokens']:,.0f} / {cost['output_tokens']:,.0f}")
            lines.append(f"| `{strategy}` | {' | '.join(cells)} |")
        lines += [f"\n{what}: {count}" for what, count in sorted(faults.items())]
    return "\n".join(lines)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def planned(task_name: str, options: Options, machine: Machine) -> planner.Planner:
    """Counts what a task would ask for, and calls nothing."""
    task, held = tasks.LAMP[task_name], store.Store.without_making(options.store)
    counting = planner.Planner(machine.connect(options.asked).model, held)
    train, dev = read(task, options)
    base = config.Base()
    embed = feature_cache.in_memory(workbench.encoders(base, None)[1])  # a plan leaves nothing behind
    answer(bench(task, train, dev.users, options, counting, embed), dev.queries, options)
    return counting


def main(options: Options) -> None:
    """Runs one task after another and prints the tables."""
    with _mains.one_sentence("strategies"):
        options.check()
        machine = Machine(store=options.store, cache=options.cache)
        for name in options.tasks:
            if options.plan:
                counting = planned(name, options, machine)
                print(f"{name}: {counting.calls:,} calls, {counting.tokens:,} tokens of {counting.model}")
            elif not options.report:
                run(name, options, machine)
        if not options.plan:
            print(table(options))


if __name__ == "__main__":
    main(tyro.cli(Options))
