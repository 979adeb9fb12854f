"""Head families as the adapter, every user held out once. A kind of run; `configs/families.py` tells of it.

Heads learn from pools of the users' own records asked as questions (p a user), which are answered without the record.
Loss, epochs and settings are chosen on validation users cut from the training users, with the first of the seeds;
held-out users are only reported. A method is measured by the mean quality of the candidate it selects (accuracy; for
ratings 1 - error / 4) over all questions, seeds averaged.
"""

import collections
import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from experiments import candidates, data, kinds
from experiments.candidates import Candidates
from experiments.reports import families as report
from experiments.reports import page
from hydrajax import training
from hydrajax.data import folds
from hydrajax.methods import controls, hydra, rows, scorers, selection
from hydrajax.nn import feature_cache
from hydrajax.runs import accounts, workbench
from hydrajax.types import Query

# Row of the table -> what differs from the default configuration of a fit.
FAMILIES: Mapping[str, Mapping[str, Any]] = {"mlp, fresh": {"family": "mlp", "init": "fresh"}}
EXACT = ("linear",)  # which no seed changes; all others are fitted with several

Texts = dict[str, dict[str, list[str]]]  # by method and query id, one a draw

together, write_report, text_table, verdicts = page.together, page.write_report, page.text_table, page.verdicts


def plan(runs: Sequence[tuple[kinds.Families, data.Data]], bench: workbench.Workbench) -> Sequence[accounts.Plan]:
    """See `run.Kind.plan`."""
    for config, asked in runs:
        candidates.make(config.sized(), asked, bench)
    return bench.plans()


def compute(
    config: kinds.Families, asked: data.Data, bench: workbench.Workbench, out: pathlib.Path, clock: accounts.Clock
) -> tuple[page.Rows, dict[str, Any]]:
    """See `run.Kind.compute`. Folds that are finished are not computed again."""
    config = config.sized()
    with clock.stage("candidates"):
        there = candidates.make(config, asked, bench)
    if config.only_ask:
        return page.part(config, (), bench)
    encode = feature_cache.in_memory(bench.encode)
    texts = plain(there)
    choices: dict[str, list[str]] = collections.defaultdict(list)
    chosen_of = functools.partial(choose, there, config, encode)
    for fold in data.of_folds(parts(there, config), chosen_of, out, asked.digest, clock):
        for method, by_query in fold["texts"].items():
            texts.setdefault(method, {}).update(by_query)
        for name, chosen in fold["choices"].items():
            choices[name] += chosen
    predicted = prediction_rows(there, config, texts)
    return page.part(config, predicted, bench, choices=choices, numbers=numbers(config))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """One fold: rows by what they are for (see `hydra.Learner.fit`), and the held-out users' questions."""

    train: Sequence[rows.Row]
    personal: Sequence[rows.Row]
    judged: Sequence[rows.Row]
    held_out: Sequence[Query]


def parts(there: Candidates, config: kinds.Families) -> list[Part]:
    """The folds. Validation users are cut from the training users of each."""
    learned = rows.tried_candidates(there.lab, there.of(there.learned), "learned")
    divided = []
    for fold in folds.k_folds(config.lamp_task, (there.whole,), folds=config.folds, seed=config.seed):
        if fold.removed.train_records or fold.removed.held_out_records:
            raise AssertionError("a fold changes profiles, so its prompts would not be those of the other folds")
        known, validation = folds.validation_cut(fold.train, there.lab.settings.validation, config.seed)
        queries = [query for query in fold.train.queries if query.user_id in set(validation)]
        divided.append(
            Part(
                train=[row for row in learned if row.user_id in set(known)],
                personal=[row for row in learned if row.user_id not in set(known)],
                judged=rows.tried_candidates(there.lab, there.of(queries), "judged"),
                held_out=fold.held_out.queries,
            )
        )
    return divided


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitted:
    """A family on one fold: the scorer, what was chosen, and the configuration that was."""

    scorer: scorers.PersonalScorer
    choice: selection.Choice
    config: training.FitConfig


def fit_family(
    name: str, part: Part, seed: int, encode: scorers.Encode, config: kinds.Families, first: Fitted | None = None
) -> Fitted | None:
    """Fits a row of the table; None where nothing in the training users' pools differs.

    Heads of a user's own get an epoch at least, or the families would hide behind the pooled head where validation
    users prefer it.

    Args:
      first: the same row with another seed, whose loss, epochs and settings are taken.
    """
    of_family, epochs = FAMILIES.get(name, {"family": name}), config.epochs
    configs = [
        training.FitConfig(**of_family, pooled_epochs=config.pooled_epochs, loss=loss, seed=seed)
        for loss in config.losses
    ]
    if first is not None:
        configs, epochs = [dataclasses.replace(first.config, seed=seed)], (first.choice.epochs,)
    chooses = selection.ValidatedLearner(encode, configs, epochs=epochs)
    scorer = chooses.fit("adapter", train=part.train, personal=part.personal, judged=part.judged)
    if not isinstance(scorer, scorers.PersonalScorer):
        return None
    return Fitted(scorer=scorer, choice=chooses.choices["adapter"], config=scorer.fitted.config)


