"""`hydrajax run KIND` and `hydrajax run --config FILE.py`: tyro over the configuration of the run itself.

Settings that are not given are those of a preset, which may be given too. So the preset and the LLM are parsed first,
and the configuration with what follows from them as its defaults is parsed second.
"""

import copy
import dataclasses
import functools
import hashlib
import inspect
import json
import operator
import pathlib
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Generic, TypeVar, get_args

import rich.table
import tyro

from hydrajax import plugins, retrieval
from hydrajax.cli import console
from hydrajax.nn import families
from hydrajax.prompting import registry
from hydrajax.runs import config as config_lib
from hydrajax.runs import kinds as kinds_
from hydrajax.runs import presets
from hydrajax.runs.machine import Machine
from hydrajax.types import DataError

CHOICES = "choices.json"  # in a run's folder
NAMES = ("losses", "strategies", "tasks")  # lists of texts that hold no comma
C = TypeVar("C", bound=config_lib.Configuration)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command(Generic[C]):
    """A run, and where it runs."""

    config: Annotated[C, tyro.conf.arg(name="")]
    machine: Annotated[Machine, tyro.conf.arg(name="")] = Machine()
    out: pathlib.Path | None = None
    """The run folder; by default one under runs/ named by task and settings, so that a repeated command goes on."""
    plan: bool = False
    """Print calls, tokens and time per stage, the cost, and what training a base takes; call nothing."""

    def __call__(self, command: str) -> None:
        """Runs, and prints the table, what it shows, and where the report is; or plans."""
        from hydrajax import files
        from hydrajax.evaluation import choosing
        from hydrajax.runs import folder, run

        config = self.config.resolved()
        if self.plan:
            folder.check_free(self.out or default_folder(config), config)
            for plan in run.plan(config, machine=self.machine, say=console.say):
                console.stdout().print(plan_table(plan))
            return
        out = self.out or default_folder(config)
        results = run.run(config, out, command=command, machine=self.machine, say=console.say)
        kind = run.kind(config.module)
        console.stdout().print(kind.text_table(results))
        for sentence in kind.verdicts(results):
            console.stdout().print(sentence, markup=False)
        for sentence in choosing.sentences(files.read_json(out / CHOICES) if (out / CHOICES).is_file() else {}):
            console.stdout().print(sentence, markup=False)
        print(out / config.report)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _File:
    config: pathlib.Path | None = None
    smoke: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class _First:
    llm: str = config_lib.RunConfig.llm
    preset: str = config_lib.RunConfig.preset


def parse(arguments: Sequence[str]) -> Command:
    """The command behind `hydrajax run`.

    Raises:
      ValueError: `--config` names a file without a configuration, there is no such kind, or a setting is refused.
    """
    taken: dict[str, Any] = {"return_unknown_args": True, "add_help": False, "prog": "hydrajax run"}
    file, arguments = tyro.cli(_File, args=arguments, **taken)
    if file.config is None:
        arguments = _apart(arguments, list(kinds_.KINDS.values()))
        if file.smoke:
            raise DataError("--smoke is of configurations in files; give --config FILE.py")
        console.check_word("kind of run", arguments, kinds_.KINDS)
        first, _ = tyro.cli(_First, args=arguments, **taken)
        kinds = [_with_preset(_unfinished(kind), first) for kind in kinds_.KINDS.values()]
        # What there is to choose from is listed once: for the kind that is named, or for all of them.
        named, choices = arguments[:1], _choices(config_lib.RunConfig)
        return console.parsed(
            functools.reduce(operator.or_, (_subcommand(kind, listed=[kind.experiment] == named) for kind in kinds)),
            args=arguments,
            prog="hydrajax run",
            description="Run HYDRA with all baselines and controls, or strategies alone, and write a run folder. "
            "--config FILE.py takes the configuration that get_config(smoke=False) of a Python file returns, of any "
            f"kind, and its own options override it; with --smoke its smallest size.\n\n{choices}",
        )
    config = read(file.config, smoke=file.smoke)
    arguments = _apart(arguments, [type(config)])
    own = _First(llm=config.llm, preset=getattr(config, "preset", "auto"))
    first, _ = tyro.cli(_First, args=arguments, default=own, **taken)
    form: Any = Command[type(config)]  # type: ignore[misc]
    return console.parsed(
        form,
        args=arguments,
        default=Command(config=_with_preset(config, first)),
        prog=f"hydrajax run --config {file.config}",
        description="\n\n".join(filter(None, (inspect.getdoc(plugins.imported(str(file.config))), _document(config)))),
    )


