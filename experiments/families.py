"""Do personal heads matter on LaMP? Every head family as the adapter, on candidates that no reranker decided.

Source    HYDRA (Zhuang et al., NeurIPS 2024), section 3, its adapter; families from the sources in `nn/heads/`.
Command   python -m experiments.families --data-dir DIR              (DIR/LaMP_2N/train_questions.json, ...)
          python -m experiments.families --data-dir DIR --plan       counts the calls
Expected  LaMP_2M, mlp - shared: +.011 [-.003, .024] on sampled candidates, +.183 [.099, .276] on all labels (README).
Cost      about 7,300 calls of the embedded LLM in a new store, 2,700 beside those of `lamp_small`; nothing in money.
          The fits compile much: JAX_COMPILATION_CACHE_DIR=FOLDER makes a second run faster.
Smoke     python -m experiments.families --data-dir DIR --tasks LaMP_2M --smoke       (seconds, a scripted LLM)

All users of a task are re-divided into folds, and each is held out once. What any user's question asks is removed from
everybody else's profile before the division, so that prompts are the same in all folds, and one store of answers
serves every fold, family and seed. Two pools a query:

    sampled   zero-shot answers, answers with the k most relevant records, and greedy answers to each of the most
              relevant records shown alone: what an LLM gives
    labels    every label of the task: no LLM, and so no bound on how many records teach. Here a head is a classifier

Heads learn from pools of the users' own records asked as questions (p a user), which are answered without the record.
Loss and epochs are chosen on validation users cut from the training users; held-out users are only reported. A method
is measured by the mean quality of the candidate it selects (accuracy; for ratings 1 - error / 4) over all questions,
seeds averaged, with a 95 % bootstrap interval over users.
"""

import collections
import dataclasses
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import tyro

from experiments import _families_pools as candidates
from experiments import _families_report as report
from hydrajax import files
from hydrajax.data import folds, tasks
from hydrajax.evaluation import predictions
from hydrajax.llm import planner, sampler, store
from hydrajax.methods import answers as answers_lib
from hydrajax.methods import controls, hydra, scorers, selection
from hydrajax.methods import rows as rows_lib
from hydrajax.nn import feature_cache
from hydrajax.runs import config, workbench
from hydrajax.runs.machine import Machine
from hydrajax.training import fit
from hydrajax.types import Query

PAIR_TOKENS = 128