def with_records(fitted: Fitted, part: Part, places: Mapping[str, int], n: int) -> scorers.PersonalScorer:
    """The scorer with heads of the held-out users that saw the first n of their records; settings as chosen.

    Args:
      fitted: of `fit_family`.
      part: whose held-out users.
      places: the place of a learned query among those of its user, by query id.
      n: how many.
    """
    users = {query.user_id for query in part.held_out}
    first = [row for row in part.personal if row.user_id in users and places[row.query_id] < n]
    return scorers.personalise(fitted.scorer, fitted.config, first, epochs=fitted.choice.epochs)


def places(learned: Sequence[Query]) -> dict[str, int]:
    """The place of every learned query among those of its user, in the order of the draw."""
    following: dict[str, Iterator[int]] = collections.defaultdict(itertools.count)
    return {query.id: next(following[query.user_id]) for query in learned}


def or_pooled(fitted: Fitted, part: Part) -> scorers.PersonalScorer:
    """The scorer, or its pooled head where validation users fare no worse with that.

    They are asked what `selection.ValidatedLearner` asked them: their real questions, and each half of their records by
    heads that learned from the other half, which for the pooled head is all of their records.
    """
    pooled = dataclasses.replace(fitted.scorer, heads=None, user_rows={})
    users = {row.user_id for row in part.judged}
    asked = [*part.judged, *(row for row in part.personal if row.user_id in users)]
    qualities = selection.chosen_qualities(pooled, asked)
    best = fitted.choice.quality[f"{fitted.choice.loss}/{fitted.choice.epochs}"]
    return fitted.scorer if qualities and np.mean(qualities) < best else pooled


def numbers(config: kinds.Families) -> list[int]:
    """0, 1, 2, 4, ... records of a user, p last."""
    p = config.pseudo or 0
    return [0, *(2**i for i in range(p.bit_length()) if 2**i < p), p]


def choose(there: Candidates, config: kinds.Families, encode: scorers.Encode, part: Part) -> dict[str, Any]:
    """Of one fold the texts that all families choose, and the losses and epochs that were chosen, by family."""
    # A compiled program takes dozens of memory maps, of which Linux gives a process 65,530: all families of all folds
    # are more.
    jax.clear_caches()
    texts: Texts = {}
    choices: dict[str, list[str]] = {}

    def note(method: str, scorer: scorers.TrainedScorer, **heads: Any) -> None:
        for answer in hydra.adapt(there.lab, scorer, there.of(part.held_out), **heads):
            texts.setdefault(method, {}).setdefault(answer.query.id, []).append(answer.text)

    place, users = places(there.learned), sorted({query.user_id for query in part.held_out})
    for name in config.families:
        first = None
        for seed in range(1 if name in EXACT else config.seeds or 1):
            fitted = fit_family(name, part, seed, encode, config, first)
            first = first or fitted
            scorer = fitted.scorer if fitted else scorers.Untrained()
            note(name, scorer)
            choices.setdefault(name, []).append(f"{fitted.choice.loss}/{fitted.choice.epochs}" if fitted else "")
            if name == "mlp":
                note(report.POOLED, scorer, pooled=True)
                note(report.CHOSEN, or_pooled(fitted, part) if fitted else scorer)
                for lent in controls.derangements(users, seed=seed, n=4):
                    note(report.LENT, scorer, heads=lent)
            for n in numbers(config) if name in report.CURVES else ():
                note(report.curve_name(name, n), with_records(fitted, part, place, n) if fitted else scorer)
    return {"texts": texts, "choices": choices}


def plain(there: Candidates) -> Texts:
    """Controls: choices from the same pools, and answers from the profile alone."""
    here, task, queries = there.lab, there.lab.ctx.task, there.whole.queries
    texts: Texts = {
        method: {draws[0].query.id: [draw.text for draw in draws] for draws in by_query}
        for method, by_query in controls.unlearned(here, there.of(queries)).items()
    }
    if there.greedy:
        texts["no adapter"] = {query.id: [there.greedy[query.id]] for query in queries}
    else:
        del texts["vote"]  # every label has one
    texts[report.LABEL if task.kind == "classification" else report.MEDIAN] = {
        query.id: [controls.most_frequent_label(task, here.users[query.user_id].profile, task.labels[0])]
        for query in queries
    }
    texts["nearest record"] = {
        query.id: [controls.nearest_record(task, here.retrieve(query, 1), task.labels[0])] for query in queries
    }
    return texts


def prediction_rows(there: Candidates, config: kinds.Families, texts: Texts) -> list[dict[str, Any]]:
    """Rows for `intervals.measure`, without a text: qualities alone."""
    rows = []
    for query in there.whole.queries:
        row = page.row(config.lamp_task, query, {method: by_query[query.id] for method, by_query in texts.items()})
        for answer in row["answers"].values():
            answer["rewards"] = [there.lab.quality(query, text) for text in answer["predictions"]]
            answer["predictions"] = [""] * len(answer["predictions"])
        records = len(there.lab.users[query.user_id].profile)
        rows.append(row | {"pool": config.pools[0], "gold": None, "records": records})
    return rows
