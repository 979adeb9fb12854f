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
"""

import contextlib
import dataclasses
import math
import mmap
import os
import pathlib
from typing import Any

import filelock
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from hydrajax import files
from hydrajax.training import bank
from hydrajax.types import DataError

FORMAT = 1
FILE_BYTES = 1 << 30
STAMP = 8  # bytes of a stamp
_UNKNOWN, _BLANK, _WRITTEN = range(3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the leaves of a row lie in its record.

    Attributes:
      like: a tree of `jax.ShapeDtypeStruct`, one row.
      offsets: byte of each leaf, in the order of the tree's leaves.
      size: bytes of a record, stamps included; a multiple of 64.
    """

    like: bank.Rows
    offsets: tuple[int, ...]
    size: int

    def pack(self, rows: bank.Rows, stamp: int) -> np.ndarray:
        """Records of rows (every leaf [n, ...]), uint8 [n, size]."""
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(rows)]
        records = np.zeros((len(leaves[0]), self.size), np.uint8)
        for offset, leaf in zip(self.offsets, leaves, strict=True):
            flat = np.ascontiguousarray(leaf).reshape(len(leaf), -1).view(np.uint8)
            records[:, offset : offset + flat.shape[1]] = flat
        records[:, :STAMP].view(np.uint64)[:] = stamp
        records[:, -STAMP:].view(np.uint64)[:] = stamp
        return records

    def unpack(self, records: np.ndarray) -> bank.Rows:
        """Rows of records, every leaf a new array [n, ...]."""
        out = []
        for offset, leaf in zip(self.offsets, jax.tree.leaves(self.like), strict=True):
            flat = np.ascontiguousarray(records[:, offset : offset + _bytes(leaf)])
            out.append(flat.view(leaf.dtype).reshape(len(records), *leaf.shape))
        return jax.tree.unflatten(jax.tree.structure(self.like), out)


