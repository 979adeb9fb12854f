"""One user in one file: parameters and optimizer state of a row of a bank, as safetensors.

The metadata say whose they are and what they fit: user id, family, its settings, widths. A user can so be moved to
another bank, kept, or handed over to the person they are about.
"""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from hydrajax import files
from hydrajax.nn import heads
from hydrajax.training import checks
from hydrajax.training import directory as directories
from hydrajax.training import state as states
from hydrajax.training.state import TrainState
from hydrajax.types import DataError

FORMAT = "hydrajax user row 1"


def export_user(
    path: str | pathlib.Path,
    state: TrainState,
    directory: directories.Directory,
    user_id: Any,
    *,
    family: heads.Family,
    dims: heads.Dims,
) -> None:
    """Writes one user of a bank to one file, which takes the path's place whole or not at all.

    Raises:
      DataError: an unknown user, or the file cannot be written.
    """
    rows = states.take_users(state, directory.rows([user_id]))
    save(path, user_id, jax.tree.map(lambda leaf: np.asarray(leaf)[0], rows), family=family, dims=dims)


def import_user(
    path: str | pathlib.Path,
    state: TrainState,
    directory: directories.Directory,
    fresh: states.Initial,
    *,
    family: heads.Family,
    dims: heads.Dims,
    user_id: Any = None,
    chunk: int = directories.CHUNK,
) -> TrainState:
    """The state with the user of a file; a user who has no row yet is added, and the directory changes too.

    Args:
      path: of `export_user`.
      state: with the bank.
      directory: of the bank.
      fresh: what rows hold before their first update, for a bank that must grow.
      family: of the bank.
      dims: of the bank.
      user_id: whom to take them for; None: whose they were.
      chunk: see `directory.add_users`.

    Raises:
      DataError: no such file, a damaged one, or one of another family, width or optimizer. Nothing has changed then.
    """
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), state.stored)
    owner, row = load(path, like, family=family, dims=dims)
    owner = owner if user_id is None else user_id
    if owner not in directory:
        state = directories.add_users(state, directory, [owner], fresh, chunk=chunk)
    return states.put_users(state, directory.rows([owner]), *jax.tree.map(lambda leaf: leaf[None], row))


def save(path: str | pathlib.Path, user_id: Any, row: states.Rows, *, family: heads.Family, dims: heads.Dims) -> None:
    """Writes a row (parameters, optimizer state; no leading axis) to one file, whole or not at all.

    Raises:
      DataError: the id is no string, or the file cannot be written.
    """
    if not isinstance(user_id, str):
        raise DataError(f"the id of a user is {user_id!r}, expected a string")
    path = pathlib.Path(path).expanduser()
    metadata = {"format": FORMAT, "user_id": user_id, **_kind(family, dims)}
    data = safetensors.numpy.save(
        {name: np.array(leaf, order="C") for name, leaf in checks.leaves(row).items()}, metadata=metadata
    )
    with files.in_a_sentence(path, "the user cannot be written"):
        files.write_bytes(path, data)


def load(
    path: str | pathlib.Path, like: states.Rows, *, family: heads.Family, dims: heads.Dims
) -> tuple[str, states.Rows]:
    """(user id, row) of a file.

    Args:
      path: of `save`.
      like: a row of the bank that it is for; shapes and types are read.
      family: of that bank.
      dims: of that bank.

    Raises:
      DataError: no such file, a damaged one, or one of another family, width or optimizer.
    """
    path = pathlib.Path(path).expanduser()
    try:
        with safetensors.safe_open(str(path), "numpy") as file:
            metadata = file.metadata() or {}
            leaves = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, safetensors.SafetensorError) as error:
        raise DataError(f"{path}: holds no user's row ({error})") from error
    if metadata.get("format") != FORMAT:
        raise DataError(f"{path}: holds no user's row, its format is {metadata.get('format')!r}")
    if "user_id" not in metadata:
        raise DataError(f"{path}: does not say whose row it is, expected a user_id in its metadata")
    for name, wanted in _kind(family, dims).items():
        # Settings that change no shape (dropout) do not keep a user out; the others are found by the shapes.
        if name != "settings" and metadata.get(name) != wanted:
            raise DataError(f"{path}: the row is for {name} {metadata.get(name)}, the bank has {wanted}")
    checks.check_like(leaves, checks.leaves(like), str(path))
    checks.check_finite(leaves, str(path))
    row = jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in checks.leaves(like)])
    return metadata["user_id"], row


def _kind(family: Any, dims: heads.Dims) -> dict[str, str]:
    return {
        "family": type(family).__module__.rpartition(".")[2],
        "settings": json.dumps(dataclasses.asdict(family), sort_keys=True),
        "dims": json.dumps(dataclasses.asdict(dims), sort_keys=True),
    }
