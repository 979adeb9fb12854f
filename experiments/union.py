"""Is choosing among everybody's candidates better than the best of them alone? The union on four LaMP tasks.

Source    the union of prompt strategies and proposals, this project's own (`methods/union.py`)
Command   python -m experiments.union --data-dir DIR               (DIR/LaMP_2N/train_questions.json, ...)
          python -m experiments.union --data-dir DIR --strategies zero_shot rag --store FILE       with an LLM's answers
Expected  without an LLM, union minus best single source, average over four tasks: +.002 [-.011, .015], smallest
          detectable .018: no gain is shown. By task: accuracy -.005 (LaMP_2M), +.017 (LaMP_2N), MAE .022 worse
          (LaMP_3), ROUGE-1 level (LaMP_7), each within its standard error. Minus the best control, the factorised
          classifier for ratings among them: +.006 [-.007, .019]; without it +.022 [.008, .036], nearly all of which is
          what that classifier alone gains on LaMP_3 (it is better than the union), and trimmed tweets on LaMP_7.
Cost      nothing in money; four minutes on one core without an LLM. With strategies the calls of `families`
          (pool `sampled`), of whose store every answer is read: users, prompts and sample numbers are the same.
Smoke     python -m experiments.union --data-dir DIR --tasks LaMP_2M --smoke        (a minute, a few users)

All users of a task are re-divided into folds, and each is held out once; what any user's question asks is removed from
everybody else's profile before. In each fold shared models, adapters and every choice (what teaches, ridge, own heads
or none, the best single source) come from the training users: their questions, and with `--pseudo` records of their
profiles asked as questions, are answered by models that have seen neither user nor text. Held-out users are only
reported. A fold that is finished is kept in `--out` and not computed again; with other data, another LLM or other
options it is another fold.

The table has a row for each task: the union with the adapter, the best single source as the training users chose it,
the control that is best in hindsight (on the very users reported: a harder opponent than can be known before; `of runs`
are the controls that runs report, which for ratings have no factorised classifier), paired
differences with 95 % intervals over users and the smallest detectable difference, the share of the distance from source
to oracle that is captured, and the share of the union's answers that are each source's own. The average over tasks is
that of accuracy, ROUGE-1 and 1 - MAE / 4; its interval comes from independent resamples of each task's users.
"""

import dataclasses
import hashlib
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import tyro

from experiments import _families_pools as drawn
from experiments import _mains
from experiments import _union_report as report
from hydrajax import files
from hydrajax.data import folds, tasks
from hydrajax.llm import request, sampler, store
from hydrajax.methods import lab, settings
from hydrajax.methods.union import proposals, union
from hydrajax.nn import feature_cache
from hydrajax.prompting import contract, registry
from hydrajax.runs import config, workbench
from hydrajax.runs.machine import Machine
from hydrajax.types import DataError, Query, Split

