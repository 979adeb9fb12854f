"""`hydrajax sample` and `hydrajax store`: commands about the LLM alone."""

import contextlib
import dataclasses
import pathlib
from typing import Annotated, Literal

import rich.table
import tyro

from hydrajax.cli import console
from hydrajax.llm import maintenance
from hydrajax.llm import store as store_lib
from hydrajax.runs.machine import Machine
from hydrajax.types import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """Sample answers to requests of your own: JSON lines in, JSON lines out."""

    llm: str = "local"
    """`local` (embedded SmolLM2-135M), a path to a GGUF file, a Claude model's name, `FILE.py:NAME` or
    `package.module:NAME` (an LLM of your own: see docs/extending.md), or `scripted` (no LLM: it
    draws answers from the words and labels of the prompt, so that a task of your own can be tried out in minutes)."""
    input: pathlib.Path
    """Requests: {id, messages, n, max_tokens, system?, temperature?, user?} a line; users take turns. Requests that are
    equal but for id and user get the same answers: samples are told apart by their numbers alone."""
    output: pathlib.Path
    """Answers: {id, sample, text, stop_reason, input_tokens, output_tokens} a line, or {id, sample, error}; written at
    the end, when every request is answered or has failed for good."""
    machine: Annotated[Machine, tyro.conf.arg(name="")] = Machine()

    def __call__(self, command: str) -> None:
        """Samples, prints what it took, and exits with 1 where a request failed for good."""
        from hydrajax.llm import batches, sampler
        from hydrajax.runs import sample, workbench

        # A batch takes its time, so as much as fits goes into one.
        portion = batches.MOST_REQUESTS if self.machine.transport == "batches" else sample.PORTION
        with workbench.opened(self.machine, [self.llm]) as bench:
            (asking,) = bench.llms
            assert isinstance(asking, sampler.StoredSampler)
            answers, failures = sample.sample(self.input, self.output, asking, portion=portion)
        usage = bench.llm.usage
        cost = "" if not usage.cost_usd else f", {usage.cost_usd:,.2f} USD"
        paid = f"{console.counted(usage.calls, 'call')}, {usage.cached:,} from the store{cost}"
        console.say(f"{console.counted(answers, 'answer')} ({paid}), {failures:,} failed for good")
        print(self.output)
        if failures:
            raise SystemExit(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Store:
    """Look after the store of answers: `stats`, `export FILE`, `import FILE`, `verify`, `gc`."""

    action: Annotated[Literal["stats", "export", "import", "verify", "gc"], tyro.conf.Positional]
    """What to do: count; copy out; take in what was copied out; look for faults; remove."""
    file: Annotated[pathlib.Path | None, tyro.conf.Positional] = None
    """Of export and import: JSON lines."""
    store: str | None = None
    """The store's file; by default the one in the user's cache folder."""
    model: str | None = None
    """gc: remove the answers of this model."""
    older_than_days: float | None = None
    """gc: remove answers older than this."""
    batches: bool = False
    """gc: forget batches under way; their requests are sent, and paid for, again."""

    def __call__(self, command: str) -> None:
        """Does what is asked with a store, and exits with 1 where it has faults.

        Raises:
          DataError: there is no such store or file, or a file is missing or too much on the command line.
        """
        if (self.file is None) == (self.action in ("export", "import")):
            wanted = "needs a FILE" if self.file is None else "takes no file"
            raise DataError(f"hydrajax store {self.action} {wanted}")
        if self.action != "gc" and (self.model is not None or self.older_than_days is not None or self.batches):
            raise DataError(f"hydrajax store {self.action} takes no --model, --older-than-days or --batches; gc does")
        path = pathlib.Path(self.store) if self.store else store_lib.default_path()
        if self.action != "import" and not path.exists():
            raise DataError(f"{path}: there is no such store")
        if self.action == "import" and self.file is not None and not self.file.is_file():
            raise DataError(f"{self.file}: there is no such file")
        reads = self.action in ("stats", "export", "verify")
        with contextlib.closing(store_lib.Store(path, read_only=reads, must_exist=self.action != "import")) as answers:
            if self.action == "stats":
                console.stdout().print(_stats_table(answers))
            elif self.action == "export" and self.file is not None:
                print(f"{console.counted(maintenance.export(answers, self.file), 'answer')} written to {self.file}")
            elif self.action == "import" and self.file is not None:
                taken = maintenance.import_lines(answers, self.file)
                print(f"{taken.new:,} new, {taken.same:,} known, {taken.different:,} known with another text (kept)")
            elif self.action == "gc":
                removed = maintenance.collect_garbage(
                    answers, model=self.model, older_than_days=self.older_than_days, batches=self.batches
                )
                claims = f"{console.counted(removed.claims, 'claim')} of processes that have ended"
                notes = f"{console.counted(removed.batches, 'note')} of batches without a request"
                print(f"removed {console.counted(removed.answers, 'answer')}, {claims} and {notes}")
            else:
                faults = maintenance.verify(answers)
                print("\n".join(faults) if faults else f"{console.counted(len(answers), 'answer')}, no fault")
                if faults:
                    raise SystemExit(1)


def _stats_table(answers: store_lib.Store) -> rich.table.Table:
    table = rich.table.Table(title=str(answers.path))
    for name in ("model", "answers", "refused", "cut off", "empty", "tokens in", "tokens out", "USD"):
        table.add_column(name, justify="left" if name == "model" else "right", no_wrap=True, overflow="ignore")
    for row in maintenance.stats(answers):
        counts = (row.answers, row.refused, row.truncated, row.empty, row.input_tokens, row.output_tokens)
        cost = "unknown" if row.cost_usd is None else f"{row.cost_usd:,.{2 if row.cost_usd >= 1 else 4}f}"
        table.add_row(row.model, *(f"{n:,}" for n in counts), cost)
    attempts = ", ".join(f"{outcome} {count:,}" for outcome, count in sorted(answers.attempts().items()))
    table.caption = f"attempts: {attempts or 'none noted'}"
    return table
