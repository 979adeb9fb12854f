"""The command line: `hydrajax run | report | answer`, and what the files `cli_*` add. It parses, calls, prints."""

import dataclasses
import hashlib
import json
import logging
import os
import pathlib
import shlex
import sqlite3
import sys
from collections.abc import Sequence
from typing import Annotated, Literal

import rich.console
import rich.table
import tyro

from hydrajax import cli_hyperalign, cli_llm, cli_user_models
from hydrajax.llm import planner, request
from hydrajax.methods import settings as settings_lib
from hydrajax.runs import books, pipeline
from hydrajax.runs import config as config_lib
from hydrajax.training import fit
from hydrajax.types import DataError

Preset = Literal["auto", "small", "default", "paper", "demo"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Common(cli_llm.Llm):
    base: str = "minilm"
    """The base encoder: `minilm`, or a Hugging Face folder (BERT, RoBERTa, MPNet, Longformer or ModernBERT)."""
    pooling: Literal["cls", "mean"] | None = None
    """How the base's vectors become one: the first token's (HYDRA's) or their mean; by default what its folder says."""
    base_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the base's products; bfloat16 is faster on TPU and GPU, and is not on CPU."""
    preset: Preset = "auto"
    """Sizes: `small` suits a small local LLM, `default` has the paper's sizes but 4 pseudo-queries a user, `paper` asks
    every record; all of them learn on a frozen base. `auto` takes `small` for a local LLM and `default` for Claude.
    Single settings override it."""
    settings: settings_lib.Settings = settings_lib.Settings()
    """Retrieval, sampling and what is learned from."""
    scorer: fit.FitConfig = fit.FitConfig()
    """The heads of reranker and adapter; loss and epochs are chosen on validation users. Settings of a family stand
    behind a colon: --scorer.family low_rank_mlp:rank=4"""
    reranker_family: str | None = None
    """The head family of the reranker alone; by default that of the scorer."""
    adapter_family: str | None = None
    """The head family of the adapter alone; by default that of the scorer."""
    losses: tuple[str, ...] = ("cross_entropy", "pairwise")
    """Losses to choose among."""
    epochs: tuple[int, ...] = config_lib.selection.EPOCHS
    """Epochs of personalisation to choose among; 0 is the pooled head."""
    seed: int = 0
    """Of every draw and initialisation. Stored answers of the LLM are shared by all seeds."""
    out: pathlib.Path | None = None
    """The run folder; by default one under runs/ named by task and settings, so that a repeated command goes on."""
    plan: bool = False
    """Print calls, tokens, time and cost per stage, and call nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demo(_Common):
    """Simulated users with planted preferences, answered by the embedded LLM: no data, no key, minutes."""

    scorer: fit.FitConfig = fit.FitConfig(family="linear")
    """The heads of reranker and adapter."""
    losses: tuple[str, ...] = ("pairwise",)
    """Losses to choose among."""
    epochs: tuple[int, ...] = (1,)
    """Epochs of personalisation to choose among; by default everybody gets a head, which is fitted exactly."""

    train_users: int = 5
    """Users who train the scorers."""
    dev_users: int = 30
    """New users, who are reported."""
    queries_per_user: int = 2
    """Questions of each."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lamp(_Common):
    """A task of the LaMP benchmark, from a folder of its JSON files."""

    task: str
    """LaMP_1, LaMP_2N, LaMP_2M, LaMP_3, ... LaMP_7."""
    data_dir: str | None = None
    """Folder with TASK/train_questions.json, train_outputs.json, dev_questions.json, dev_outputs.json; without it the
    benchmark's user split is downloaded (through TFDS) and kept."""
    train_users: int | None = 100
    """Users who train what is shared (the paper: 100)."""
    dev_users: int | None = 50
    """New users, who are reported (the paper: 50)."""
    queries_per_user: int | None = None
    """At most so many questions of each user."""
    folds: int = 0
    """Re-divide all users into so many folds and clean each; 0 keeps train and dev."""
    fold: int | None = None
    """Which fold is held out; by default each in turn, with one report over all users."""
    skip_bad: bool = False
    """List and skip bad items instead of refusing the data."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Custom(Lamp):
    """A task of one's own: --task is a TOML file that declares it, --data-dir holds train.jsonl and dev.jsonl."""

    train_users: int | None = None
    """Users who train what is shared; by default all."""
    dev_users: int | None = None
    """New users, who are reported; by default all."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Print a run's table and write its report.html again."""

    run: Annotated[pathlib.Path, tyro.conf.Positional]
    """The run folder."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """Use a trained run: retrieve, rerank, sample, adapt, and print the answer."""

    run: Annotated[pathlib.Path, tyro.conf.Positional]
    """The folder of a finished run."""
    user: str
    """A user of the run's data; anybody else is answered without a profile."""
    input: str
    """What is asked, without the task's instruction."""
    explain: bool = False
    """Also print the records shown, the candidates and their scores."""
    llm: str | None = None
    """Another LLM than the run's."""
    store: str | None = None
    """File of the LLM's answers."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exits with 2 and one clear sentence on bad input, with 130 when interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _log_to_stderr(os.environ.get("HYDRAJAX_LOG", "INFO"))
    try:
        chosen = tyro.cli(
            _commands(arguments),
            args=arguments,
            prog="hydrajax",
            description="Personalise a black-box LLM: learn which records to show it and which answer to take.",
            config=(tyro.conf.OmitSubcommandPrefixes,),
        )
        _carry_out(chosen, arguments)
    except (DataError, request.LLMError, ValueError) as error:
        print(f"hydrajax: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        print(f"hydrajax: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(2) from None
    except sqlite3.Error as error:
        print(f"hydrajax: the store cannot be used any more ({error}); what it holds is kept", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("hydrajax: interrupted; every answer received is stored, the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None


def _log_to_stderr(level: str) -> None:
    """The package's own log; others set up the root logger as they please when they are imported."""
    own = logging.getLogger("hydrajax")
    if level.upper() not in logging.getLevelNamesMapping():
        valid = "DEBUG, INFO, WARNING, ERROR"
        print(f"hydrajax: HYDRAJAX_LOG is {level!r}, expected one of {valid}", file=sys.stderr)
        raise SystemExit(2)
    own.setLevel(level.upper())
    own.handlers = [logging.StreamHandler(sys.stderr)]
    own.handlers[0].setFormatter(logging.Formatter("hydrajax: %(message)s"))
    own.propagate = False


def _commands(arguments: Sequence[str]):
    """The type to parse, its defaults those of the preset that the arguments name."""
    settings = settings_lib.PRESETS[_preset(arguments)]
    demo = settings_lib.DEMO if _option(arguments, "--preset") in (None, "auto") else settings

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Run:
        """Train and evaluate HYDRA with all baselines and controls, and write a run folder."""

        experiment: (
            Annotated[Demo, tyro.conf.subcommand("demo", default=Demo(settings=demo))]
            | Annotated[Lamp, tyro.conf.subcommand("lamp", default=_defaults(Lamp, settings))]
            | Annotated[Custom, tyro.conf.subcommand("custom", default=_defaults(Custom, settings))]
            | Annotated[cli_hyperalign.HyperAlign, tyro.conf.subcommand("hyperalign")]
        )

    return (
        Annotated[Run, tyro.conf.subcommand("run")]
        | Annotated[Report, tyro.conf.subcommand("report")]
        | Annotated[Answer, tyro.conf.subcommand("answer")]
        | Annotated[cli_llm.Sample, tyro.conf.subcommand("sample")]
        | Annotated[cli_llm.Store, tyro.conf.subcommand("store")]
        | Annotated[cli_user_models.UserModels, tyro.conf.subcommand("user-models")]
    )


def _defaults(kind: type[Lamp], settings: settings_lib.Settings) -> Lamp:
    return kind(task=tyro.MISSING, settings=settings)


def _option(arguments: Sequence[str], name: str) -> str | None:
    """The option's value, the last one where it is given twice (as the parser takes it); None where it is not given."""
    found = None
    for i, argument in enumerate(arguments):
        if argument == name and i + 1 < len(arguments):
            found = arguments[i + 1]
        elif argument.startswith(name + "="):
            found = argument.split("=", 1)[1]
    return found


def _preset(arguments: Sequence[str]) -> str:
    preset = _option(arguments, "--preset") or "auto"
    if preset in settings_lib.PRESETS:
        return preset
    return "default" if (_option(arguments, "--llm") or "local").startswith("claude") else "small"


def _carry_out(chosen, arguments: Sequence[str]) -> None:
    console = rich.console.Console() if sys.stdout.isatty() else rich.console.Console(soft_wrap=True, width=200)
    if isinstance(chosen, Report) and cli_hyperalign.holds_run(chosen.run):
        cli_hyperalign.report(chosen.run, console)
    elif isinstance(chosen, Report):
        from hydrajax import files
        from hydrajax.evaluation import summary
        from hydrajax.evaluation.report import page

        path = page.write_report(chosen.run)
        console.print(summary.text_table(files.read_json(chosen.run / "results.json")))
        print(path)
    elif isinstance(chosen, Answer):
        _answer(chosen, console)
    elif isinstance(chosen, cli_llm.Sample):
        cli_llm.sample(chosen)
    elif isinstance(chosen, cli_llm.Store):
        cli_llm.look_after(chosen, console)
    elif isinstance(chosen, cli_user_models.UserModels):
        cli_user_models.look_after(chosen, console)
    elif isinstance(chosen.experiment, cli_hyperalign.HyperAlign):
        _write_in_style(chosen.experiment, shlex.join(["hydrajax", *arguments]), console)
    else:
        _run(chosen.experiment, shlex.join(["hydrajax", *arguments]), console)


def _write_in_style(chosen: cli_hyperalign.HyperAlign, command: str, console: rich.console.Console) -> None:
    if chosen.plan:
        from hydrajax.runs import authorship

        for plan in authorship.plan(chosen.config(), machine=chosen.machine()):
            console.print(_plan_table(plan))
    else:
        cli_hyperalign.run(chosen, command, console)


def _run(experiment: _Common, command: str, console: rich.console.Console) -> None:
    from hydrajax.evaluation import summary

    config = _run_config(experiment)
    machine = experiment.machine()
    if experiment.plan:
        for sentence in pipeline.left_out(config):
            print(sentence, file=sys.stderr)
        console.print(_plan_table(pipeline.plan(config, machine=machine)))
        return
    digest = hashlib.sha256(json.dumps(config_lib.to_json(config), sort_keys=True).encode()).hexdigest()[:8]
    out = experiment.out or pathlib.Path("runs") / f"{pathlib.Path(config.task).stem}-{digest}"
    found = pipeline.run(
        config, out, command=command, machine=machine, say=lambda line: print(line, file=sys.stderr, flush=True)
    )
    console.print(summary.text_table(found))
    for sentence in summary.verdicts(found):
        console.print(sentence)
    print(out / "report.html")


def _run_config(experiment: _Common) -> config_lib.RunConfig:
    shared = {field.name for field in dataclasses.fields(config_lib.RunConfig)}
    values = {f.name: getattr(experiment, f.name) for f in dataclasses.fields(experiment) if f.name in shared}
    values.setdefault("task", "demo")
    kinds: dict[type, Literal["demo", "lamp", "custom"]] = {Demo: "demo", Lamp: "lamp", Custom: "custom"}
    return config_lib.with_absolute_paths(config_lib.RunConfig(experiment=kinds[type(experiment)], **values))


def _plan_table(plan: books.Plan) -> rich.table.Table:
    table = rich.table.Table(title=f"{plan.model}: nothing was called")
    for name in ("stage", "calls", "stored", "tokens in", "of them fresh", "tokens out"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for name, stage in plan.stages.items():
        numbers = (stage.calls, stage.cached, stage.input_tokens, stage.fresh_input_tokens, stage.output_tokens)
        table.add_row(name, *(f"{n:,}" for n in numbers))
    total = [sum(getattr(s, f.name) for s in plan.stages.values()) for f in dataclasses.fields(planner.StagePlan)]
    table.add_section()
    table.add_row("all", *(f"{n:,}" for n in total))
    cost = "price unknown" if plan.cost_usd is None else f"{plan.cost_usd:,.2f} USD"
    least, most = plan.tokens
    table.caption = (
        f"about {plan.seconds / 3600:.1f} h of calls ({plan.seconds / 60:.0f} min), {cost}\n"
        + (f"{least:,} to {most:,} tokens in all, by the number of records that is chosen\n" if least < most else "")
        + "stored: answered without a call; fresh: without the beginning that a prompt shares with the one before it"
    )
    return table


def _answer(chosen: Answer, console: rich.console.Console) -> None:
    from hydrajax.runs import answer

    machine = pipeline.Machine(store=chosen.store)
    found = answer.answer(chosen.run, chosen.user, chosen.input, llm=chosen.llm, machine=machine)
    if not found.known:
        print(f"hydrajax: {chosen.user!r} is no user of this run: answered without a profile", file=sys.stderr)
    print(found.text)
    if not chosen.explain:
        return
    head = "the user's own head" if found.personal else "the pooled head (the user has none)"
    console.print(f"\nchosen by {head}")
    for record in found.records:
        console.print(f"record {record.id}: {' | '.join(record.fields.values())}", markup=False)
    for candidate, score in sorted(zip(found.candidates, found.scores, strict=True), key=lambda pair: -pair[1]):
        console.print(f"{score:+8.3f}  {candidate.votes}x  {candidate.text}", markup=False)


if __name__ == "__main__":
    main()
