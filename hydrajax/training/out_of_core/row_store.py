"""Banks larger than a device's memory: rows in host memory or in files, one record a user.

A record holds all of a user's leaves (parameters and optimizer state) side by side, so that a row is one copy and not
one a leaf. Records that were never written take no room: files are sparse and start as holes, host memory is untouched
zeros, and such a row reads as what `fresh` says. Files are read through a memory map and written by `pwrite`: a full
disk is then an error, where a write through a map would be a signal that ends the process.

What is guaranteed of files:
- `flush` returns when everything written so far is on the disk.
- A killed process loses nothing it has written. The one row that it was writing may be torn: its stamps, a number
  before and behind the record, differ, and reading it is an error until it is reset or written again.
- After a power failure rows written since the last `flush` may be old, new or mixed: restore a copy.
- A full disk refuses a user's first write before anything is written (where the system has `posix_fallocate`).
- No file that exists is ever cut. A folder with files of rows and no `bank.json` is refused; where an older `bank.json`
  was restored and the bank grows again, the rows behind its capacity come back as they were: `add_to_store` resets
   those that it gives out.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from hydrajax import files
from hydrajax.training import checks
from hydrajax.training import directory as directories
from hydrajax.training import state as states
from hydrajax.training.out_of_core import records
from hydrajax.types import DataError


class RowStore:
    """Rows of a bank outside the device; of `in_memory`, `create` or `reopen`. One thread at a time may use it."""

    def __init__(
        self, held: records.Memory | records.Files, layout: records.Layout, capacity: int, fresh: states.Initial
    ):
        self._held = held
        self._layout = layout
        self._capacity = capacity
        self._fresh = fresh
        self._closed = False
        self._streams = 0
        # Any number that no earlier writer of these files has used.
        self._stamp = int.from_bytes(os.urandom(7), "little") + 1

    @property
    def capacity(self) -> int:
        """C, the rows."""
        return self._capacity

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self._layout.size

    def read(self, rows: checks.RowNumbers) -> states.Rows:
        """(parameters, optimizer states) of these rows, numpy, every leaf a new array [U, ...].

        Raises:
          DataError: a row out of range or twice, or one that is torn.
        """
        self._check_open()
        rows = checks.check_rows(rows, self._capacity)
        packed = np.empty((len(rows), self._layout.size), np.uint8)
        self._held.fetch(rows.tolist(), packed)
        first, last = records.stamps(packed)
        if (torn := rows[first != last]).size:
            raise DataError(
                f"{self._held.name}: row {torn[0]} is torn, its writer was killed: reset the row or restore a copy"
            )
        users = self._layout.unpack(packed)
        if (untouched := np.flatnonzero(first == 0)).size:
            for leaf, new in zip(jax.tree.leaves(users), jax.tree.leaves(self._fresh(rows[untouched])), strict=True):
                leaf[untouched] = new
        return users

    def write(self, rows: checks.RowNumbers, values: states.Rows) -> None:
        """Replaces these rows by values, every leaf [U, ...].

        Numbers that are not finite are taken, unlike in `put_users`: a stream writes after every step, and to look at
        each number would cost as much as to write it. `checks.check_finite` tells of rows that were read.

        Raises:
          DataError: a row out of range or twice, leaves of other shapes, or the disk is full.
        """
        self._check_open()
        rows = checks.check_rows(rows, self._capacity)
        checks.check_like(values, self._layout.like, "the users", lead=(len(rows),))
        self._stamp += 1
        for row, record in zip(rows.tolist(), self._layout.pack(values, self._stamp), strict=True):
            self._held.put(row, record)

    def reset(self, rows: checks.RowNumbers) -> None:
        """Rows as before their first update: zeros take the place of every byte of who had them.

        A hole stays a hole: rows that nobody had take no room.

        Raises:
          DataError: a row out of range or twice, or the disk is full.
        """
        self._check_open()
        rows = checks.check_rows(rows, self._capacity)
        for row in rows.tolist():
            if self._held.record(row).any():
                self._held.put(row, np.zeros(self._layout.size, np.uint8))

    def torn(self) -> Int[np.ndarray, " n"]:
        """The rows that a killed writer left half-written; reads two pages of every record."""
        self._check_open()
        bad = []
        for row in range(self._capacity):
            first, last = records.stamps(self._held.record(row)[None])
            if first[0] != last[0]:
                bad.append(row)
        return np.array(bad, np.int32)

    def grow(self, capacity: int) -> None:
        """More rows; those there are stay where they are.

        Raises:
          DataError: the store is larger already, or files cannot be made.
        """
        self._check_open()
        checks.check_growth(self._capacity, capacity, self._held.name)
        self._held.grow(capacity)
        self._capacity = capacity

    def flush(self) -> None:
        """Returns when everything written so far is on the disk.

        Raises:
          DataError: the disk failed.
        """
        self._check_open()
        self._held.flush()

    def close(self) -> None:
        """Flushes, and lets go of files and memory. A closed store cannot be used; closing again does nothing.

        Raises:
          DataError: a stream goes over the store, whose last rows would be lost, or the disk failed.
        """
        if self._streams:
            raise DataError(f"{self._held.name}: a stream goes over the bank, leave its loop before you close it")
        self._release()

    @contextlib.contextmanager
    def streamed(self) -> Iterator[None]:
        """While its block runs, the store cannot be closed.

        Raises:
          DataError: the store is closed.
        """
        self._check_open()
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    def __enter__(self) -> "RowStore":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        # After an error, that one is told, not that a stream was cut short.
        self.close() if error is None else self._release()

    def _check_open(self) -> None:
        if self._closed:
            raise DataError(f"{self._held.name}: the bank is closed")

    def _release(self) -> None:
        if not self._closed:
            self._closed = True
            self._held.close()


def in_memory(capacity: int, fresh: states.Initial) -> RowStore:
    """A bank in the host's memory; rows that nobody touched take none.

    Args:
      capacity: C.
      fresh: what rows hold before their first update.

    Raises:
      DataError: a capacity below 0, or a family that stores nothing.
    """
    checks.number(capacity, "the capacity", 0)
    layout = records.layout_of(fresh)
    held = records.Memory(layout.size)
    held.grow(capacity)
    return RowStore(held, layout, capacity, fresh)


def create(
    folder: str | pathlib.Path, capacity: int, fresh: states.Initial, *, rows_per_file: int | None = None
) -> RowStore:
    """A bank in files of a new folder. Next to nothing is written: the files are holes until users learn.

    Args:
      folder: must not hold a bank, nor files of rows.
      capacity: C.
      fresh: what rows hold before their first update; the same must be given when it is opened again.
      rows_per_file: users of one file; by default as many as a GiB holds.

    Raises:
      DataError: the folder holds a bank or files of rows, is in use or cannot be written; or a number out of range.
    """
    checks.number(capacity, "the capacity", 0)
    if rows_per_file is not None:
        checks.number(rows_per_file, "rows_per_file", 1)
    layout = records.layout_of(fresh)
    folder = pathlib.Path(folder).expanduser()
    with files.in_a_sentence(folder, "cannot be made"):
        folder.mkdir(parents=True, exist_ok=True)
    held = records.Files(folder, layout)
    with held.closed_on_error():
        held.create(capacity, rows_per_file or max(1, records.FILE_BYTES // layout.size))
    return RowStore(held, layout, capacity, fresh)


def reopen(folder: str | pathlib.Path, fresh: states.Initial) -> RowStore:
    """A bank that `create` made.

    Args:
      folder: as given to `create`.
      fresh: as given to `create`.

    Raises:
      DataError: no bank, one of another family, width or optimizer, a missing or cut file, or another process has it.
    """
    layout = records.layout_of(fresh)
    folder = pathlib.Path(folder).expanduser()
    files.read_json(folder / "bank.json")  # where there is no bank, no lock is made either
    held = records.Files(folder, layout)
    with held.closed_on_error():
        capacity = held.reopen()
    return RowStore(held, layout, capacity, fresh)


def add_to_store(
    store: RowStore, directory: directories.Directory, ids: directories.Ids, *, chunk: int = directories.CHUNK
) -> None:
    """Gives new users rows of a store, which grows by whole chunks; a step over it is not compiled anew.

    Raises:
      DataError: a user who has a row or comes twice, or the store cannot be written. Nobody has joined then; a store
        that has grown stays so, and its directory with it.
    """
    directories.check_same(store.capacity, directory)
    ids = directories.strings(ids)
    larger = directory.room(ids, chunk)
    if larger > directory.capacity:
        store.grow(larger)
        directory.grow(larger)
    with directory.undone_on_error():
        rows = directory.add(ids)
        # Rows of a saved directory may be in use that it does not know of: its process was killed before it saved it.
        store.reset(rows)


def remove_from_store(store: RowStore, directory: directories.Directory, ids: directories.Ids) -> None:
    """Takes users out of a store: their rows are overwritten at once and free for others.

    Raises:
      DataError: an unknown user, or one twice, or the store cannot be written.
    """
    directories.check_same(store.capacity, directory)
    ids = directories.strings(ids)
    store.reset(directory.rows(ids))
    directory.remove(ids)
