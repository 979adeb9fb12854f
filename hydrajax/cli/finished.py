"""`hydrajax report`, `hydrajax answer` and `hydrajax personalise`: what is done with a finished run."""

import dataclasses
import pathlib
import sys
from collections.abc import Mapping
from typing import Annotated

import tyro

from hydrajax.cli import console
from hydrajax.cli import run as run_command
from hydrajax.runs.machine import Machine
from hydrajax.types import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Print a run's table and write its report.html again."""

    run: Annotated[pathlib.Path, tyro.conf.Positional]
    """The run folder."""

    def __call__(self, command: str) -> None:
        """Writes and prints."""
        from hydrajax import files
        from hydrajax.runs import folder

        module = folder.read(self.run)["module"]
        if not (self.run / "results.json").exists():
            raise DataError(f"{self.run}: the run is not finished; repeat its command to finish it")
        results = files.read_json(self.run / "results.json")
        from hydrajax.runs import run

        _say_of_before(self.run)
        kind = run.kind(module)
        with files.undamaged(self.run, "config.json, results.json and predictions.jsonl"):
            path = kind.write_report(self.run)
            table = kind.text_table(results)
        console.stdout().print(table)
        print(path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """Use a trained run: retrieve, rerank, sample, adapt, and print the answer."""

    run: Annotated[pathlib.Path, tyro.conf.Positional]
    """The folder of a finished run."""
    user: str
    """A user of the run's data, or one who was personalised later; anybody else is answered without a profile."""
    input: str
    """What is asked, without the task's instruction; where a task has several inputs as JSON, a text for each:
    `{"title": "A title", "text": "A text"}`."""
    explain: bool = False
    """Also print the records shown, the candidates and their scores."""
    llm: str | None = None
    """Another LLM than the run's."""
    machine: Annotated[Machine, tyro.conf.arg(name="")] = Machine()

    def __call__(self, command: str) -> None:
        """Answers, and prints the answer."""
        from hydrajax.runs import folder

        folder.read_config(self.run)
        from hydrajax.runs import answer

        _say_of_before(self.run)
        answered = answer.answer(self.run, self.user, self.input, llm=self.llm, machine=self.machine)
        if not answered.known:
            print(f"hydrajax: {self.user!r} is no user of this run: answered without a profile", file=sys.stderr)
        if not answered.taught:
            print("hydrajax: the run's adapter has learned nothing: the first answer is taken", file=sys.stderr)
        print(answered.prediction)
        if not self.explain:
            return
        out = console.stdout()
        out.print(f"\nrecords chosen by {answered.ranked_by}", markup=False)
        out.print(f"answer chosen by {answered.chosen_by}", markup=False)
        for record in answered.records:
            out.print(f"record {record.id}: {' | '.join(record.fields.values())}", markup=False)
        for candidate, score in sorted(
            zip(answered.candidates, answered.scores, strict=True), key=lambda pair: -pair[1]
        ):
            out.print(f"{score:+8.3f}  {candidate.votes}x  {candidate.text}", markup=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Personalise:
    """Fit the heads of users who were not in a run, and keep them in its folder: `hydrajax answer` then uses them."""

    run: Annotated[pathlib.Path, tyro.conf.Positional]
    """The folder of a finished run."""
    profile: pathlib.Path
    """Their profiles: a JSON list, or JSON lines, of {user_id, profile: [record, ...]}, records as in the task's data.
    Who comes again with the same profile is left as is, who comes with another one is fitted again."""
    llm: str | None = None
    """Another LLM than the run's."""
    plan: bool = False
    """Print calls, tokens and time per stage, and the cost; call nothing."""
    machine: Annotated[Machine, tyro.conf.arg(name="")] = Machine()

    def __call__(self, command: str) -> None:
        """Fits and says what it took, or plans."""
        from hydrajax.runs import folder

        folder.read_undivided(self.run)
        from hydrajax.runs import personalise

        _say_of_before(self.run)
        if self.plan:
            who, plans = personalise.plan(self.run, self.profile, llm=self.llm, machine=self.machine)
            print(f"{console.counted(len(who.fitted), 'user')} to personalise, {len(who.kept):,} personalised before")
            _say_headless(who.headless)
            if not plans:
                print("nothing would be asked" + (": no scorer gives users heads of their own" if who.fitted else ""))
            for plan in plans:
                console.stdout().print(run_command.plan_table(plan))
            return
        done = personalise.personalise(
            self.run, self.profile, command=command, llm=self.llm, machine=self.machine, say=console.say
        )
        if not done.fitted:
            print(f"personalised before: {console.counted(len(done.kept), 'user')}; no call was made")
            return
        cost = "" if not done.cost_usd else f", {done.cost_usd:,.2f} USD"
        what = "personalised" if any(done.heads.values()) else "kept, with no head of their own"
        print(f"{console.counted(len(done.fitted), 'user')} {what}, {len(done.kept):,} before", end=" ")
        print(f"({console.counted(done.calls, 'call')}, {console.counted(done.cached, 'answer')} from the store{cost})")
        for name, count in done.heads.items():
            rest = len(done.fitted) - count
            why = ", the others' records teach it nothing or are none" if rest else ""
            print(f"{name}: {count:,} of {len(done.fitted):,} got a head of their own{why}")
        _say_headless(done.headless)
        if done.without_records:
            print(f"without records, and so answered by the pooled head: {done.without_records:,} of them")


def _say_of_before(run: pathlib.Path) -> None:
    from hydrajax.runs import finished

    if sentence := finished.of_before(run):
        console.say(f"hydrajax: {sentence}")


def _say_headless(headless: Mapping[str, str]) -> None:
    for name, why in headless.items():
        print(f"{name}: nobody gets a head of their own: {why}")
