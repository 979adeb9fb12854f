"""What a run is: one frozen configuration, kept in its folder, enough to repeat it."""

import dataclasses
import json
import pathlib
from typing import Any, Literal

from hydrajax.methods import selection
from hydrajax.methods import settings as settings_lib
from hydrajax.prompting import contract
from hydrajax.training import fit
from hydrajax.types import DataError

Experiment = Literal["demo", "lamp", "custom"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A run.

    Attributes:
      experiment: `demo`, `lamp` or `custom`.
      task: `demo`, a LaMP task, or a TOML file that declares a task.
      data_dir: folder that holds TASK/*.json (lamp) or {train,dev}.jsonl (custom).
      train_users, dev_users: how many are drawn; None for all.
      queries_per_user: at most how many questions of each user; None for all.
      folds: into how many folds all users are re-divided, each cleaned; 0 keeps the given train and dev.
      fold: the one that is held out; None runs all of them and reports every user.
      llm: `local`, a GGUF file, `scripted`, or a Claude model.
      base: name or folder of the base encoder.
      pooling: `cls` or `mean`, how the base's vectors become one; None for what its folder says.
      base_dtype: type of the base's products, `float32` or `bfloat16`.
      settings: of the method.
      scorer: of reranker and adapter; epochs and loss are chosen on validation users among `losses`.
      reranker_family: head family of the reranker; None for that of `scorer`.
      adapter_family: head family of the adapters; None for that of `scorer`.
      losses: what the loss is chosen among; `pairwise` learns the order inside a pool.
      epochs: numbers of epochs of personalisation that are chosen among; 0 is the pooled head.
      max_pair_tokens: longest encoding of a pair.
      skip_bad: leave bad data out instead of refusing it.
      seed: of every draw.
    """

    experiment: Experiment
    task: str
    data_dir: str | None = None
    train_users: int | None = None
    dev_users: int | None = None
    queries_per_user: int | None = None
    fold: int | None = None
    folds: int = 0
    llm: str = "local"
    base: str = "minilm"
    pooling: Literal["cls", "mean"] | None = None
    base_dtype: Literal["float32", "bfloat16"] = "float32"
    settings: settings_lib.Settings = settings_lib.Settings()
    scorer: fit.FitConfig = fit.FitConfig()
    reranker_family: str | None = None
    adapter_family: str | None = None
    losses: tuple[str, ...] = ("cross_entropy", "pairwise")
    epochs: tuple[int, ...] = selection.EPOCHS
    max_pair_tokens: int = 256
    skip_bad: bool = False
    seed: int = 0

    def __post_init__(self):
        if not self.losses or not self.epochs or min(self.epochs) < 0:
            raise ValueError(
                f"losses are {self.losses} and epochs {self.epochs}, expected at least one of each, epochs from 0 up"
            )
        for loss in self.losses:
            for family in (self.reranker_family, self.adapter_family):
                fit.check_config(dataclasses.replace(self.scorer, loss=loss, family=family or self.scorer.family))
        if self.folds < 0 or self.folds == 1:
            raise ValueError(f"folds is {self.folds}, expected 0 (the given train and dev) or at least 2")
        if self.fold is not None and not 0 <= self.fold < self.folds:
            valid = f"0 to {self.folds - 1}" if self.folds else "none without --folds"
            raise ValueError(f"fold is {self.fold}, expected {valid}")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, expected 0 or more")
        for name in ("train_users", "dev_users", "queries_per_user", "max_pair_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1")


def to_json(config: Any) -> dict[str, Any]:
    """A configuration, of a run of any kind, as JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_json(values: dict[str, Any], where: str) -> RunConfig:
    """The configuration that `to_json` wrote.

    Raises:
      DataError: it is not one.
    """
    try:
        values = dict(values)
        settings = dict(values.pop("settings"))
        prompts = contract.PromptSettings(**settings.pop("prompts"))
        for name in ("shown", "styles", "strategies"):
            settings[name] = tuple(settings.get(name, ()))
        return RunConfig(
            settings=settings_lib.Settings(prompts=prompts, **settings),
            scorer=fit.FitConfig(**values.pop("scorer")),
            losses=tuple(values.pop("losses")),
            epochs=tuple(values.pop("epochs")),
            **values,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where}: does not hold the configuration of a run ({error})") from error


def absolute_llm(name: str) -> str:
    """The name of an LLM; where it is a GGUF file, or in a Python file, with the absolute path."""
    file, colon, attribute = name.rpartition(":") if ".py:" in name else (name, "", "")
    return f"{pathlib.Path(file).resolve()}{colon}{attribute}" if file.endswith((".gguf", ".py")) else name


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """The configuration with its paths made absolute, so that a run folder can be used from anywhere."""
    return dataclasses.replace(
        config,
        data_dir=None if config.data_dir is None else str(pathlib.Path(config.data_dir).expanduser().resolve()),
        task=str(pathlib.Path(config.task).resolve()) if config.task.endswith(".toml") else config.task,
        llm=absolute_llm(config.llm),
        base=str(pathlib.Path(config.base).resolve()) if pathlib.Path(config.base).is_dir() else config.base,
    )
