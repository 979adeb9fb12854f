"""A trained run taught new users: heads from their profiles alone, by the run's frozen scorers and its settings.

    profiles -> pseudo-queries -> record trials -> reranker heads -> candidates -> adapter heads -> run folder

Whoever is interrupted goes on with the same call: answers are stored, and users are kept a group at a time.
"""

import collections
import contextlib
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from hydrajax import files, forms, training
from hydrajax.data import profiles
from hydrajax.evaluation import choosing
from hydrajax.llm import planner
from hydrajax.methods import cross_fitting, hydra, scorers
from hydrajax.methods.rows import Row
from hydrajax.methods.scorers import TrainedScorer
from hydrajax.runs import accounts, added, folder, invocations, load, saved, workbench
from hydrajax.runs import plan as plan_lib
from hydrajax.runs.config import RunConfig
from hydrajax.runs.machine import Machine
from hydrajax.runs.run import Say
from hydrajax.types import DataError, User

GROUP = 256  # users who are sampled for, fitted and kept together


@dataclasses.dataclass(frozen=True, kw_only=True)
class Done:
    """What became of the users of a file.

    Attributes:
      fitted: ids of those who were fitted now.
      kept: ids of those who had been before, from the same profile.
      headless: why nobody gets a head of their own, by scorer, in half a sentence; the others give heads.
      heads: how many of `fitted` got a head of their own, by scorer that gives any.
      without_records: how many of `fitted` have none, and so no head.
      calls, cached: of the LLM, and answers from the store.
      cost_usd: of the calls; None where the price is unknown.
    """

    fitted: Sequence[str]
    kept: Sequence[str]
    headless: Mapping[str, str]
    heads: Mapping[str, int] = dataclasses.field(default_factory=dict)
    without_records: int = 0
    calls: int = 0
    cached: int = 0
    cost_usd: float | None = 0.0

    @property
    def headed(self) -> list[str]:
        """The scorers that give users heads of their own."""
        return [name for name in added.NAMES if name not in self.headless]


def personalise(
    run: pathlib.Path,
    profile: pathlib.Path,
    *,
    command: str,
    llm: str | None = None,
    machine: Machine = Machine(),  # noqa: B008 (frozen)
    say: Say = print,
) -> Done:
    """Fits the heads of users who were not in a run, and keeps them in its folder, where `answer` finds them.

    Args:
      run: folder of a finished run.
      profile: file of their profiles (see `profiles.read_users`).
      command: the exact command, kept in the folder.
      llm: another LLM than the run's.
      machine: where it runs.
      say: gets a line a group of users.

    Raises:
      DataError: no finished run, one that nobody can come to, or a file that cannot be used. Nothing is asked then.
      LLMError: the LLM does not answer. Answers received before are stored.
    """
    newcomers = _read(run, profile, llm)
    pending = list(newcomers.pending)
    kept = [user_id for user_id in newcomers.users if user_id not in newcomers.pending]
    empty = sum(not newcomers.users[user_id].profile for user_id in pending)
    done = Done(fitted=pending, kept=kept, headless=newcomers.headless, without_records=empty)
    if not newcomers.headed:
        for user_id in pending:
            newcomers.keep(user_id, {})
    if not pending or not newcomers.headed:
        return done
    clock = accounts.Clock(say)
    counts: collections.Counter[str] = collections.Counter()
    with workbench.opened(machine, [newcomers.llm], newcomers.config.encoder) as bench:
        system = saved.load(run / "scorers", bench.encode)
        learner = Frozen(system=system, epochs=newcomers.epochs)
        with invocations.noted(run, command, clock, bench.llms):
            for start in range(0, len(pending), GROUP):
                group = pending[start : start + GROUP]
                fitted = newcomers.fit(bench, learner, group, system.k)
                for user_id in group:
                    heads = added.heads_of(fitted, user_id)
                    newcomers.keep(user_id, heads)
                    counts.update(list(heads))
                say(f"{start + len(group):,} of {len(pending):,} users")
        usage = bench.llm.usage
    given = {name: counts[name] for name in done.headed}
    return dataclasses.replace(done, heads=given, calls=usage.calls, cached=usage.cached, cost_usd=usage.cost_usd)