TASKS = ("LaMP_2M", "LaMP_2N", "LaMP_3", "LaMP_7")
EVERYBODY = drawn.Size(users=(None, None), queries=1000, pseudo=2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The union of prompt strategies and proposals."""

    data_dir: str
    """Folder with TASK/{train,dev}_{questions,outputs}.json."""
    tasks: tuple[str, ...] = TASKS
    """Which tasks."""
    strategies: tuple[str, ...] = ()
    """Prompt strategies; without any no LLM is needed."""
    candidates: int = 6
    """b, the LLM's candidates for a query."""
    thompson: bool = False
    """Spread b by a bandit for each user instead of evenly."""
    base: bool = False
    """Let the adapter also read features of the base."""
    losses: tuple[str, ...] = ("pairwise",)
    """What the adapter's loss is chosen among."""
    pseudo: int = 2
    """Records of each user that are asked as questions."""
    llm: str = "local"
    """Whose answers; a store is needed that holds them unless `ask` is set."""
    ask: bool = False
    """Let the LLM be called for answers that the store does not hold."""
    store: str | None = None
    """File of the LLM's answers."""
    cache: str | None = None
    """Folder of base features."""
    out: pathlib.Path = pathlib.Path("runs/union")
    """Keeps the predictions of every fold."""
    folds: int = 5
    """Parts that all users are divided into."""
    seed: int = 0
    """Of the draws of users, records and folds."""
    report: bool = False
    """Print the tables of what `out` holds, and compute nothing."""
    smoke: bool = False
    """A few users: shows that everything runs, says nothing of quality."""

    def size(self, task: str) -> drawn.Size:
        """How much of a task is used: all of it, or with strategies what `families` asks the LLM about.

        Raises:
          DataError: there is no size for the task.
        """
        if self.smoke:
            return dataclasses.replace(drawn.SMOKE, users=(12, 8))
        if not self.strategies:
            return dataclasses.replace(EVERYBODY, pseudo=self.pseudo)
        if task not in drawn.SIZES["sampled"]:
            raise DataError(f"no candidates are planned for {task!r}; valid are {', '.join(drawn.SIZES['sampled'])}")
        return drawn.SIZES["sampled"][task]

    def check(self) -> None:
        """Refuses what cannot be run.

        Raises:
          DataError: a task, strategy or loss that there is not or that does not fit, a number that there cannot be, a
            folder nobody can write.
        """
        _mains.check_tasks(self.tasks)
        _mains.check_numbers(self, candidates=1, pseudo=0, folds=2, seed=0)
        for name in self.strategies:
            if registry.get(name).compares:
                raise DataError(
                    f"strategy {name!r} compares users, and users of all folds share one lab here; leave it out"
                )
        if not self.losses or not {*self.losses} <= {*union.RIDGES}:
            raise DataError(f"--losses are {', '.join(self.losses) or 'none'}; valid are {', '.join(union.RIDGES)}")
        for task in self.tasks:
            self.size(task)
        if not self.report:
            _mains.check_out(self.out)


class Refusing:
    """A transport that names an LLM and calls nobody: what the store does not hold is an error."""

    parallel = 1
    in_turn = False
    limits = request.Limits()

    def __init__(self, model: str):
        self.model = model

    def check(self) -> None:
        """Nothing can be missing."""

    async def complete(self, wanted: request.Request) -> request.Answer:
        raise request.LLMError(f"the store holds no answer of {self.model} to a request; --ask calls the LLM")

    async def close(self) -> None:
        """Nothing was opened."""


class NoLLM:
    """Stands in for a sampler where nothing is asked."""

    model = "none"
    usage = None

    def sample(self, requests: Sequence[request.Request], *, stage: str) -> list[request.Answer]:
        raise AssertionError(f"{stage}: {len(requests)} requests, expected none")


def bench(task_name: str, options: Options, llm: sampler.Sampler) -> tuple[lab.Lab, Split]:
    """The lab and everybody, cleaned once for all folds."""
    task, size = tasks.LAMP[task_name], options.size(task_name)
    whole = drawn.everybody(task, size, options.data_dir, options.seed)
    chosen = dataclasses.replace(
        settings.SMALL, pseudo_queries=size.pseudo, shown=(max(1, size.shown),), candidates=options.candidates
    )
    ctx = contract.Context(task=task, llm=llm, settings=chosen.prompts)
    return lab.Lab(ctx=ctx, users=whole.users, settings=chosen, seed=options.seed), whole


def run(task_name: str, options: Options, machine: Machine, kept: Sequence[pathlib.Path]) -> None:
    """Every fold of a task that is not there, into its file of `kept`."""
    todo = [fold for fold, path in enumerate(kept) if not path.exists()]
    if not todo:
        return
    held = store.Store(machine.store) if options.strategies else None
    llm: Any = NoLLM()
    if held is not None:
        transport = machine.connect(options.llm)
        llm = sampler.StoredSampler(transport if options.ask else Refusing(transport.model), held)
    try:
        made, whole = bench(task_name, options, llm)
        paraphrases = made.ctx.task.pseudo_query == "paraphrase"
        pseudo = [] if paraphrases and not options.strategies else made.pseudo_queries(tuple(whole.users))
        base = config.Base(max_pair_tokens=128)
        cache = (
            pathlib.Path(machine.cache) if machine.cache else store.Store.without_making(None).path.parent / "features"
        )
        encode, embed = workbench.encoders(base, cache)
        known = proposals.Known(task=made.ctx.task, embed=feature_cache.in_memory(embed), seed=options.seed)
        for fold, part in enumerate(folds.k_folds(made.ctx.task, (whole,), folds=options.folds, seed=options.seed)):
            if fold not in todo:
                continue
            _say(f"{task_name}: fold {fold + 1} of {options.folds}")
            asked = union.Questions(
                train=part.train,
                new=part.held_out,
                train_pseudo=[query for query in pseudo if query.user_id in part.train.users],
                new_pseudo=[query for query in pseudo if query.user_id in part.held_out.users],
            )
            found = union.union(
                made,
                asked,
                known,
                encode if options.base else union.nothing,
                strategies=options.strategies,
                thompson=options.thompson,
                fits=union.configs(options.losses),
            )
            options.out.mkdir(parents=True, exist_ok=True)
            files.write_json(kept[fold], {"rows": prediction_rows(made, asked, found), **chosen(found)})
    finally:
        if held is not None:
            llm.close()
            held.close()


def prediction_rows(made: lab.Lab, asked: union.Questions, found: union.Result) -> list[dict[str, Any]]:
    """Rows for `intervals.measure`; `own` says whose own answers the union's answer is."""
    task = made.ctx.task

    def row(i: int, query: Query) -> dict[str, Any]:
        texts = {name: [answers[i]] for name, answers in found.single.items()}
        for by_method in found.answers.values():
            texts |= {method: [draw.text for draw in draws[i]] for method, draws in by_method.items()}
        texts[report.BEST] = texts[found.best_source]
        answer: Any = found.answers["union"]["union"][i][0].chosen
        return {
            "query": query.id,
            "user": query.user_id,
            "gold": query.gold,
            "own": list(answer.owners),
            "answers": {name: {"predictions": [task.normalise(t) for t in own]} for name, own in texts.items()},
        }

    return [row(i, query) for i, query in enumerate(asked.new.queries)]


def chosen(found: union.Result) -> dict[str, Any]:
    """What the training users chose."""
    return {
        "best_source": found.best_source,
        "training": dict(found.training),
        "spread": dict(found.spread),
        "settings": {variant: choice.setting for variant, choice in found.choices.items()},
        "quality": {variant: dict(choice.quality) for variant, choice in found.choices.items()},
    }


def fold_files(task_name: str, options: Options) -> list[pathlib.Path]:
    """Where folds are kept; another configuration, another LLM and other data have other files."""
    spoken = "+".join((*options.strategies, pathlib.Path(options.llm).stem)) if options.strategies else "no-llm"
    how = f"{'thompson' if options.thompson else 'even'}{options.candidates}" if options.strategies else "all"
    kind = "smoke" if options.smoke else how
    read = "+".join((*options.losses, *(["base"] if options.base else [])))
    name = f"{task_name}-{spoken}-{kind}-{read}-p{options.pseudo}-s{options.seed}-{_digest(task_name, options)}"
    return [options.out / f"{name}-{fold}of{options.folds}.json" for fold in range(options.folds)]


def _digest(task_name: str, options: Options) -> str:
    """Eight hexadecimal digits of the task's data, and of the LLM where there is one."""
    found = hashlib.sha256(options.llm.encode() if options.strategies else b"")
    for path in sorted((pathlib.Path(options.data_dir) / task_name).glob("*.json")):
        with open(path, "rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()[:8]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(options: Options) -> None:
    """Runs the tasks one after another and prints the tables."""
    with _mains.one_sentence("union"):
        options.check()
        machine = Machine(store=options.store, cache=options.cache)
        found: dict[str, Sequence[Mapping[str, Any]]] = {}
        for task in options.tasks:
            kept = fold_files(task, options)
            if not options.report:
                run(task, options, machine, kept)
            found[task] = [files.read_json(path) for path in kept if path.exists()]
        if not any(found.values()):
            raise DataError(f"{options.out}: holds no predictions of these tasks, data and options")
        print(report.tables({task: parts for task, parts in found.items() if parts}, options.seed))


if __name__ == "__main__":
    main(tyro.cli(Options))
