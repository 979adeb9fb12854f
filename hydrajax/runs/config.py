"""What a run is: one frozen configuration, whose fields are the options of the command line, kept in the run's folder.

A kind of run is a subclass of `Configuration`, here or anywhere else, and the modules that it names, with the functions
of `runs.run.Loader` and `runs.run.Kind`. Nothing here imports JAX or an LLM's client: the command line reads it to
print its help.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, TypeVar

from hydrajax import plugins
from hydrajax.methods import settings as settings_lib
from hydrajax.nn import families
from hydrajax.prompting import registry
from hydrajax.runs import presets
from hydrajax.training import config as fit_config
from hydrajax.types import check_least, check_once, check_types

C = TypeVar("C", bound="Configuration")
OF_PRESET: Any = None  # the default of what the preset says, see `RunConfig.of_preset`
# Fields of a fit that a run decides, and how.
SAID_BY_RUN = {
    "train_base": "in a run it is --train-base",
    "micro_batch": "in a run it is --micro-batch",
    "loss": "in a run it is --losses",
    "seed": "in a run it is --seed",
    "fit_bank": "but in a run training users get heads of their own once it is known how",
}
LISTS = ("strategies", "losses", "epochs", "tasks", "pools", "families")  # fields of kinds of run
LEAST_PAIR_TOKENS = 8  # a token of each text and two more, beside what a tokenizer puts around them
HIGHEST_TEMPERATURE = {True: 1.0, False: 2.0}  # of Claude, and of others


@dataclasses.dataclass(frozen=True, kw_only=True)
class Base:
    """A base encoder, and how it is used.

    Attributes:
      name: `minilm`, or a Hugging Face folder.
      pooling: `cls` or `mean`, how its vectors become one; None for what its folder says.
      dtype: type of its products.
      max_pair_tokens: longest encoding of a pair; None for as many tokens as the base takes.
      remat: while it learns, layers are computed again in the backward pass.
    """

    name: str = "minilm"
    pooling: str | None = None
    dtype: str = "float32"
    max_pair_tokens: int | None = 256
    remat: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Configuration:
    """What every run is told.

    A field that does not take part in comparisons only says where the values of others come from: it is not kept.

    Attributes:
      experiment: the kind of run, as `config.json` names it.
      loader: the module that reads its data.
      module: the module that carries it out, imported when it does (`runs.run.Kind`).
      report: the file of its folder that a reader opens.
    """

    experiment: ClassVar[str]
    loader: ClassVar[str]
    module: ClassVar[str]
    report: ClassVar[str] = "report.html"

    llm: str = "local"
    """`local` (embedded SmolLM2-135M), a path to a GGUF file, a Claude model's name, `FILE.py:NAME` or
    `package.module:NAME` (an LLM of your own: see docs/extending.md), or `scripted` (no LLM: it
    draws answers from the words and labels of the prompt, so that a task of your own can be tried out in minutes)."""
    base: str = "minilm"
    """The base encoder: `minilm`, or a Hugging Face folder (BERT, RoBERTa, MPNet, Longformer or ModernBERT)."""
    seed: int = 0
    """Of every draw and initialisation. Stored answers of the LLM are shared by all seeds."""

    def __post_init__(self):
        check_types(self)
        check_least(self, seed=0)
        if isinstance(strategies := getattr(self, "strategies", None), tuple):
            object.__setattr__(self, "strategies", registry.apart(strategies))
        check_once(self, *LISTS)

    @property
    def title(self) -> str:
        """What the run's folder is called, before the digest of the settings."""
        return self.experiment

    @property
    def part(self) -> str:
        """What it is called as a part of another run, and its folder there."""
        return self.title

    @property
    def llms(self) -> tuple[str, ...]:
        """The LLMs that are asked: the one that answers, then others."""
        return (self.llm,)

    @property
    def encoder(self) -> Base | None:
        """The base with its settings; None for a run that needs none."""
        return Base(name=self.base)

    def parts(self) -> Sequence["Configuration"]:
        """The runs that this one consists of, each with a folder of its own; none where it is one by itself."""
        return ()

    def resolved(self: C) -> C:
        """The same with absolute paths, so that the run's folder can be used from anywhere."""
        return dataclasses.replace(self, **self.paths())

    def paths(self) -> dict[str, Any]:
        """The fields that hold paths, with these made absolute."""
        return {
            "llm": plugins.absolute(self.llm),
            "base": str(pathlib.Path(self.base).resolve()) if pathlib.Path(self.base).is_dir() else self.base,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(Configuration):
    """HYDRA with all baselines and controls: what its kinds have in common.

    Of the preset, where they are not given: `settings`, `scorer`, `losses`, `epochs`, `pooling`, `max_pair_tokens`.
    """

    loader: ClassVar[str] = "hydrajax.runs.load"
    module: ClassVar[str] = "hydrajax.runs.lamp"
    of_auto: ClassVar[str | None] = None

    train_users: int | None = None
    """Users who train what is shared; by default all."""
    dev_users: int | None = None
    """New users, who are reported; by default all."""
    queries_per_user: int | None = None
    """At most so many questions of each user."""
    pooling: Literal["cls", "mean"] | None = None
    """How the base's vectors become one: the first token's (HYDRA's, in preset `paper`) or their mean; by default what
    its folder says."""
    base_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the base's products; bfloat16 is faster on TPU and GPU, and is not on CPU."""
    max_pair_tokens: int | Literal["base"] = OF_PRESET
    """Longest encoding of a pair of texts; `base` for as many tokens as the base takes."""
    train_base: bool = OF_PRESET
    """Train the base together with the heads of all training users, one for the reranker and one for the adapter; new
    users' heads are then fitted on it as it stands. How: --scorer.base-learning-rate and its like."""
    micro_batch: int | None = None
    """With --train-base: examples that go through the base at once, for long texts; an update is still of a whole
    batch. By default all of it, on a CPU as many as hold 4,096 tokens."""
    remat: bool = False
    """With --train-base: compute layers again in the backward pass, which takes longer and less memory."""
    preset: presets.Preset = dataclasses.field(default="auto", compare=False)
    """Sizes and fits: `small` suits a small local LLM, `default` has the paper's sizes but 4 pseudo-queries a user,
    `paper` has all that is HYDRA's own, a base that is trained among it. `auto` takes `small` for a local LLM and
    `default` for Claude. Single settings override it."""
    settings: settings_lib.Settings = OF_PRESET
    """Retrieval, sampling and what is learned from."""
    scorer: fit_config.FitConfig = OF_PRESET
    """The heads of reranker and adapter; loss and epochs are chosen on validation users. Settings of a family stand
    behind a colon: --scorer.family low_rank_mlp:rank=4"""
    reranker_family: str | None = None
    """The head family of the reranker alone; by default that of the scorer."""
    adapter_family: str | None = None
    """The head family of the adapter alone; by default that of the scorer."""
    losses: tuple[str, ...] = OF_PRESET
    """Losses to choose among: `cross_entropy` of each candidate's label, `pairwise` for the order of any two of a pool,
    `regression` on the quality inside a pool, `listwise` for the choice of a pool's best, `distillation` of how much
    better it is, and for ratings `ordinal`, the adapter's cumulative logits with the choice by least expected error."""
    epochs: tuple[int, ...] = OF_PRESET
    """Epochs of personalisation to choose among; 0 is the pooled head."""

    def __post_init__(self):
        super().__post_init__()
        for name, value in self.of_preset(self.llm, self.preset).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if not self.losses:
            raise ValueError(f"losses is empty, expected some of {', '.join(fit_config.LOSSES)}")
        if not self.epochs or min(self.epochs) < 0:
            given = ", ".join(map(str, self.epochs)) or "empty"
            raise ValueError(f"epochs is {given}, expected one number or more, from 0 up")
        choices = {"losses": self.losses, "epochs": self.epochs, "settings.shown": self.settings.shown}
        open_ = [f"{name} {values}" for name, values in choices.items() if len(values) > 1]
        if open_ and not self.settings.validation:
            raise ValueError(
                f"settings.validation is 0, expected users to choose with among {' and '.join(open_)}, or one of each"
            )
        check_least(self, train_users=1, dev_users=1, queries_per_user=1)
        if self.max_pair_tokens != "base":
            check_least(self, max_pair_tokens=LEAST_PAIR_TOKENS)
        check_temperature(self.llm, self.settings.temperature, "settings.temperature")
        for name, of_run in SAID_BY_RUN.items():
            if (given := getattr(self.scorer, name)) != getattr(fit_config.FitConfig, name):
                raise ValueError(f"scorer.{name} is {given}, {of_run}")
        of_presets = {None, *(fits["scorer"].epochs for fits in presets.PRESETS.values())}
        if self.scorer.epochs not in of_presets and self.epochs != (self.scorer.epochs,):
            raise ValueError(f"scorer.epochs is {self.scorer.epochs}, in a run it is --epochs")
        for field in dataclasses.fields(fit_config.FitConfig):
            given = getattr(self.scorer, field.name)
            if field.name.startswith("base_") and given != field.default and not self.train_base:
                raise ValueError(
                    f"scorer.{field.name} is {given}, but the base is frozen: it is of a base that is trained "
                    "(--train-base)"
                )
        if self.remat and not self.train_base:
            raise ValueError("remat is True, but the base is frozen: it is of a base that is trained")
        for loss in self.losses:
            for family in (self.reranker_family, self.adapter_family):
                fit_config.check(dataclasses.replace(self.fit, loss=loss, family=family or self.scorer.family))

    @property
    def encoder(self) -> Base:
        return Base(
            name=self.base,
            pooling=self.pooling,
            dtype=self.base_dtype,
            max_pair_tokens=None if self.max_pair_tokens == "base" else self.max_pair_tokens,
            remat=self.remat,
        )

    @property
    def fit(self) -> fit_config.FitConfig:
        """How scorers are fitted, the base too."""
        return dataclasses.replace(self.scorer, train_base=self.train_base, micro_batch=self.micro_batch)

    def paths(self) -> dict[str, Any]:
        settings = dataclasses.replace(
            self.settings,
            retriever=plugins.absolute(self.settings.retriever),
            strategies=tuple(map(plugins.absolute, self.settings.strategies)),
        )
        return super().paths() | {
            "settings": settings,
            "scorer": dataclasses.replace(self.scorer, family=families.absolute(self.scorer.family)),
            "reranker_family": self.reranker_family and families.absolute(self.reranker_family),
            "adapter_family": self.adapter_family and families.absolute(self.adapter_family),
        }

    @property
    def split(self) -> str:
        """Who is reported."""
        return "dev"

    @classmethod
    def of_preset(cls, llm: str, preset: str) -> dict[str, Any]:
        """What a preset says, by field, for an LLM."""
        if preset == "auto":
            return presets.PRESETS[cls.of_auto or ("default" if llm.startswith("claude") else "small")]
        return presets.PRESETS[preset]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demo(RunConfig):
    """Simulated users with planted preferences, answered by the embedded LLM: no data, no key, minutes."""

    experiment: ClassVar[str] = "demo"
    of_auto: ClassVar[str | None] = "demo"

    train_users: int = 5
    """Users who train the scorers."""
    dev_users: int = 30
    """New users, who are reported."""
    queries_per_user: int = 2
    """Questions of each."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lamp(RunConfig):
    """A task of the LaMP benchmark, from a folder of its JSON files."""

    experiment: ClassVar[str] = "lamp"

    task: str
    """LaMP_1, LaMP_2N, LaMP_2M, LaMP_3, ... LaMP_7."""
    data_dir: str | None = None
    """Folder with TASK/train_questions.json, train_outputs.json, dev_questions.json, dev_outputs.json; without it the
    benchmark's user split is downloaded (through TFDS) and kept."""
    train_users: int | None = 100
    """Users who train what is shared (the paper: 100)."""
    dev_users: int | None = 50
    """New users, who are reported (the paper: 50)."""
    folds: int = 0
    """Re-divide all users into so many folds and clean each; 0 keeps train and dev."""
    fold: int | None = None
    """Which fold is held out; by default each in turn, with one report over all users."""
    skip_bad: bool = False
    """List and skip bad items instead of refusing the data."""

    def __post_init__(self):
        super().__post_init__()
        if self.folds < 0 or self.folds == 1:
            raise ValueError(f"folds is {self.folds}, expected 0 (the given train and dev) or at least 2")
        if self.fold is not None and not 0 <= self.fold < self.folds:
            valid = f"0 to {self.folds - 1}" if self.folds else "none without --folds"
            raise ValueError(f"fold is {self.fold}, expected {valid}")

    @property
    def title(self) -> str:
        return pathlib.Path(self.task).stem

    @property
    def part(self) -> str:
        return self.title if self.fold is None else f"fold-{self.fold}"

    @property
    def split(self) -> str:
        if not self.folds:
            return super().split
        return f"{self.folds} folds" if self.fold is None else f"fold {self.fold} of {self.folds}"

    def parts(self) -> Sequence["Lamp"]:
        """A run for each fold."""
        if self.fold is not None:
            return ()
        return [dataclasses.replace(self, fold=fold) for fold in range(self.folds)]

    def paths(self) -> dict[str, Any]:
        return super().paths() | {"data_dir": self.data_dir and absolute(self.data_dir)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Custom(Lamp):
    """A task of one's own: a TOML file declares it, and two files of JSON lines hold its users."""

    experiment: ClassVar[str] = "custom"

    task: str
    """The TOML file that declares the task."""
    data_dir: str | None = None
    """Folder with train.jsonl and dev.jsonl."""
    train_users: int | None = None
    """Users who train what is shared; by default all."""
    dev_users: int | None = None
    """New users, who are reported; by default all."""

    def paths(self) -> dict[str, Any]:
        return super().paths() | {"task": absolute(self.task)}


def check_temperature(llm: str, temperature: float, name: str) -> None:
    """Refuses one that the LLM would refuse, or that makes noise of its answers.

    Raises:
      ValueError: naming the setting.
    """
    highest = HIGHEST_TEMPERATURE[llm.startswith("claude")]
    if not 0 <= temperature <= highest:
        raise ValueError(f"{name} is {temperature}, expected a number from 0 to {highest:g} for {llm}")


def absolute(path: str) -> str:
    return str(pathlib.Path(path).expanduser().resolve())