def layout(fresh: bank.Initial) -> Layout:
    """The layout of rows that start as `fresh` says.

    Raises:
      DataError: there is nothing to store.
    """
    one = fresh(np.zeros(1, np.int32))
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), one)
    offsets, end = [], STAMP
    for leaf in jax.tree.leaves(like):
        offsets.append(end)
        end += -(-_bytes(leaf) // STAMP) * STAMP
    if not jax.tree.leaves(one[0]):
        raise DataError("the head family stores nothing per user: it needs no bank")
    return Layout(like=like, offsets=tuple(offsets), size=-(-(end + STAMP) // 64) * 64)


class RowStore:
    """Rows of a bank outside the device; of `in_memory`, `create` or `reopen`. One thread at a time may use it."""

    def __init__(self, where: "_Memory | _Files", form: Layout, capacity: int, fresh: bank.Initial):
        self._where = where
        self._layout = form
        self._capacity = capacity
        self._fresh = fresh
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

    def read(self, rows: Int[np.ndarray, " U"]) -> bank.Rows:
        """(parameters, optimizer states) of these rows, numpy, every leaf a new array [U, ...].

        Raises:
          DataError: a row out of range or twice, or one that is torn.
        """
        bank.check_rows(rows, self._capacity)
        records = np.empty((len(rows), self._layout.size), np.uint8)
        self._where.fetch(rows.tolist(), records)
        first, last = (records[:, part].view(np.uint64)[:, 0] for part in (slice(STAMP), slice(-STAMP, None)))
        if (torn := rows[first != last]).size:
            raise DataError(
                f"{self._where.name}: row {torn[0]} is torn, its writer was killed: reset the row or restore a copy"
            )
        found = self._layout.unpack(records)
        if (untouched := np.flatnonzero(first == 0)).size:
            for leaf, new in zip(jax.tree.leaves(found), jax.tree.leaves(self._fresh(rows[untouched])), strict=True):
                leaf[untouched] = new
        return found

    def write(self, rows: Int[np.ndarray, " U"], values: bank.Rows) -> None:
        """Replaces these rows by values, every leaf [U, ...].

        Raises:
          DataError: a row out of range or twice, leaves of other shapes, or the disk is full.
        """
        bank.check_rows(rows, self._capacity)
        bank.check_like(values, self._layout.like, "the users", lead=(len(rows),))
        self._stamp += 1
        for row, record in zip(rows.tolist(), self._layout.pack(values, self._stamp), strict=True):
            self._where.put(row, record)

    def reset(self, rows: Int[np.ndarray, " U"]) -> None:
        """Rows as before their first update: zeros take the place of every byte of who had them.

        A hole stays a hole: rows that nobody had take no room.
        """
        bank.check_rows(rows, self._capacity)
        for row in rows.tolist():
            if self._where.record(row).any():
                self._where.put(row, np.zeros(self._layout.size, np.uint8))

    def torn(self) -> Int[np.ndarray, " n"]:
        """The rows that a killed writer left half-written; reads two pages of every record."""
        bad = []
        for row in range(self._capacity):
            record = self._where.record(row)
            if not np.array_equal(record[:STAMP], record[-STAMP:]):
                bad.append(row)
        return np.array(bad, np.int32)

    def grow(self, capacity: int) -> None:
        """More rows; those there are stay where they are.

        Raises:
          DataError: the store is larger already, or files cannot be made.
        """
        if capacity < self._capacity:
            raise DataError(f"{self._where.name} has {self._capacity} rows, it cannot grow to {capacity}")
        self._where.grow(capacity)
        self._capacity = capacity

    def flush(self) -> None:
        """Returns when everything written so far is on the disk.

        Raises:
          DataError: the disk failed.
        """
        self._where.flush()

    def close(self) -> None:
        """Flushes, and lets go of files and memory. A closed store cannot be used; closing again does nothing."""
        self._where.close()

    def __enter__(self) -> "RowStore":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


def in_memory(capacity: int, fresh: bank.Initial) -> RowStore:
    """A bank in the host's memory; rows that nobody touched take none.

    Args:
      capacity: C.
      fresh: what rows hold before their first update.
    """
    form = layout(fresh)
    where = _Memory(form.size)
    where.grow(capacity)
    return RowStore(where, form, capacity, fresh)


def create(
    folder: str | pathlib.Path, capacity: int, fresh: bank.Initial, *, rows_per_file: int | None = None
) -> RowStore:
    """A bank in files of a new folder. Next to nothing is written: the files are holes until users learn.

    Args:
      folder: must not hold a bank.
      capacity: C.
      fresh: what rows hold before their first update; the same must be given when it is opened again.
      rows_per_file: users of one file; by default as many as a GiB holds.

    Raises:
      DataError: the folder holds a bank or cannot be written.
    """
    form = layout(fresh)
    folder = pathlib.Path(folder).expanduser()
    if (folder / "bank.json").exists():
        raise DataError(f"{folder}: holds a bank already: reopen it or name another folder")
    with _sentence(folder, "cannot be made"):
        folder.mkdir(parents=True, exist_ok=True)
    where = _Files(folder, form, rows_per_file or max(1, FILE_BYTES // form.size))
    with where.closed_on_error():
        where.grow(capacity)
    return RowStore(where, form, capacity, fresh)


def reopen(folder: str | pathlib.Path, fresh: bank.Initial) -> RowStore:
    """A bank that `create` made.

    Args:
      folder: as given to `create`.
      fresh: as given to `create`.

    Raises:
      DataError: no bank, one of another family, width or optimizer, a missing or cut file, or another process has it.
    """
    form = layout(fresh)
    folder = pathlib.Path(folder).expanduser()
    note = files.read_json(folder / "bank.json")
    if note.get("format") != FORMAT:
        raise DataError(f"{folder / 'bank.json'}: format is {note.get('format')!r}, expected {FORMAT}")
    if note["leaves"] != _described(form):
        found = {name: jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(dtype)) for name, shape, dtype in note["leaves"]}
        bank.check_like(found, bank.leaves(form.like), str(folder))
    where = _Files(folder, form, note["rows_per_file"])
    with where.closed_on_error():
        where.open(note["capacity"])
    return RowStore(where, form, note["capacity"], fresh)


class _Memory:
    """Records in host memory, in blocks: a block grows into no other."""

    name = "the bank in memory"

    def __init__(self, size: int):
        self._size = size
        self._starts: list[int] = []
        self._blocks: list[np.ndarray] = []
        self._end = 0

    def _at(self, row: int) -> np.ndarray:
        block = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._blocks[block][row - self._starts[block]]

    record = _at

    def fetch(self, rows: list[int], out: np.ndarray) -> None:
        for record, row in zip(out, rows, strict=True):
            record[:] = self._at(row)

    def put(self, row: int, record: np.ndarray) -> None:
        self._at(row)[:] = record

    def grow(self, capacity: int) -> None:
        # np.zeros takes memory page by page, when it is written to.
        self._starts.append(self._end)
        self._blocks.append(np.zeros((capacity - self._end, self._size), np.uint8))
        self._end = capacity

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self._blocks, self._starts = [], []


class _Files:
    """Records in files of equal size, and `bank.json`, which says how many and what is in them."""

    def __init__(self, folder: pathlib.Path, form: Layout, rows_per_file: int):
        self.name = str(folder)
        self._folder = folder
        self._layout = form
        self._per_file = rows_per_file
        self._descriptors: list[int] = []
        self._maps: list[mmap.mmap] = []
        self._records: list[np.ndarray] = []  # the maps as uint8 [rows_per_file, size]
        self._known = np.zeros(0, np.uint8)  # of each row: _UNKNOWN, _BLANK or _WRITTEN
        self._lock = filelock.FileLock(folder / "lock", thread_local=False)
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise DataError(f"{folder}: the bank is in use by another process") from error
        except OSError as error:
            raise DataError(f"{folder}: the bank cannot be locked ({error.strerror})") from error

    def record(self, row: int) -> np.ndarray:
        return self._records[row // self._per_file][row % self._per_file]

    def fetch(self, rows: list[int], out: np.ndarray) -> None:
        size = self._layout.size
        for row in rows:  # all are asked of the disk before the first is waited for
            if self._known[row] != _BLANK:
                number, place = divmod(row, self._per_file)
                start = place * size // mmap.PAGESIZE * mmap.PAGESIZE
                self._maps[number].madvise(mmap.MADV_WILLNEED, start, (place + 1) * size - start)
        for record, row in zip(out, rows, strict=True):
            if self._known[row] == _BLANK:
                record[:STAMP] = record[-STAMP:] = 0  # what lies between is not looked at
            else:
                record[:] = self.record(row)

    def put(self, row: int, record: np.ndarray) -> None:
        number, place = divmod(row, self._per_file)
        offset = place * self._layout.size
        descriptor = self._descriptors[number]
        with _sentence(self._path(number), f"row {row} cannot be written"):
            if self._known[row] != _WRITTEN and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, offset, self._layout.size)
            self._known[row] = _WRITTEN
            data = record.data
            while data:
                written = os.pwrite(descriptor, data, offset)
                data, offset = data[written:], offset + written

    def grow(self, capacity: int) -> None:
        size = self._per_file * self._layout.size
        for number in range(len(self._descriptors), self._count(capacity)):
            with _sentence(self._path(number), "cannot be made"), open(self._path(number), "wb") as file:
                file.truncate(size)
        note = {
            "format": FORMAT,
            "capacity": capacity,
            "rows_per_file": self._per_file,
            "leaves": _described(self._layout),
        }
        # The note comes last: a bank that it describes is complete.
        with _sentence(self._folder, "cannot be written"):
            files.write_json(self._folder / "bank.json", note)
        self.open(capacity, _BLANK)

    def open(self, capacity: int, known: int = _UNKNOWN) -> None:
        self._known = np.append(self._known, np.full(capacity - len(self._known), known, np.uint8))
        size = self._per_file * self._layout.size
        for number in range(len(self._descriptors), self._count(capacity)):
            path = self._path(number)
            with _sentence(path, "cannot be opened"):
                descriptor = os.open(path, os.O_RDWR)
                self._descriptors.append(descriptor)
                if (got := os.fstat(descriptor).st_size) != size:
                    raise DataError(f"{path}: has {got} bytes, expected {size}: restore a copy")
                mapped = mmap.mmap(descriptor, size, prot=mmap.PROT_READ)
                # Reading around a fault, the kernel would fetch neighbours nobody asked for: 50 ms and more a batch.
                mapped.madvise(mmap.MADV_RANDOM)
                self._maps.append(mapped)
                self._records.append(np.frombuffer(mapped, np.uint8).reshape(self._per_file, -1))

    def flush(self) -> None:
        for number, descriptor in enumerate(self._descriptors):
            with _sentence(self._path(number), "cannot be written"):
                os.fsync(descriptor)

    def close(self) -> None:
        try:
            self.flush()
        finally:
            self._release()

    @contextlib.contextmanager
    def closed_on_error(self):
        try:
            yield
        except BaseException:
            self._release()
            raise

    def _release(self) -> None:
        self._maps, self._records = [], []
        while self._descriptors:
            os.close(self._descriptors.pop())
        self._lock.release()

    def _path(self, number: int) -> pathlib.Path:
        return self._folder / f"rows-{number:05d}.bin"

    def _count(self, capacity: int) -> int:
        return -(-capacity // self._per_file)


@contextlib.contextmanager
def _sentence(path: pathlib.Path, what: str):
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: {what} ({error.strerror})") from error


def _bytes(leaf: Any) -> int:
    return math.prod(leaf.shape) * leaf.dtype.itemsize


def _described(form: Layout) -> list[Any]:
    return [[name, list(leaf.shape), leaf.dtype.name] for name, leaf in bank.leaves(form.like).items()]
