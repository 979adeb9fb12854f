"""Checkpoints of a training run: the only file that imports orbax."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from hydrajax.types import DataError


class Checkpoints:
    """The checkpoints of one run in one folder, by step; the newest two are kept."""

    def __init__(self, manager: Any, folder: pathlib.Path):
        self._manager = manager
        self._folder = folder

    def save(self, step: int, state: Any, note: dict[str, Any]) -> None:
        """Saves a tree of arrays, and beside it what is no array (JSON): where the data stand, curves, which run.

        The checkpoint gets its name when all of it is written.
        """
        self._manager.save(step, state, custom_metadata=note)

    def note(self) -> dict[str, Any] | None:
        """What was noted with the newest checkpoint; None where there is none."""
        latest = self._manager.latest
        return None if latest is None else self._manager.metadata(latest.step).custom_metadata

    def load(self, like: Any) -> Any:
        """The newest checkpoint's tree.

        Args:
          like: a tree of the same shapes and types, sharded as the result shall be; its values are not read.

        Raises:
          DataError: there is none, or it has other shapes.
        """
        latest = self._manager.latest
        if latest is None:
            raise DataError(f"{self._folder}: has no checkpoint")
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), like)
        try:
            return self._manager.load(latest.step, shapes)
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise DataError(
                f"{self._folder}: checkpoint {latest.step} is damaged or of another run: name another folder"
            ) from error


@contextlib.contextmanager
def opened(folder: str | pathlib.Path) -> Iterator[Checkpoints]:
    """The checkpoints of a folder, which is made where it does not exist; on leaving, all of them are written."""
    path = pathlib.Path(folder).expanduser().resolve()
    keep = ocp.training.preservation_policies.LatestN(2)
    every = ocp.training.save_decision_policies.FixedIntervalPolicy(1)
    with ocp.training.Checkpointer(path, preservation_policy=keep, save_decision_policy=every) as manager:
        yield Checkpoints(manager, path)