# Row of the table -> what differs from the default configuration of a fit.
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "shared": {"family": "shared"},
    "mlp": {"family": "mlp"},
    "mlp, fresh": {"family": "mlp", "init": "fresh"},
    "low_rank_mlp": {"family": "low_rank_mlp"},
    "linear": {"family": "linear"},
    "simplex": {"family": "simplex"},
    "facets": {"family": "facets"},
    "generic_plus_offset": {"family": "generic_plus_offset"},
}
SEEDED = ("shared", "mlp", "mlp, fresh")  # the question of the experiment; for the others one initialisation has to do


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Every head family as the adapter."""

    data_dir: str
    """Folder with TASK/{train,dev}_{questions,outputs}.json."""
    pools: tuple[candidates.Pool, ...] = ("sampled", "labels")
    """Which candidates."""
    tasks: tuple[str, ...] = ("LaMP_2M", "LaMP_3", "LaMP_2N")
    """Which tasks."""
    families: tuple[str, ...] = tuple(FAMILIES)
    """Which rows of the table."""
    llm: str = "local"
    """`local` or a GGUF file."""
    store: str | None = None
    """File of the LLM's answers."""
    cache: str | None = None
    """Folder of base features."""
    out: pathlib.Path = pathlib.Path("runs/families")
    """Keeps the predictions."""
    folds: int = 5
    """Parts that all users are divided into."""
    seeds: int | None = None
    """Initialisations, in place of the experiment's."""
    seed: int = 0
    """Of the draws of users, records and folds."""
    plan: bool = False
    """Print the calls of each task, and call nothing."""
    ask: bool = False
    """Sample what is missing, and fit nothing."""
    report: bool = False
    """Print the tables of what `out` holds, and compute nothing."""
    smoke: bool = False
    """A few users and a scripted LLM: shows that everything runs, says nothing of quality."""

    def size(self, pool: candidates.Pool, task: str) -> candidates.Size:
        """How much of a task is used.

        Raises:
          SystemExit: the task is not one of the experiment's.
        """
        if task not in candidates.SIZES[pool]:
            raise SystemExit(f"unknown task {task!r}; valid are {', '.join(candidates.SIZES[pool])}")
        size = candidates.SMOKE if self.smoke else candidates.SIZES[pool][task]
        return size if self.seeds is None else dataclasses.replace(size, seeds=self.seeds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """One fold: rows by what they are for (see `hydra.Learner.fit`), and the held-out users' questions."""

    train: Sequence[rows_lib.Row]
    heads: Sequence[rows_lib.Row]
    judged: Sequence[rows_lib.Row]
    held_out: Sequence[Query]


def parts(bench: candidates.Bench, options: Options) -> list[Part]:
    """The folds. Validation users are cut from the training users of each."""
    rows = rows_lib.tried_candidates(bench.lab, pools_of(bench, bench.learned), "learned")
    found = []
    for fold in folds.k_folds(bench.lab.ctx.task, (bench.whole,), folds=options.folds, seed=options.seed):
        if fold.removed.train_records or fold.removed.held_out_records:
            raise AssertionError("a fold changes profiles, so its prompts would not be those of the other folds")
        known, validation = folds.validation_cut(fold.train, bench.lab.settings.validation, options.seed)
        queries = [query for query in fold.train.queries if query.user_id in set(validation)]
        found.append(
            Part(
                train=[row for row in rows if row.user_id in set(known)],
                heads=[row for row in rows if row.user_id not in set(known)],
                judged=rows_lib.tried_candidates(bench.lab, pools_of(bench, queries), "judged"),
                held_out=fold.held_out.queries,
            )
        )
    return found


def pools_of(bench: candidates.Bench, queries: Sequence[Query]) -> list[answers_lib.Pool]:
    """The candidates of these queries."""
    return [answers_lib.Pool(query=query, candidates=bench.pools[query.id]) for query in queries]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitted:
    """A family on one fold: the scorer, what was chosen, and the configuration that was."""

    scorer: scorers.PersonalScorer
    choice: selection.Choice
    config: fit.FitConfig


def fit_family(name: str, part: Part, seed: int, encode: scorers.Encode, options: Options) -> Fitted | None:
    """Fits a row of the table; None where nothing in the training users' pools differs.

    Heads of a user's own get an epoch at least, or the families would hide behind the pooled head where validation
    users prefer it.
    """
    epochs = (1,) if options.smoke else tuple(n for n in selection.EPOCHS if n)
    losses = ("cross_entropy",) if options.smoke else ("cross_entropy", "pairwise")
    small: dict[str, Any] = {"pooled_epochs": 1} if options.smoke else {}
    configs = {loss: fit.FitConfig(**FAMILIES[name], **small, loss=loss, seed=seed) for loss in losses}
    chooses = selection.ValidatedLearner(encode, list(configs.values()), epochs=epochs)
    scorer = chooses.fit("adapter", train=part.train, heads=part.heads, judged=part.judged)
    if not isinstance(scorer, scorers.PersonalScorer):
        return None
    choice = chooses.choices["adapter"]
    return Fitted(scorer=scorer, choice=choice, config=configs[choice.loss])


def with_records(fitted: Fitted, part: Part, places: Mapping[str, int], n: int) -> scorers.PersonalScorer:
    """The scorer with heads of the held-out users that saw the first n of their records; settings as chosen.

    Args:
      fitted: of `fit_family`.
      part: whose held-out users.
      places: the place of a learned query among those of its user, by query id.
      n: how many.
    """
    users = {query.user_id for query in part.held_out}
    rows = [row for row in part.heads if row.user_id in users and places[row.query_id] < n]
    return scorers.personalise(fitted.scorer, fitted.config, rows, epochs=fitted.choice.epochs)


def places(bench: candidates.Bench) -> dict[str, int]:
    """The place of every learned query among those of its user, in the order of the draw."""
    asked: collections.Counter[str] = collections.Counter()
    found = {}
    for query in bench.learned:
        found[query.id] = asked[query.user_id]
        asked[query.user_id] += 1
    return found


def or_pooled(fitted: Fitted, part: Part) -> scorers.PersonalScorer:
    """The scorer, or its pooled head where validation users fare no worse with that.

    They are asked what `selection.ValidatedLearner` asked them: their real questions, and each half of their records by
    heads that learned from the other half, which for the pooled head is all of their records.
    """
    pooled = dataclasses.replace(fitted.scorer, heads=None, user_rows={})
    users = {row.user_id for row in part.judged}
    asked = [*part.judged, *(row for row in part.heads if row.user_id in users)]
    qualities = selection.chosen_qualities(pooled, asked)
    best = fitted.choice.quality[f"{fitted.choice.loss}/{fitted.choice.epochs}"]
    return fitted.scorer if qualities and np.mean(qualities) < best else pooled


def numbers(size: candidates.Size) -> list[int]:
    """0, 1, 2, 4, ... records of a user, p last."""
    return [0, *(2**i for i in range(size.pseudo.bit_length()) if 2**i < size.pseudo), size.pseudo]


Answers = dict[str, dict[str, list[str]]]


def choose(
    bench: candidates.Bench, options: Options, encode: scorers.Encode, size: candidates.Size
) -> tuple[Answers, dict[str, list[str]]]:
    """Answers of all families by method and query id, one a seed; and what was chosen, by family."""
    answers: Answers = {}
    choices: dict[str, list[str]] = {}

    def note(method: str, queries: Sequence[Query], scorer: scorers.TrainedScorer, **heads: Any) -> None:
        for answer in hydra.adapt(bench.lab, scorer, pools_of(bench, queries), **heads):
            answers.setdefault(method, {}).setdefault(answer.query.id, []).append(answer.text)

    order = places(bench)
    for number, part in enumerate(parts(bench, options)):
        # A compiled program takes dozens of memory maps, of which Linux gives a process 65,530: all families of all
        # folds are more.
        jax.clear_caches()
        users = sorted({query.user_id for query in part.held_out})
        for name in options.families:
            _say(f"fold {number + 1} of {options.folds}: {name}")
            for seed in range(size.seeds if name in SEEDED else 1):
                fitted = fit_family(name, part, seed, encode, options)
                scorer = fitted.scorer if fitted else scorers.Untrained()
                note(name, part.held_out, scorer)
                choices.setdefault(name, []).append(f"{fitted.choice.loss}/{fitted.choice.epochs}" if fitted else "")
                if name == "mlp":
                    note(report.POOLED, part.held_out, scorer, pooled=True)
                    note(report.CHOSEN, part.held_out, or_pooled(fitted, part) if fitted else scorer)
                    for lent in controls.derangements(users, seed=seed, n=4):
                        note(report.LENT, part.held_out, scorer, heads=lent)
                for n in numbers(size) if name in report.CURVES else ():
                    known = with_records(fitted, part, order, n) if fitted else scorer
                    note(report.curve_name(name, n), part.held_out, known)
    return answers, choices


def plain(bench: candidates.Bench, options: Options) -> Answers:
    """Controls: choices from the same pools, and answers from the profile alone."""
    task, queries = bench.lab.ctx.task, bench.whole.queries
    answers: Answers = {}
    for query in queries:
        pool = bench.pools[query.id]
        votes = [candidate.votes for candidate in pool]
        texts = [task.normalise(candidate.text) for candidate in pool]
        picks = {
            "random": controls.random_choices(votes, seed=options.seed, query_id=query.id),
            "oracle": [controls.oracle([bench.lab.quality(query, text) for text in texts])],
        }
        if query.id in bench.greedy:
            picks["vote"] = [controls.vote(task, texts, votes)]
        found = {method: [pool[i].text for i in chosen] for method, chosen in picks.items()}
        if query.id in bench.greedy:
            found["no adapter"] = [bench.greedy[query.id]]
        profile = bench.lab.users[query.user_id].profile
        found[report.LABEL if task.kind == "classification" else report.MEDIAN] = [
            controls.most_frequent_label(task, profile, task.labels[0])
        ]
        found["nearest record"] = [controls.nearest_record(task, bench.lab.retrieve(query, 1), task.labels[0])]
        for method, texts in found.items():
            answers.setdefault(method, {})[query.id] = texts
    return answers


def prediction_rows(bench: candidates.Bench, answers: Answers) -> list[dict[str, Any]]:
    """Rows for `intervals.measure`, without a text: qualities alone."""
    return [
        {
            "query": query.id,
            "user": query.user_id,
            "gold": None,
            "records": len(bench.lab.users[query.user_id].profile),
            "answers": {
                method: {
                    "predictions": [""] * len(texts[query.id]),
                    "rewards": [bench.lab.quality(query, text) for text in texts[query.id]],
                }
                for method, texts in answers.items()
            },
        }
        for query in bench.whole.queries
    ]


def made(pool: candidates.Pool, task_name: str, options: Options, llm: sampler.Sampler) -> candidates.Bench:
    """A task with its candidates."""
    size = options.size(pool, task_name)
    return candidates.make_bench(pool, tasks.LAMP[task_name], size, options.data_dir, options.seed, llm)


def run(pool: candidates.Pool, task_name: str, options: Options, machine: Machine) -> None:
    """One task and pool, into `out`."""
    size = options.size(pool, task_name)
    transport = machine.connect("scripted" if options.smoke else options.llm)
    held = store.Store(machine.store)
    llm = sampler.StoredSampler(transport, held)
    try:
        bench = made(pool, task_name, options, llm)
    finally:
        llm.close()
        held.close()
    _say(f"{task_name}, {pool}: {llm.usage.calls:,} calls made, {llm.usage.cached:,} answers were stored")
    if options.ask:
        return
    base = config.Base(max_pair_tokens=PAIR_TOKENS)
    encode = feature_cache.in_memory(workbench.encoders(base, machine.features(held.path))[0])
    answers, choices = choose(bench, options, encode, size)
    options.out.mkdir(parents=True, exist_ok=True)
    files.write_lines(_rows_file(pool, task_name, options), prediction_rows(bench, plain(bench, options) | answers))
    files.write_json(_choices_file(pool, task_name, options), choices)


def read(pool: candidates.Pool, task_name: str, options: Options) -> report.Found:
    """What `run` has left."""
    return report.Found(
        task=tasks.LAMP[task_name],
        rows=predictions.read(_rows_file(pool, task_name, options)),
        choices=files.read_json(_choices_file(pool, task_name, options)),
        numbers=numbers(options.size(pool, task_name)),
    )


def _rows_file(pool: candidates.Pool, task_name: str, options: Options) -> pathlib.Path:
    return options.out / f"{task_name}-{pool}.jsonl"


def _choices_file(pool: candidates.Pool, task_name: str, options: Options) -> pathlib.Path:
    return options.out / f"{task_name}-{pool}-choices.json"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(options: Options) -> None:
    """Runs pools and tasks one after another and prints the tables."""
    machine = Machine(store=options.store, cache=options.cache)
    for pool in options.pools:
        for task in options.tasks:
            if options.plan:
                counting = planner.Planner(
                    machine.connect(options.llm).model, store.Store.without_making(options.store)
                )
                made(pool, task, options, counting)
                print(f"{task}, {pool}: {counting.calls:,} calls")
            elif not options.report:
                run(pool, task, options, machine)
        if not options.plan and not options.ask:
            found = {task: read(pool, task, options) for task in options.tasks}
            print(f"\n## {pool}\n\n{report.tables(found, FAMILIES, options.seed)}\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
