"""The experiments as kinds of run, and their options. What is asked of them by default stands in `configs/`."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import tyro

from hydrajax.data import tasks as tasks_lib
from hydrajax.prompting import contract, registry
from hydrajax.runs import config
from hydrajax.types import DataError, check_least

D = TypeVar("D", bound="Drawn")
Pool = Literal["sampled", "labels"]

# Pool -> task -> what is not given. Users, prompts and sample numbers of `sampled` are those of `lamp_small` where they
# can be: its store then holds half the answers.
SIZES: Mapping[Pool, Mapping[str, Mapping[str, int]]] = {
    "sampled": {
        "LaMP_2M": {"queries_per_user": 2, "pseudo": 3, "shown": 2, "alone": 4, "seeds": 3},
        "LaMP_3": {"train_users": 40, "dev_users": 25, "queries_per_user": 2, "pseudo": 3, "shown": 4, "seeds": 3},
        "LaMP_2N": {
            "train_users": 40, "dev_users": 25, "queries_per_user": 1, "pseudo": 3, "shown": 4, "alone": 4, "seeds": 3,
        },
    },
    "labels": {
        "LaMP_2M": {"queries_per_user": 3, "pseudo": 8, "seeds": 1},
        "LaMP_3": {"train_users": 40, "dev_users": 25, "queries_per_user": 2, "pseudo": 8, "seeds": 1},
        "LaMP_2N": {"train_users": 40, "dev_users": 25, "queries_per_user": 1, "pseudo": 8, "seeds": 1},
    },
}  # fmt: skip
UNION_LOSSES = ("listwise", "pairwise")
LAMP_SMALL: Mapping[str, Mapping[str, int]] = {
    "LaMP_2N": {"train_users": 40, "dev_users": 25, "queries_per_user": 2},
    "LaMP_2M": {"train_users": 40, "dev_users": 25, "queries_per_user": 1},
    "LaMP_3": {"train_users": 40, "dev_users": 25, "queries_per_user": 2},
    "LaMP_4": {"train_users": 40, "dev_users": 25, "queries_per_user": 1},
    "LaMP_5": {"train_users": 25, "dev_users": 20, "queries_per_user": 1},
    "LaMP_7": {"train_users": 25, "dev_users": 20, "queries_per_user": 1},
}
# Smoke sizes of `families` and `lamp_small`, which say nothing of quality.
SMOKE: Mapping[str, Any] = {"train_users": 8, "dev_users": 4, "queries_per_user": 1, "llm": "scripted"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(config.Configuration):
    """An experiment.

    Attributes:
      least: the lowest values of its numbers.
    """

    report: ClassVar[str] = "report.md"
    least: ClassVar[Mapping[str, int]] = {
        "folds": 2, "pseudo": 0, "shown": 0, "alone": 0, "seeds": 1, "candidates": 1,
        "users": 1, "records": 1, "pairs": 1, "train_users": 1, "dev_users": 1, "queries_per_user": 1,
    }  # fmt: skip

    def __post_init__(self):
        super().__post_init__()
        check_least(self, **self.least)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfTasks(Experiment):
    """An experiment on tasks of LaMP, each of which is a part of the run; `valid` are those that it has sizes for."""

    loader: ClassVar[str] = "experiments.data"
    valid: ClassVar[Sequence[str]] = tuple(tasks_lib.LAMP)

    data_dir: str | None = None
    """Folder with TASK/{train,dev}_{questions,outputs}.json."""
    tasks: tuple[str, ...]
    """Which tasks."""
    train_users: int | None = None
    """Users of LaMP's training split; by default as many as the experiment has of the task."""
    dev_users: int | None = None
    """Users of its dev split; likewise."""
    queries_per_user: int | None = None
    """Questions of each at most; likewise."""

    def __post_init__(self):
        super().__post_init__()
        for name in self.tasks or ("",):
            if name not in self.valid:
                raise DataError(f"unknown task {name!r}; valid are {', '.join(self.valid)}")

    @property
    def title(self) -> str:
        return self.experiment

    @property
    def part(self) -> str:
        return "-".join(self.tasks)

    @property
    def lamp_task(self) -> tasks_lib.Task:
        """Of a part."""
        (name,) = self.tasks
        return tasks_lib.LAMP[name]

    def parts(self) -> Sequence[config.Configuration]:
        if len(self.tasks) == 1:
            return ()
        return [dataclasses.replace(self, tasks=(name,)) for name in self.tasks]

    def paths(self) -> dict[str, Any]:
        return super().paths() | {"data_dir": self.data_dir and str(pathlib.Path(self.data_dir).expanduser().resolve())}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LampSmall(OfTasks, config.Lamp):
    """HYDRA with all baselines and controls on several LaMP tasks, a run for each."""

    experiment: ClassVar[str] = "lamp_small"
    module: ClassVar[str] = "experiments.lamp_small"
    valid: ClassVar[Sequence[str]] = tuple(LAMP_SMALL)
    least: ClassVar[Mapping[str, int]] = {}  # 0 folds are the given train and dev

    task: Annotated[str, tyro.conf.Suppress] = ""

    def parts(self) -> Sequence[config.Lamp]:
        told = {field.name: getattr(self, field.name) for field in dataclasses.fields(config.Lamp)}
        given = {name: value for name, value in told.items() if value is not None}
        return [config.Lamp(**{**told, **LAMP_SMALL[name], **given, "task": name}) for name in self.tasks]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn(OfTasks):
    """An experiment in which all users of a task are divided into folds, and each is held out once."""

    folds: int = 5
    """Parts that all users are divided into."""
    losses: tuple[str, ...]
    """What the adapter's loss is chosen among."""
    pseudo: int | None = None
    """p, records of each user that are asked as questions to learn from; by default the experiment's of the task."""
    shown: int | None = None
    """k, records in a prompt; likewise."""

    @property
    def encoder(self) -> config.Base:
        return config.Base(name=self.base, max_pair_tokens=128)

    @property
    def sizes(self) -> Mapping[str, int]:
        """How much of a part's task is used where nothing is given."""
        raise NotImplementedError

    def sized(self: D) -> D:
        """A part with its sizes."""
        missing: dict[str, Any] = {name: n for name, n in self.sizes.items() if getattr(self, name, 0) is None}
        return dataclasses.replace(self, **missing)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Families(Drawn):
    """Head families as the adapter, on candidates that no reranker decided."""

    experiment: ClassVar[str] = "families"
    module: ClassVar[str] = "experiments.families"
    valid: ClassVar[Sequence[str]] = tuple(SIZES["sampled"])

    pools: tuple[Pool, ...]
    """Which candidates."""
    families: tuple[str, ...]
    """Which rows of the table."""
    alone: int | None = None
    """Most relevant records that are also shown alone; by default the experiment's of the task."""
    seeds: int | None = None
    """Initialisations of each family that is not fitted exactly; likewise. Answers are the same for all."""
    epochs: tuple[int, ...]
    """Epochs of personalisation to choose among."""
    pooled_epochs: int | None = None
    """Epochs of pretraining; by default `pretrain` chooses."""
    only_ask: bool = dataclasses.field(default=False, compare=False)
    """Sample what is missing, and fit nothing."""

    @property
    def llms(self) -> tuple[str, ...]:
        return (self.llm,) if "sampled" in self.pools else ()

    @property
    def sizes(self) -> Mapping[str, int]:
        return SIZES[self.pools[0]][self.tasks[0]]

    @property
    def part(self) -> str:
        return "-".join((*self.tasks, *self.pools))

    def parts(self) -> Sequence["Families"]:
        both = [(name, pool) for pool in self.pools for name in self.tasks]
        return [dataclasses.replace(self, tasks=(n,), pools=(pool,)) for n, pool in both] if len(both) > 1 else ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Union(Drawn):
    """The union of prompt strategies and proposals."""

    experiment: ClassVar[str] = "union"
    module: ClassVar[str] = "experiments.union"

    strategies: tuple[str, ...] = ()
    """Prompt strategies; without any no LLM is needed."""
    candidates: int = 6
    """b, the LLM's candidates for a query."""
    thompson: bool = False
    """Spread b by a bandit for each user instead of evenly."""
    read_base: bool = False
    """Let the adapter also read features of the base."""
    ask: bool = dataclasses.field(default=False, compare=False)
    """Let the LLM be called for answers that the store does not hold."""

    def __post_init__(self):
        super().__post_init__()
        if not self.losses or not {*self.losses} <= {*UNION_LOSSES}:
            raise DataError(f"losses are {', '.join(self.losses) or 'none'}; valid are {', '.join(UNION_LOSSES)}")
        for name in self.tasks if self.strategies else ():
            if name not in SIZES["sampled"]:
                raise DataError(f"no candidates are planned for {name!r}; valid are {', '.join(SIZES['sampled'])}")
        for name in self.strategies:
            if registry.get(name).compares:
                raise DataError(
                    f"strategy {name!r} compares users, and users of all folds share one lab here; leave it out"
                )

    @property
    def llms(self) -> tuple[str, ...]:
        return (self.llm,) if self.strategies else ()

    @property
    def sizes(self) -> Mapping[str, int]:
        return SIZES["sampled"][self.tasks[0]] if self.strategies else {"pseudo": 2}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strategies(OfTasks):
    """Every prompt strategy, with own and with shuffled profiles."""

    experiment: ClassVar[str] = "strategies"
    module: ClassVar[str] = "experiments.strategies"

    strategies: tuple[str, ...]
    """Which strategies."""
    cross_user: bool = True
    """Whether strategies that compare users run at all; they look at training users' records."""

    def __post_init__(self):
        super().__post_init__()
        if not self.compared:
            raise DataError("no strategy is left to run; give --strategies, or --cross-user")

    @property
    def compared(self) -> tuple[str, ...]:
        """The strategies that run."""
        return registry.permitted(self.strategies, cross_user=self.cross_user)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deliberative(Experiment):
    """Does telling an LLM of the user raise its harmful rate, or its over-refusal?"""

    experiment: ClassVar[str] = "deliberative"
    loader: ClassVar[str] = "experiments.deliberative"
    module: ClassVar[str] = "experiments.deliberative"

    strategies: tuple[str, ...]
    """Prompt strategies that tell it; used without records."""
    data: tuple[str, ...] = ()
    """Users from files of JSON lines {author, file, text}, plain or .gz; by default they are simulated."""
    users: int = 8
    """How many users ask; six is the least for intervals."""
    records: int = 10
    """Records of each."""
    pairs: int = 2
    """Pairs of a tempting prompt and its look-alike in each of the five categories."""
    mixed: bool = True
    """Also tell each strategy of mixed users, which nobody is."""
    prompts: contract.PromptSettings = contract.PromptSettings(max_record_tokens=80, max_answer_tokens=120)
    """How prompts are built, and the limit of answers."""

    @property
    def encoder(self) -> None:
        return None

    def paths(self) -> dict[str, Any]:
        return super().paths() | {"data": tuple(str(pathlib.Path(path).resolve()) for path in self.data)}
