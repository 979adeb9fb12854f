"""The one way of a run of any kind: from its configuration to a folder that holds everything it found.

    load -> workbench -> folder -> compute -> results.json, predictions.jsonl, invocations.jsonl, report.html

A killed run goes on with the same command: answers, base features and compiled programs are kept, checkpoints too
where pretraining is long; heads on frozen features take seconds and are fitted again.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import rich.console

from hydrajax import files, plugins
from hydrajax.prompting import library
from hydrajax.runs import accounts, finished, folder, invocations, without_effect, workbench
from hydrajax.runs.config import Configuration
from hydrajax.runs.machine import Machine
from hydrajax.types import DataError

Say = Callable[[str], None]
Rows = Sequence[Mapping[str, Any]]


@runtime_checkable
class Loader(Protocol):
    """The function of a module that reads the data of a kind of run (`Configuration.loader`).

    It imports little, so that what is wrong with data is said at once.
    """

    def load(self, config: Any, say: Say) -> Any:
        """Reads the data, and says in sentences what a reader of the results should know of them.

        Raises:
          DataError: data or settings that cannot be used. Nothing is written then.
        """


@runtime_checkable
class Kind(Protocol):
    """The functions of a module that carries out a kind of run (`Configuration.module`)."""

    def compute(
        self, config: Any, data: Any, bench: workbench.Workbench, out: pathlib.Path, clock: accounts.Clock
    ) -> tuple[Rows, dict[str, Any]]:
        """The rows of `predictions.jsonl` and the contents of `results.json`; other files it writes itself."""

    def plan(self, runs: Sequence[tuple[Any, Any]], bench: workbench.Workbench) -> Sequence[accounts.Plan]:
        """What runs would ask of each LLM together, by a workbench that counts; of each its configuration and data."""

    def write_report(self, out: pathlib.Path) -> pathlib.Path:
        """Writes the report of a finished run from its folder alone; returns its path."""

    def text_table(self, results: Mapping[str, Any]) -> rich.console.RenderableType:
        """The results for a terminal."""

    def verdicts(self, results: Mapping[str, Any]) -> Sequence[str]:
        """What they show, in sentences."""


@runtime_checkable
class KindInParts(Kind, Protocol):
    """A kind whose runs may consist of parts (`Configuration.parts`)."""

    def together(
        self, config: Any, out: pathlib.Path, folders: Sequence[pathlib.Path], results: Sequence[dict[str, Any]]
    ) -> tuple[Rows, dict[str, Any]]:
        """As `compute`, from the finished folders of the run's parts and their results."""


def kind(module: str) -> Kind:
    """The module that carries out a kind of run; a DataError where there is none."""
    return cast(Kind, _module(module))


def load(config: Configuration, say: Say) -> Any:
    """The data of a run; see `Loader`."""
    return cast(Loader, _module(config.loader)).load(config, say)


def run(
    config: Configuration,
    out: pathlib.Path,
    *,
    command: str,
    machine: Machine = Machine(),  # noqa: B008 (frozen)
    say: Say = print,
) -> dict[str, Any]:
    """Runs, and writes the run folder.

    Args:
      config: what is run.
      out: the run folder; of a run with the same configuration it is continued.
      command: the exact command, kept in the folder.
      machine: where it runs.
      say: gets a line a finished stage.

    Returns:
      the contents of `results.json`.

    Raises:
      DataError: bad data, or a folder that holds something else. Nothing is written then.
      LLMError: the LLM does not answer. Answers received before are stored.
    """
    parts = config.parts()
    if parts:
        return _run_parts(config, parts, out, command=command, machine=machine, say=say)
    return _run(config, out, command=command, machine=machine, say=say)