def read(path: pathlib.Path, *, smoke: bool = False) -> config_lib.Configuration:
    """The configuration that a Python file gives: what its `get_config(smoke=False)` returns.

    The folder in which the command is given can be imported from, as with `python -m`.

    Raises:
      DataError: there is no such file, it cannot be imported, or it gives something else.
    """
    if not path.is_file():
        raise DataError(f"{path}: the file does not exist")
    if path.suffix != ".py":
        raise DataError(f"{path}: is no Python file, expected one with get_config(smoke=False)")
    try:
        module = plugins.imported(str(path))
        config = module.get_config(smoke=smoke) if hasattr(module, "get_config") else None
    except (Exception, SystemExit) as error:
        raise DataError(f"{path}: gives no configuration ({plugins.said(error)})") from error
    if not hasattr(module, "get_config"):
        raise DataError(f"{path}: the file defines no get_config")
    if not isinstance(config, config_lib.Configuration):
        raise DataError(f"{path}: get_config gives {type(config).__name__}, expected a Configuration")
    options = {field.name for form in (Machine, Command) for field in dataclasses.fields(form)} - {"config"}
    taken = options & {field.name for field in dataclasses.fields(config)}
    if taken:
        raise DataError(f"{path}: {type(config).__name__} has {', '.join(sorted(taken))}, which every run has already")
    return config


def default_folder(config: config_lib.Configuration) -> pathlib.Path:
    """Where a run goes that is not told where: the same for the same configuration."""
    digest = hashlib.sha256(json.dumps(kinds_.to_json(config), sort_keys=True).encode()).hexdigest()[:8]
    return pathlib.Path("runs") / f"{config.title}-{digest}"


def _subcommand(config: config_lib.Configuration, *, listed: bool) -> Any:
    description = _document(config) if listed else inspect.cleandoc(type(config).__doc__ or "")
    options = tyro.conf.subcommand(config.experiment, default=Command(config=config), description=description)
    return Annotated[Command[type(config)], options]  # type: ignore[misc]


def _unfinished(kind: type[C]) -> C:
    """A configuration of its kind's defaults; what has to be given is marked as missing, which no type allows."""
    config = object.__new__(kind)
    for field in dataclasses.fields(kind):
        default = tyro.MISSING if field.default is dataclasses.MISSING else field.default
        object.__setattr__(config, field.name, default)
    return config


def _with_preset(config: C, first: _First) -> C:
    """The configuration with what the preset says for the LLM that are given; what it has of its own it keeps."""
    if not isinstance(config, config_lib.RunConfig):
        return config
    # What is no preset is refused with everything else.
    preset = first.preset if first.preset in get_args(presets.Preset) else config.preset
    changed, before = copy.copy(config), config.of_preset(config.llm, config.preset)
    for name, value in config.of_preset(first.llm, preset).items():
        has_own = getattr(config, name) not in (None, before.get(name))
        if not has_own or preset != config.preset:
            object.__setattr__(changed, name, value)
    return changed


def _document(config: config_lib.Configuration) -> str:
    return "\n\n".join(filter(None, (inspect.cleandoc(type(config).__doc__ or ""), _choices(type(config)))))


def _choices(kind: type[config_lib.Configuration]) -> str:
    """What there is to choose from by name in a kind of run."""
    parts = []
    if "strategies" in kind.__dataclass_fields__ or issubclass(kind, config_lib.RunConfig):
        parts.append(_listed("prompt strategies", registry.summaries()))
    if issubclass(kind, config_lib.RunConfig):
        parts.append(_listed("head families", families.summaries()))
        parts.append(_listed("retrievers", retrieval.summaries()))
    return "\n\n".join(parts)