def plan(
    run: pathlib.Path,
    profile: pathlib.Path,
    *,
    llm: str | None = None,
    machine: Machine = Machine(),  # noqa: B008 (frozen)
) -> tuple[Done, Sequence[accounts.Plan]]:
    """Counts what `personalise` would ask without asking it, stored answers left out; arguments and errors as there.

    Returns:
      who is new, and why there are scorers that give nobody a head; and the plans, none where nothing would be asked
      whatever is stored.
    """
    newcomers = _read(run, profile, llm)
    kept = [user_id for user_id in newcomers.users if user_id not in newcomers.pending]
    who = Done(fitted=list(newcomers.pending), kept=kept, headless=newcomers.headless)
    if not who.fitted or not who.headed:
        return who, ()
    with workbench.planning(machine, [newcomers.llm], newcomers.config.encoder) as bench:
        counting = bench.llm
        assert isinstance(counting, planner.Planner)
        system = saved.load(run / "scorers", bench.encode)
        known = Frozen(system=system, epochs=newcomers.epochs)
        guessing = plan_lib.GuessingLearner(lambda: None if counting.calls else known, seed=newcomers.config.seed)
        newcomers.fit(bench, guessing, who.fitted, system.k)
        return who, bench.plans()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frozen:
    """`hydra.Learner`: scorers that are trained, of which heads alone are learned.

    Attributes:
      system: the scorers.
      epochs: of their heads, by scorer, as validation users chose them.
    """

    system: hydra.System
    epochs: Mapping[str, int]

    def fit(self, name: str, *, train: Sequence[Row], personal: Sequence[Row], judged: Sequence[Row]) -> TrainedScorer:
        """See `hydra.Learner.fit`."""
        scorer = getattr(self.system, name)
        if not isinstance(scorer, scorers.PersonalScorer):
            return scorer
        return scorers.personalise(scorer, scorer.fitted.config, personal, epochs=self.epochs[name])

    def cross_fit(
        self, name: str, scorer: TrainedScorer, *, train: Sequence[Row], personal: Sequence[Row]
    ) -> TrainedScorer:
        """See `hydra.Learner.cross_fit`."""
        if not isinstance(scorer, scorers.PersonalScorer):
            return scorer
        return cross_fitting.cross_fit(scorer, train=train, personal=personal, epochs=self.epochs[name])


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Newcomers:
    """Users of a file, and the run that they come to.

    Attributes:
      pending: digests of what heads are to be made of, of the users who have none that were made of this.
      epochs: of heads, by scorer; a scorer that learned nothing is left out.
      headless: why a scorer gives nobody a head of their own, by scorer (see `Done`).
      system: digest of the run's scorers.
    """

    run: pathlib.Path
    config: RunConfig
    data: load.Data
    llm: str
    users: Mapping[str, User]
    pending: Mapping[str, str]
    epochs: Mapping[str, int]
    headless: Mapping[str, str]
    system: str

    @property
    def headed(self) -> list[str]:
        """The scorers that have heads of users."""
        return [name for name in added.NAMES if name not in self.headless]

    def fit(self, bench: workbench.Workbench, learner: hydra.Learner, user_ids: Sequence[str], k: int) -> hydra.System:
        """The scorers with the heads of these users."""
        trained, settings = self.data.train.users, self.config.settings
        lab = bench.lab(self.data.task, {**trained, **self.users}, settings, seed=self.config.seed)
        return hydra.personalise(lab, learner, user_ids, k, population=tuple(trained), headed=self.headed)

    def keep(self, user_id: str, heads: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Keeps a user and the user's heads in the run's folder."""
        made_of = self.pending[user_id]
        found = added.Added(user=self.users[user_id], heads=heads, made_of=made_of, system=self.system)
        added.save(self.run, found)


def _read(run: pathlib.Path, profile: pathlib.Path, llm: str | None) -> _Newcomers:
    """Everything that can be said before anything is opened."""
    config = folder.read_undivided(run)
    task, llm = load.task(config), llm or config.llm
    if task.kind == "reward":
        raise DataError(f"{run}: holds a run of {config.experiment!r}, whose users are simulated: nobody else can join")
    saved.check(run / "scorers")
    users = profiles.read_users(profile, task)
    data = load.read(config)
    there = [user_id for user_id in users if user_id in data.users]
    if there:
        raise DataError(
            f"{profile}: {len(there)} of its users are in the run's data, the first is {there[0]!r}; expected users "
            "who were not in the run"
        )
    system = added.digest_of_system(run)
    made_of = {user_id: added.made_of(user, system, llm) for user_id, user in users.items()}
    choices = files.read_json(run / "choices.json")
    forms.check(run / "choices.json", choices, {"scorers": {...: {"epochs": int}}})
    chosen = choices["scorers"]
    epochs = {name: chosen[name]["epochs"] for name in added.NAMES if name in chosen}
    return _Newcomers(
        run=run,
        config=config,
        data=data,
        llm=llm,
        users=users,
        pending={user_id: digest for user_id, digest in made_of.items() if not _is_made(run, user_id, digest)},
        epochs=epochs,
        headless=_headless(run, epochs, choices),
        system=system,
    )


def _headless(run: pathlib.Path, epochs: Mapping[str, int], choices: Mapping[str, Any]) -> dict[str, str]:
    """Why nobody gets a head of their own, by scorer that gives none."""
    reasons = {}
    for name in added.NAMES:
        if name not in epochs:
            reasons[name] = "it learned nothing in this run, and leaves everything in its order"
        elif not epochs[name]:
            questions, users = (choices.get(f"validation_{what}", 0) for what in ("queries", "users"))
            chosen = f"as validation chose ({choosing.rests_on(questions, users)})" if questions else "as the run says"
            reasons[name] = f"0 epochs of personalisation, {chosen}: the pooled head serves everybody"
        else:
            fitted, _ = training.load_fitted(run / "scorers" / name)
            if not jax.tree.leaves(fitted.generic):
                reasons[name] = f"its head family {fitted.config.family!r} has nothing of a user's own"
    return reasons


def _is_made(run: pathlib.Path, user_id: str, digest: str) -> bool:
    with contextlib.suppress(DataError):  # what is damaged is made again
        found = added.find(run, user_id)
        return found is not None and found.made_of == digest
    return False
