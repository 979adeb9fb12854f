"""Commands about the LLM alone: `hydrajax sample | store`; and the options that all commands with an LLM share."""

import dataclasses
import pathlib
import sys
from typing import Annotated, Literal

import rich.console
import rich.table
import tyro

from hydrajax.llm import batches, maintenance, sampler
from hydrajax.llm import store as store_lib
from hydrajax.llm.budget import Budget
from hydrajax.runs import pipeline
from hydrajax.runs import sample as sample_lib
from hydrajax.types import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Llm:
    """How an LLM is asked: options that several commands share."""

    llm: str = "local"
    """`local` (embedded SmolLM2-135M), a path to a GGUF file, a Claude model's name, `FILE.py:NAME` or
    `package.module:NAME` (an LLM of your own: `hydrajax/llm/connect.py`), or `scripted` (tests only)."""
    store: str | None = None
    """File of the LLM's answers; by default one in the user's cache folder, shared by all runs."""
    parallel: int = 64
    """Most requests to Claude under way at once; how many really are adapts to the server."""
    transport: Literal["messages", "batches"] = "messages"
    """`batches` sends Message Batches to Claude: half the price, and up to a day."""
    max_calls: int | None = None
    """Stop before this invocation makes more calls than this, with everything received kept; the same command goes on,
    and may spend as much again."""
    max_tokens: int | None = None
    """The same for tokens, of prompts and answers together."""
    max_usd: float | None = None
    """The same for US dollars."""
    key_file: str | None = None
    """File that holds the API key; by default it is taken from ANTHROPIC_API_KEY."""
    salt_file: str | None = None
    """Tell the server which requests are one user's, by a hash under this file's secret; by default nothing is said."""
    threads: int | None = None
    """Threads of the embedded LLM; by default the cores that are free when it starts."""

    def machine(self) -> pipeline.Machine:
        """Where and how the LLM is asked."""
        return pipeline.Machine(
            store=self.store,
            parallel=self.parallel,
            transport=self.transport,
            budget=Budget(calls=self.max_calls, tokens=self.max_tokens, usd=self.max_usd),
            key_file=self.key_file,
            salt_file=self.salt_file,
            threads=self.threads,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample(Llm):
    """Sample answers to requests of your own: JSON lines in, JSON lines out (`hydrajax/runs/sample.py`)."""

    input: pathlib.Path
    """Requests: {id, messages, n, max_tokens, system?, temperature?, user?} a line; users take turns. Requests that are
    equal but for id and user get the same answers: samples are told apart by their numbers alone."""
    output: pathlib.Path
    """Answers: {id, sample, text, stop_reason, input_tokens, output_tokens} a line, or {id, sample, error}; written at
    the end, when every request is answered or has failed for good."""


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


def sample(chosen: Sample) -> None:
    """Samples, prints what it took, and exits with 1 where a request failed for good."""
    machine = chosen.machine()
    transport = machine.connect(chosen.llm)
    transport.check()
    answers = store_lib.Store(machine.store)
    llm = sampler.StoredSampler(transport, answers, budget=machine.budget)
    try:
        # A batch takes its time, so as much as fits goes into one.
        portion = batches.MOST_REQUESTS if machine.transport == "batches" else sample_lib.PORTION
        found = sample_lib.sample(chosen.input, chosen.output, llm, portion=portion)
    finally:
        llm.close()
        answers.close()
    usage = llm.usage
    cost = "" if not usage.cost_usd else f", {usage.cost_usd:,.2f} USD"
    print(
        f"{found.answers:,} answers ({usage.calls:,} calls, {usage.cached:,} from the store{cost}), "
        f"{found.failures:,} failed for good",
        file=sys.stderr,
    )
    print(chosen.output)
    if found.failures:
        raise SystemExit(1)


def look_after(chosen: Store, console: rich.console.Console) -> None:
    """Does what is asked with a store, and exits with 1 where it has faults.

    Raises:
      DataError: there is no such store or file, or a file is missing or too much on the command line.
    """
    if (chosen.file is None) == (chosen.action in ("export", "import")):
        wanted = "needs a FILE" if chosen.file is None else "takes no file"
        raise DataError(f"hydrajax store {chosen.action} {wanted}")
    if chosen.action != "gc" and (chosen.model is not None or chosen.older_than_days is not None or chosen.batches):
        raise DataError(f"hydrajax store {chosen.action} takes no --model, --older-than-days or --batches; gc does")
    path = pathlib.Path(chosen.store) if chosen.store else store_lib.default_path()
    if chosen.action != "import" and not path.exists():
        raise DataError(f"{path}: there is no such store")
    if chosen.action == "import" and chosen.file is not None and not chosen.file.is_file():
        raise DataError(f"{chosen.file}: there is no such file")
    answers = store_lib.Store(path)
    try:
        if chosen.action == "stats":
            console.print(_stats_table(answers))
        elif chosen.action == "export" and chosen.file is not None:
            print(f"{maintenance.export(answers, chosen.file):,} answers written to {chosen.file}")
        elif chosen.action == "import" and chosen.file is not None:
            found = maintenance.import_lines(answers, chosen.file)
            print(f"{found.new:,} new, {found.same:,} known, {found.different:,} known with another text (kept)")
        elif chosen.action == "gc":
            removed = maintenance.collect_garbage(
                answers, model=chosen.model, older_than_days=chosen.older_than_days, batches=chosen.batches
            )
            print(
                f"removed {removed.answers:,} answers, {removed.claims:,} claims of processes that have ended and "
                f"{removed.batches:,} notes of batches without a request"
            )
        else:
            faults = maintenance.verify(answers)
            print("\n".join(faults) if faults else f"{len(answers):,} answers, no fault")
            if faults:
                raise SystemExit(1)
    finally:
        answers.close()


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