def _apart(arguments: Sequence[str], kinds: Sequence[type]) -> list[str]:
    """The arguments with lists of names and numbers that are joined by commas taken apart: `a,b` is `a b`."""
    lists = {name for kind in kinds for name in _lists(kind)}
    apart: list[str] = []
    inside = False
    for argument in arguments:
        option, is_, value = argument.partition("=")
        if option.startswith("--"):
            inside = option.replace("_", "-") in lists
            if not (inside and is_):
                apart.append(argument)
                continue
            apart.append(option)
            argument = value
        apart += [part.strip() for part in argument.split(",") if part.strip()] if inside else [argument]
    return apart


def _lists(kind: type, place: str = "--") -> list[str]:
    """The options of a configuration that take lists of names or numbers, in which no comma stands."""
    found = []
    for name, hint in typing.get_type_hints(kind).items():
        if name not in {field.name for field in dataclasses.fields(kind)}:
            continue
        if dataclasses.is_dataclass(hint):
            found += _lists(typing.cast(type, hint), f"{place}{name.replace('_', '-')}.")
        elif typing.get_origin(hint) is tuple and (name in NAMES or typing.get_args(hint)[0] is not str):
            found += [f"{place}{name.replace('_', '-')}", f"--{name.replace('_', '-')}"]
    return found


def _listed(title: str, summaries: Mapping[str, str]) -> str:
    return "\n".join([f"{title}:", *(f"  {name}: {summary}" for name, summary in summaries.items())])


def plan_table(plan: Any) -> rich.table.Table:
    """What would be asked of one LLM, stage by stage."""
    table = rich.table.Table(title=f"{plan.model}: nothing was called")
    for name in ("stage", "calls", "stored", "tokens in", "of them fresh", "tokens out", "minutes"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    counts = {
        name: (stage.calls, stage.cached, stage.input_tokens, stage.fresh_input_tokens, stage.output_tokens)
        for name, stage in plan.stages.items()
    }
    for name, numbers in counts.items():
        table.add_row(name, *(f"{n:,}" for n in numbers), f"{plan.seconds[name] / 60:.1f}")
    seconds = sum(plan.seconds.values())
    table.add_section()
    totals = [f"{sum(column):,}" for column in zip(*counts.values(), strict=True)]
    table.add_row("all", *totals, f"{seconds / 60:.1f}")
    cost = "price unknown" if plan.cost_usd is None else f"{plan.cost_usd:,.2f} USD"
    lines = [f"about {seconds / 3600:.1f} h of calls ({seconds / 60:.0f} min), {cost}"]
    if any(low < high for low, high in (plan.calls, plan.tokens)):
        calls, tokens = (f"{_range(*getattr(plan, what))} {what}" for what in ("calls", "tokens"))
        lines.append(f"about {calls} and {tokens} in all, by how many records and which ones will be chosen")
    if any(stage.calls for stage in plan.stages.values()):
        lines.append(f"tokens out: by the length that answers of {plan.model} have had so far, or usually have")
    if plan.asking_on:
        lines.append(f"a guess, since they ask on by what answers say: the calls of {', '.join(plan.asking_on)}")
    if plan.training is not None:
        lines.append(_training(plan.training))
    lines.append(
        "stored: answered without a call; fresh: without the beginning that a prompt shares with the one before it"
    )
    table.caption = "\n".join(lines)
    return table


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _training(training: Any) -> str:
    from hydrajax.evaluation.report import parts

    tokens = "" if training.tokens is None else f", {training.tokens:,} tokens"
    took = "not timed"
    if training.seconds is not None:
        least, most = (parts.duration(seconds) for seconds in training.seconds)
        took = (
            f"roughly {least} to {most} here, by how fast it multiplies matrices, and a minute or two of compiling each"
        )
    return (
        f"beside that, {console.counted(training.fits, 'training')} of a base: at most "
        f"{console.counted(training.examples, 'example')}, {console.counted(training.epochs, 'epoch')}{tokens}; {took}"
    )
