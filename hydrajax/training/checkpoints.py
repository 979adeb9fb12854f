"""Checkpoints of a training run: the only file that imports orbax."""

import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from orbax.checkpoint import v1 as ocp

from hydrajax import files
from hydrajax.training import checks
from hydrajax.types import DataError

ONE_FILE = "state.safetensors"
UNWRITTEN = "checkpoints cannot be written there"


class Checkpoints:
    """The checkpoints of one run in one folder, by step; the newest two are kept."""

    def __init__(self, manager: Any, folder: pathlib.Path):
        self._manager = manager
        self._folder = folder

    def save(self, step: int, state: Any, note: dict[str, Any]) -> None:
        """Saves a tree of arrays, and beside it what is no array (JSON): where the data stand, curves, which run.

        The checkpoint gets its name when all of it is written.

        Args:
          step: updates done, more than at the newest checkpoint.
          state: a tree of arrays.
          note: what JSON can hold.

        Raises:
          DataError: another step, a note that is no JSON, or a folder that cannot be written.
        """
        latest = self._manager.latest
        checks.number(step, "step", 0)
        if latest is not None and step <= latest.step:
            raise DataError(f"{self._folder}: has a checkpoint of step {latest.step}, expected a later one than {step}")
        try:
            json.dumps(note)
        except (TypeError, ValueError) as error:
            raise DataError(f"the note of checkpoint {step} is no JSON ({error})") from error
        with files.in_a_sentence(self._folder, UNWRITTEN):
            self._manager.save(step, state, custom_metadata=note)

    def note(self) -> dict[str, Any] | None:
        """What was noted with the newest checkpoint; None where there is none."""
        latest = self._manager.latest
        return None if latest is None else self._manager.metadata(latest.step).custom_metadata

    def load(self, like: Any) -> Any:
        """The newest checkpoint's tree.

        Args:
          like: a tree of the same shapes and types, sharded as the result shall be (numpy: on the first device); its
            values are not read.

        Raises:
          DataError: there is none, or it has other leaves, shapes or types: those of the first that differs are told.
        """
        latest = self._manager.latest
        if latest is None:
            raise DataError(f"{self._folder}: has no checkpoint")
        where = f"{self._folder}: checkpoint {latest.step}"
        try:
            kept = self._manager.metadata(latest.step).metadata
            # What is read is cast to the type that is asked for: moments kept as bits would become other numbers.
            checks.check_like(kept, jax.tree.map(_kept, like), where)
            shapes = jax.tree.map(_wanted, like)
            return self._manager.load(latest.step, shapes)
        except DataError as error:
            raise DataError(f"{error}: it is of another run, name another folder") from None
        except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            raise DataError(f"{where} is damaged or of another run: name another folder") from error


@contextlib.contextmanager
def opened(folder: str | pathlib.Path) -> Iterator["Checkpoints | OneFile"]:
    """The checkpoints of a folder, which is made where it does not exist; on leaving, all of them are written.

    Of several processes the first alone opens them, with whole arrays; they are then one file, since orbax waits for
    all processes at every step.

    Raises:
      DataError: the folder is a file, or cannot be made.
    """
    path = pathlib.Path(folder).expanduser().resolve()
    with files.in_a_sentence(path, UNWRITTEN):
        path.mkdir(parents=True, exist_ok=True)
    keep = ocp.training.preservation_policies.LatestN(2)
    every = ocp.training.save_decision_policies.FixedIntervalPolicy(1)
    if jax.process_count() > 1:
        yield OneFile(path / ONE_FILE)
        return
    with ocp.training.Checkpointer(path, preservation_policy=keep, save_decision_policy=every) as manager:
        yield Checkpoints(manager, path)


class OneFile:
    """The newest checkpoint of a run of several processes, one safetensors file; the interface is `Checkpoints`'."""

    def __init__(self, path: pathlib.Path):
        self._path = path

    def save(self, step: int, state: Any, note: dict[str, Any]) -> None:
        """See `Checkpoints.save`."""
        arrays = {name: np.require(_numbers(leaf), requirements="C") for name, leaf in checks.leaves(state).items()}
        data = safetensors.numpy.save(arrays, metadata={"note": json.dumps(note)})
        with files.in_a_sentence(self._path.parent, UNWRITTEN):
            files.write_bytes(self._path, data)

    def note(self) -> dict[str, Any] | None:
        """See `Checkpoints.note`."""
        if not self._path.is_file():
            return None
        try:
            with safetensors.safe_open(self._path, framework="numpy") as file:
                return dict(json.loads(file.metadata()["note"]))
        except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self._path} is damaged or of another run: name another folder") from error

    def load(self, like: Any) -> Any:
        """See `Checkpoints.load`."""
        arrays = safetensors.numpy.load_file(self._path)
        wanted = {name: jax.eval_shape(lambda leaf=leaf: leaf) for name, leaf in checks.leaves(like).items()}
        checks.check_like(arrays, {name: _kept(leaf) for name, leaf in wanted.items()}, f"{self._path}: the checkpoint")
        loaded = [_as(arrays[name], leaf) for name, leaf in checks.leaves(like).items()]
        return jax.tree.unflatten(jax.tree.structure(like), loaded)


def _numbers(leaf: Any) -> np.ndarray:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def _as(array: np.ndarray, like: Any) -> Any:
    if not jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return array
    return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(like))


def _kept(leaf: Any) -> Any:
    """Shape and type of a leaf in a checkpoint; of a typed key its numbers are kept."""
    if jnp.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.prng_key):
        return jax.eval_shape(jax.random.key_data, leaf)
    return leaf


def _wanted(leaf: Any) -> jax.ShapeDtypeStruct:
    first = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
    return jax.ShapeDtypeStruct(np.shape(leaf), dtype, sharding=getattr(leaf, "sharding", first))