def _run(
    config: Configuration, out: pathlib.Path, *, command: str, machine: Machine, say: Say, is_part: bool = False
) -> dict[str, Any]:
    """A run without parts."""
    clock = accounts.Clock(say)
    with clock.stage("data"):
        data = load(config, say)
    folder.check_free(out, config)
    if not is_part:
        _say_without_effect(config, machine, say)
    carries_out = kind(config.module)
    if finished.still(out, data):
        say(
            f"{out}: this run is finished, and nothing that it is made of has changed: its results are shown as they "
            f"are (to compute them again, from stored answers, remove {finished.FILE})"
        )
        carries_out.write_report(out)
        return dict(files.read_json(out / "results.json"))
    with workbench.opened(machine, config.llms, config.encoder) as bench:
        folder.prepare(out, config, command)
        before = invocations.read(out)
        why = finished.why_anew(out, data)
        if before:
            say(_found(out, before, why))
        finished.begin_anew(out, why)
        if config.encoder is not None:
            from hydrajax.nn import backends  # with JAX, which the workbench has imported

            say(f"devices: {backends.number()}")
        with invocations.noted(out, command, clock, bench.llms) as note:
            rows, results = carries_out.compute(config, data, bench, out, clock)
            with clock.stage("report"):
                note()  # the report says what all invocations have cost
                _write(carries_out, out, rows, results)
    finished.keep(out, data)
    if before:
        together = invocations.read(out)
        say(f"all {len(together)} invocations of this run together: {invocations.total(together)}")
    return results


def _run_parts(
    config: Configuration,
    parts: Sequence[Configuration],
    out: pathlib.Path,
    *,
    command: str,
    machine: Machine,
    say: Say,
) -> dict[str, Any]:
    """Every part in a folder of its own, and one report over all."""
    load(_undivided(config)[0], _unsaid)  # what cannot be run is reported before anything is written
    folder.check_free(out, config)
    _say_without_effect(config, machine, say)
    with workbench.opened(machine, config.llms, config.encoder):
        folder.prepare(out, config, command)
    finished.begin_anew(out)
    folders = [out / part.part for part in parts]
    done = sum((folder / "results.json").exists() for folder in folders)
    if any(folder.exists() for folder in folders):
        say(f"goes on in {out}: {done} of {len(parts)} parts are finished")
    results = []
    for i, (part, part_out) in enumerate(zip(parts, folders, strict=True)):
        say(f"{part.part}, {i + 1} of {len(parts)}")
        results.append(_run(part, part_out, command=command, machine=machine, say=say, is_part=True))
    carries_out = kind(config.module)
    assert isinstance(carries_out, KindInParts)
    together = _write(carries_out, out, *carries_out.together(config, out, folders, results))
    finished.end_anew(out)
    return together


def plan(
    config: Configuration,
    *,
    machine: Machine = Machine(),  # noqa: B008 (frozen)
    say: Say = print,
) -> Sequence[accounts.Plan]:
    """Counts the calls of a run without making one, stored answers left out.

    Returns:
      a plan for each LLM.
    """
    runs = [(part, load(part, _unsaid if i else say)) for i, part in enumerate(_undivided(config))]
    _say_without_effect(config, machine, say)
    with workbench.planning(machine, config.llms, config.encoder) as bench:
        return kind(config.module).plan(runs, bench)


def _found(out: pathlib.Path, before: Sequence[Mapping[str, Any]], why: str) -> str:
    """What earlier invocations left that is not done again, and why a finished run is computed anew."""
    was = "is finished already, and is computed again" if (out / "results.json").exists() else "was begun before"
    if why:
        was = f"is computed anew, {why}"
    kept = [f"{sum(line.get('calls', 0) for line in before):,} calls, whose answers are stored"]
    if models := len(files.read_lines(out / library.FILE)):
        kept.append(f"{models:,} user models")
    if fits := [path.name for path in sorted((out / finished.CHECKPOINTS).glob("*")) if path.is_dir()]:
        kept.append(f"checkpoints of {', '.join(fits)}")
    times = len(before)
    return f"this run {was} ({times} invocation{'' if times == 1 else 's'}); kept of it: {'; '.join(kept)}"


def _undivided(config: Configuration) -> list[Configuration]:
    """The runs that one consists of, the parts of its parts among them; itself where it has none."""
    return [run for part in config.parts() for run in _undivided(part)] or [config]


def _say_without_effect(config: Configuration, machine: Machine, say: Say) -> None:
    if settings := without_effect.sentence(config, machine):
        say(f"note: without effect here: {settings}")


def _unsaid(sentence: str) -> None:
    """What was said before."""


def _write(carries_out: Kind, out: pathlib.Path, rows: Rows, results: dict[str, Any]) -> dict[str, Any]:
    files.write_lines(out / "predictions.jsonl", rows)
    files.write_json(out / "results.json", results)
    carries_out.write_report(out)
    return results


def _module(name: str) -> Any:
    try:
        return plugins.imported(name)
    except ModuleNotFoundError as error:
        raise DataError(f"the module {name!r}, which carries out this kind of run, is not found ({error})") from error
