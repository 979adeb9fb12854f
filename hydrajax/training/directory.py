"""Which user has which row of a bank, banks that users join and leave, and one user in one file.

A file holds parameters and optimizer state of a row as safetensors; the metadata say whose they are and what they fit:
user id, family, its settings, widths. A user can so be moved to another bank, kept, or handed over to the person they
are about.
"""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Int

from hydrajax import files
from hydrajax.nn import heads
from hydrajax.training import checks
from hydrajax.training import state as states
from hydrajax.training.state import TrainState
from hydrajax.types import DataError

Ids = Iterable[Any]  # strings, checked to be; a list and not one string, which would be as many users as letters
CHUNK = 1024  # rows by which a full bank grows
FORMAT = "hydrajax directory 1"
USER_FORMAT = "hydrajax user row 1"


class Directory:
    """Which user has which row. Kept on the host; `to_note` and `from_note` carry it through JSON.

    Free rows, also those of removed users, are given out lowest first; over several shards each in turn, so that a bank
    that is not full has as many users on one shard as on another.
    """

    def __init__(self, capacity: int, ids: Ids = (), *, shards: int = 1):
        """A directory of `capacity` rows.

        Args:
          capacity: C.
          ids: users who are given rows at once; on one shard the first ones, in order.
          shards: the blocks of equal size into which `sharded.place` divides the rows.

        Raises:
          DataError: a user twice, or more users than rows; an id that is no string, or a number out of range.
        """
        free = [None] * checks.number(capacity, "the capacity", 0)
        self.shards = checks.number(shards, "shards", 1)
        self._set(free)
        self.add(ids)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, user_id: str) -> bool:
        return user_id in self._rows

    @property
    def capacity(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> tuple[str, ...]:
        """The users in the order of their rows."""
        return tuple(user_id for user_id in self._ids if user_id is not None)

    def rows(self, ids: Ids) -> Int[np.ndarray, " U"]:
        """The users' rows, int32.

        Raises:
          DataError: an unknown user, or one twice: a batch has one update for a head.
        """
        ids = strings(ids)
        unknown = sorted({user_id for user_id in ids if user_id not in self._rows})
        if unknown:
            raise DataError(f"no head for user {_some(unknown)}: the bank knows {len(self)} users, add them first")
        checks.check_once(ids)
        return np.array([self._rows[user_id] for user_id in ids], np.int32)

    def add(self, ids: Ids) -> Int[np.ndarray, " U"]:
        """Gives rows to new users; returns them.

        Raises:
          DataError: a user who has a row or comes twice, or too few free rows. Nothing has changed then.
        """
        ids = self._checked_new(ids)
        if len(ids) > len(self._free):
            raise DataError(f"{len(ids)} users to add and {len(self._free)} free rows of {self.capacity}: grow first")
        rows = [self._free.pop() for _ in ids]
        for user_id, row in zip(ids, rows, strict=True):
            self._ids[row], self._rows[user_id] = user_id, row
        return np.array(rows, np.int32)

    def remove(self, ids: Ids) -> Int[np.ndarray, " U"]:
        """Takes users' rows away; returns them, for the caller to reset.

        Raises:
          DataError: an unknown user, or one twice. Nothing has changed then.
        """
        ids = strings(ids)
        rows = self.rows(ids)
        for user_id, row in zip(ids, rows.tolist(), strict=True):
            del self._rows[user_id]
            self._ids[row] = None
        self._stack()
        return rows

    def grow(self, capacity: int) -> None:
        """More free rows, behind those there are.

        Raises:
          DataError: the directory is larger already.
        """
        checks.check_growth(self.capacity, capacity, "the directory")
        self._ids += [None] * (capacity - self.capacity)
        self._stack()

    def room(self, ids: Ids, chunk: int) -> int:
        """The capacity that new users need: this one, or as many whole chunks more.

        Raises:
          DataError: a user who has a row or comes twice.
        """
        new = self._checked_new(ids)
        return self.capacity + -(-max(len(new) - len(self._free), 0) // checks.number(chunk, "chunk", 1)) * chunk

    @contextlib.contextmanager
    def undone_on_error(self) -> Iterator[None]:
        """After an error in its block the directory is as it was."""
        before = self.to_note()
        try:
            yield
        except BaseException:
            self._set(before)
            raise

    def save(self, path: str | pathlib.Path) -> None:
        """Writes the note to a file, whole or not at all.

        Raises:
          DataError: the file cannot be written.
        """
        path = pathlib.Path(path).expanduser()
        with files.in_a_sentence(path, "the directory cannot be written"):
            files.write_json(path, {"format": FORMAT, "rows": self.to_note()})

    @classmethod
    def load(cls, path: str | pathlib.Path, *, shards: int = 1) -> "Directory":
        """The directory of a file.

        Raises:
          DataError: no such file, or it holds something else.
        """
        path = pathlib.Path(path).expanduser()
        values = files.read_json(path)
        rows = values.get("rows")
        if values.get("format") != FORMAT or not isinstance(rows, list):
            raise DataError(f"{path}: holds no directory, its format is {values.get('format')!r}")
        try:
            return cls.from_note(rows, shards=shards)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    def to_note(self) -> list[str | None]:
        """JSON: the user of every row, None where it is free."""
        return list(self._ids)

    @classmethod
    def from_note(cls, note: Sequence[Any], *, shards: int = 1) -> "Directory":
        """The directory of a note; the number of shards may be another.

        Raises:
          DataError: it names a user twice, or one whose id is no string.
        """
        directory = cls(len(note), shards=shards)
        strings([user_id for user_id in note if user_id is not None])
        directory._set(note)
        if len(directory._rows) + len(directory._free) != len(note):
            raise DataError("the note of a directory names a user twice")
        return directory

    def _checked_new(self, ids: Ids) -> list[str]:
        ids = strings(ids)
        known = sorted({user_id for user_id in ids if user_id in self._rows})
        if known:
            raise DataError(f"user {_some(known)} has a head already: remove it or give another id")
        checks.check_once(ids)
        return ids

    def _set(self, note: Sequence[str | None]) -> None:
        self._ids = list(note)
        self._rows = {user_id: row for row, user_id in enumerate(note) if user_id is not None}
        self._stack()

    def _stack(self) -> None:
        """Puts the free rows in order, the next to be given out on top."""
        block = max(1, -(-self.capacity // self.shards))
        free = [row for row, user_id in enumerate(self._ids) if user_id is None]
        self._free = sorted(free, key=lambda row: (row % block, row), reverse=True)


def add_users(
    state: TrainState, directory: Directory, ids: Ids, fresh: states.Initial, *, chunk: int = CHUNK
) -> TrainState:
    """The state with rows for new users, who start with `fresh` (the pooled head) and a fresh optimizer state.

    Nothing is compiled anew while there are free rows; a full bank grows by whole chunks, and a step is then compiled
    once more. The directory changes too.

    Raises:
      DataError: a user who has a row or comes twice, or `fresh` is not of this bank. Nothing has changed then.
    """
    check_same(state.capacity, directory)
    ids = strings(ids)
    larger = directory.room(ids, chunk)
    with directory.undone_on_error():
        if larger > directory.capacity:
            state = states.grow(state, larger, fresh)
            directory.grow(larger)
        return states.reset(state, directory.add(ids), fresh)


def remove_users(state: TrainState, directory: Directory, ids: Ids, fresh: states.Initial) -> TrainState:
    """The state without these users: their rows are reset at once and free for others. The directory changes too.

    Raises:
      DataError: an unknown user, or one twice, or `fresh` is not of this bank. Nothing has changed then.
    """
    check_same(state.capacity, directory)
    ids = strings(ids)
    state = states.reset(state, directory.rows(ids), fresh)
    directory.remove(ids)
    return state


def export_user(
    path: str | pathlib.Path,
    state: TrainState,
    directory: Directory,
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
    save_row(path, user_id, jax.tree.map(lambda leaf: np.asarray(leaf)[0], rows), family=family, dims=dims)


def import_user(
    path: str | pathlib.Path,
    state: TrainState,
    directory: Directory,
    fresh: states.Initial,
    *,
    family: heads.Family,
    dims: heads.Dims,
    user_id: Any = None,
    chunk: int = CHUNK,
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
      chunk: see `add_users`.

    Raises:
      DataError: no such file, a damaged one, or one of another family, width or optimizer. Nothing has changed then.
    """
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), state.stored)
    owner, row = load_row(path, like, family=family, dims=dims)
    owner = owner if user_id is None else user_id
    if owner not in directory:
        state = add_users(state, directory, [owner], fresh, chunk=chunk)
    return states.put_users(state, directory.rows([owner]), *jax.tree.map(lambda leaf: leaf[None], row))


def save_row(
    path: str | pathlib.Path, user_id: Any, row: states.Rows, *, family: heads.Family, dims: heads.Dims
) -> None:
    """Writes a row (parameters, optimizer state; no leading axis) to one file, whole or not at all.

    Raises:
      DataError: the id is no string, or the file cannot be written.
    """
    if not isinstance(user_id, str):
        raise DataError(f"the id of a user is {user_id!r}, expected a string")
    path = pathlib.Path(path).expanduser()
    metadata = {"format": USER_FORMAT, "user_id": user_id, **_kind(family, dims)}
    data = safetensors.numpy.save(
        {name: np.array(leaf, order="C") for name, leaf in checks.leaves(row).items()}, metadata=metadata
    )
    with files.in_a_sentence(path, "the user cannot be written"):
        files.write_bytes(path, data)


def load_row(
    path: str | pathlib.Path, like: states.Rows, *, family: heads.Family, dims: heads.Dims
) -> tuple[str, states.Rows]:
    """(user id, row) of a file.

    Args:
      path: of `save_row`.
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
    if metadata.get("format") != USER_FORMAT:
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


def check_same(capacity: int, directory: Directory) -> None:
    if capacity != directory.capacity:
        raise DataError(f"the bank has {capacity} rows and its directory {directory.capacity}")


def strings(ids: Ids) -> list[str]:
    if isinstance(ids, (str, bytes)):
        raise DataError(f"ids are the one string {ids!r}, expected a list of strings")
    ids = list(ids)
    for user_id in ids:
        if not isinstance(user_id, str):
            raise DataError(f"the id of a user is {user_id!r}, expected a string")
    return ids


def _some(names: Sequence[Any]) -> str:
    shown = ", ".join(repr(name) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _kind(family: Any, dims: heads.Dims) -> dict[str, str]:
    return {
        "family": type(family).__module__.rpartition(".")[2],
        "settings": json.dumps(dataclasses.asdict(family), sort_keys=True),
        "dims": json.dumps(dataclasses.asdict(dims), sort_keys=True),
    }
