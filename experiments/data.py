"""Who is asked what in the experiments on LaMP, and what is kept of a part of their computation."""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from experiments import kinds
from hydrajax import files
from hydrajax.data import folds, lamp
from hydrajax.runs import accounts
from hydrajax.types import DataError, Split

F = TypeVar("F")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """A task's users.

    Attributes:
      held_out: who is asked; for experiments over folds everybody.
      train: whom strategies may compare with; nobody in experiments over folds.
      digest: of the files.
    """

    held_out: Split
    train: Split
    digest: str


def load(config: kinds.OfTasks, say: Callable[[str], None]) -> Data:
    """See `run.Loader`.

    Raises:
      DataError: missing or faulty data, or fewer users than are to be drawn.
    """
    if config.data_dir is None:
        raise DataError(f"experiment {config.experiment!r} reads data, give its folder with --data-dir")
    folder = pathlib.Path(config.data_dir) / config.lamp_task.name
    train, dev = (lamp.read_split(folder, config.lamp_task, name)[0] for name in ("train", "dev"))
    fold = everybody(config.sized(), train, dev) if isinstance(config, kinds.Drawn) else given(config, train, dev)
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.json")):
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return Data(held_out=fold.held_out, train=fold.train, digest=digest.hexdigest())


def given(config: kinds.OfTasks, train: Split, dev: Split) -> folds.Fold:
    """LaMP's own training users, and drawn dev users; cleaned of what these are asked."""
    if config.train_users is not None:
        train = draw(config, train, config.train_users)
    return folds.hold_out(config.lamp_task, train, draw(config, dev, config.dev_users))


def everybody(config: kinds.Drawn, train: Split, dev: Split) -> folds.Fold:
    """The drawn users of both of LaMP's splits, cleaned once for all folds.

    Cleaning for a fold removes what its held-out users' questions ask. Here every user counts as held out: that removes
    the union over all folds, so nothing is left for any of them to remove from a profile.
    """
    drawn = (draw(config, train, config.train_users), draw(config, dev, config.dev_users))
    whole = dataclasses.replace(folds.union(drawn), name="all")
    return folds.hold_out(config.lamp_task, Split(name="nobody", users={}, queries=()), whole)


def draw(config: kinds.OfTasks, split: Split, users: int | None) -> Split:
    """So many users of a split, None for all that are asked something."""
    return folds.subset(split, users=users, queries_per_user=config.queries_per_user, seed=config.seed)


def of_folds(
    folds: Sequence[F], compute: Callable[[F], Mapping[str, Any]], out: pathlib.Path, digest: str, clock: accounts.Clock
) -> list[Mapping[str, Any]]:
    """What is computed of each fold, kept in the run's folder; see `once`."""
    done = []
    for i, fold in enumerate(folds):
        with clock.stage(f"fold {i + 1} of {len(folds)}"):
            done.append(once(out / f"fold-{i}.json", digest, functools.partial(compute, fold)))
    return done


def once(path: pathlib.Path, digest: str, compute: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """What was computed from data of this digest before, or is computed now and kept in a file."""
    if path.exists() and files.read_json(path)["digest"] == digest:
        return files.read_json(path)
    files.write_json(path, {**compute(), "digest": digest})
    return files.read_json(path)
