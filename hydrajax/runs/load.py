"""The task and the people of a run, from its configuration."""

import dataclasses
import pathlib

from hydrajax.data import custom, folds, lamp, simulated, tasks
from hydrajax.methods import hydra
from hydrajax.methods.lab import Reward
from hydrajax.runs.config import RunConfig
from hydrajax.types import DataError, Split


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """What is asked, of whom, and how simulated users judge.

    Attributes:
      task: the task.
      train, dev: drawn users and their questions.
      reward: of simulated users, else None.
      skipped: what bad data was left out, one sentence each.
      removed: what was removed so that folds do not leak; None without folds.
    """

    task: tasks.Task
    train: Split
    dev: Split
    reward: Reward | None = None
    skipped: tuple[str, ...] = ()
    removed: folds.Removed | None = None


def load(config: RunConfig) -> Data:
    """Reads and draws.

    Raises:
      DataError: unknown task, missing or faulty data, more users asked for than there are.
    """
    if config.experiment == "demo":
        simulation = simulated.simulate(
            train_users=config.train_users or 40,
            dev_users=config.dev_users or 20,
            queries=config.queries_per_user or 2,
            seed=config.seed,
        )
        return Data(
            task=simulation.task, train=simulation.train, dev=simulation.dev, reward=simulation.reward
        )
    task, reader, folder = _source(config)
    train, skipped_train = reader(folder, task, "train", skip_bad=config.skip_bad)
    dev, skipped_dev = reader(folder, task, "dev", skip_bad=config.skip_bad)
    removed = None
    if config.folds:
        if not 0 <= config.fold < config.folds:
            raise DataError(f"fold is {config.fold}, expected 0 to {config.folds - 1}")
        fold = folds.k_folds(task, (train, dev), folds=config.folds, seed=config.seed)[config.fold]
        train, dev, removed = fold.train, fold.held_out, fold.removed
    return Data(
        task=task,
        train=_draw(train, config.train_users, config),
        dev=_draw(dev, config.dev_users, config),
        skipped=(*skipped_train, *skipped_dev),
        removed=removed,
    )


def people(config: RunConfig, data: Data) -> hydra.People:
    """Training, validation and new users; validation users are cut from the training users."""
    fit, validation = folds.validation_cut(data.train, config.settings.validation, config.seed)
    labelled = folds.part(data.train, fit)
    if config.settings.label_queries is not None:
        labelled = folds.subset(
            labelled, users=None, queries_per_user=config.settings.label_queries, seed=config.seed
        )
    return hydra.People(
        train=fit,
        validation=validation,
        new=tuple(data.dev.users),
        label_queries=labelled.queries,
        validation_queries=folds.part(data.train, validation).queries,
        new_queries=data.dev.queries,
    )


def _draw(split: Split, users: int | None, config: RunConfig) -> Split:
    return folds.subset(split, users=users, queries_per_user=config.queries_per_user, seed=config.seed)


def _source(config: RunConfig):
    if config.data_dir is None:
        raise DataError(f"experiment {config.experiment!r} reads data, give its folder with --data-dir")
    folder = pathlib.Path(config.data_dir)
    if config.experiment == "custom":
        return custom.read_task(pathlib.Path(config.task)), custom.read_split, folder
    if config.task not in tasks.LAMP:
        raise DataError(f"unknown task {config.task!r}; valid are {', '.join(tasks.LAMP)}")
    return tasks.LAMP[config.task], lamp.read_split, folder / config.task
