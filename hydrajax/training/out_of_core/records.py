"""Where the rows of a bank lie outside the device: one record a user, in host memory or in files. See `row_store`."""

import contextlib
import dataclasses
import math
import mmap
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import filelock
import jax
import jax.numpy as jnp
import numpy as np

from hydrajax import files
from hydrajax.training import checks
from hydrajax.training import state as states
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

    like: states.Rows
    offsets: tuple[int, ...]
    size: int

    def pack(self, rows: states.Rows, stamp: int) -> np.ndarray:
        """Records of rows (every leaf [n, ...]), uint8 [n, size]."""
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(rows)]
        records = np.zeros((len(leaves[0]), self.size), np.uint8)
        for offset, leaf in zip(self.offsets, leaves, strict=True):
            flat = np.ascontiguousarray(leaf).reshape(len(leaf), -1).view(np.uint8)
            records[:, offset : offset + flat.shape[1]] = flat
        records[:, :STAMP].view(np.uint64)[:] = stamp
        records[:, -STAMP:].view(np.uint64)[:] = stamp
        return records

    def unpack(self, records: np.ndarray) -> states.Rows:
        """Rows of records, every leaf a new array [n, ...]."""
        out = []
        for offset, leaf in zip(self.offsets, jax.tree.leaves(self.like), strict=True):
            flat = np.ascontiguousarray(records[:, offset : offset + _bytes(leaf)])
            out.append(flat.view(leaf.dtype).reshape(len(records), *leaf.shape))
        return jax.tree.unflatten(jax.tree.structure(self.like), out)


def stamps(records: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The stamps before and behind each record: unlike where its writer was killed, 0 where nothing was written."""
    first, last = (
        np.ascontiguousarray(records[:, part]).view(np.uint64)[:, 0] for part in (slice(STAMP), slice(-STAMP, None))
    )
    return first, last


def layout_of(fresh: states.Initial) -> Layout:
    """The layout of rows that start as `fresh` says.

    Raises:
      DataError: there is nothing to store.
    """
    row = fresh(np.zeros(1, np.int32))
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), row)
    offsets, end = [], STAMP
    for leaf in jax.tree.leaves(like):
        offsets.append(end)
        end += -(-_bytes(leaf) // STAMP) * STAMP
    if not jax.tree.leaves(row[0]):
        raise DataError("the head family stores nothing per user: it needs no bank")
    return Layout(like=like, offsets=tuple(offsets), size=-(-(end + STAMP) // 64) * 64)


class Memory:
    """Records in host memory, in blocks: a block grows into no other."""

    name = "the bank in memory"

    def __init__(self, size: int):
        self._size = size
        self._starts: list[int] = []
        self._blocks: list[np.ndarray] = []
        self._end = 0

    def record(self, row: int) -> np.ndarray:
        block = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._blocks[block][row - self._starts[block]]

    def fetch(self, rows: list[int], out: np.ndarray) -> None:
        for record, row in zip(out, rows, strict=True):
            record[:] = self.record(row)

    def put(self, row: int, record: np.ndarray) -> None:
        self.record(row)[:] = record

    def grow(self, capacity: int) -> None:
        # np.zeros takes memory page by page, when it is written to.
        self._starts.append(self._end)
        self._blocks.append(np.zeros((capacity - self._end, self._size), np.uint8))
        self._end = capacity

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self._blocks, self._starts = [], []


class Files:
    """Records in files of equal size, and `bank.json`, which says how many and what is in them."""

    def __init__(self, folder: pathlib.Path, layout: Layout):
        self.name = str(folder)
        self._folder = folder
        self._layout = layout
        self._per_file = 1
        self._descriptors: list[int] = []
        self._maps: list[mmap.mmap] = []
        self._records: list[np.ndarray] = []  # the maps as uint8 [rows_per_file, size]
        self._known = np.zeros(0, np.uint8)  # of each row of the files: _UNKNOWN, _BLANK or _WRITTEN
        self._lock = filelock.FileLock(folder / "lock", thread_local=False)
        with files.in_a_sentence(folder, "the bank cannot be locked"):
            try:
                self._lock.acquire(timeout=0)
            except filelock.Timeout as error:
                raise DataError(f"{folder}: the bank is in use by another process") from error

    def create(self, capacity: int, rows_per_file: int) -> None:
        if (self._folder / "bank.json").exists():
            raise DataError(f"{self._folder}: holds a bank already: reopen it or name another folder")
        if any(self._folder.glob("rows-*.bin")):
            raise DataError(f"{self._folder}: holds files of rows and no bank.json: restore it or name another folder")
        self._per_file = rows_per_file
        self.grow(capacity)

    def reopen(self) -> int:
        path = self._folder / "bank.json"
        capacity, self._per_file, leaves = _noted(path, files.read_json(path))
        checks.check_like(leaves, checks.leaves(self._layout.like), self.name)
        self._open(self._count(capacity))
        return capacity

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
        with files.in_a_sentence(self._path(number), f"row {row} cannot be written"):
            if self._known[row] != _WRITTEN and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, offset, self._layout.size)
            self._known[row] = _WRITTEN
            data = record.data
            while data:
                written = os.pwrite(descriptor, data, offset)
                data, offset = data[written:], offset + written

    def grow(self, capacity: int) -> None:
        before, after = len(self._descriptors), self._count(capacity)
        made: list[int] = []
        note = {
            "format": FORMAT,
            "capacity": capacity,
            "rows_per_file": self._per_file,
            "leaves": [
                [name, list(leaf.shape), leaf.dtype.name] for name, leaf in checks.leaves(self._layout.like).items()
            ],
        }
        try:
            for number in range(before, after):
                path = self._path(number)
                # One that exists is never cut: its rows may be somebody's.
                refused = files.in_a_sentence(path, "cannot be made")
                with refused, contextlib.suppress(FileExistsError), open(path, "xb") as file:
                    made.append(number)
                    file.truncate(self._per_file * self._layout.size)
            self._open(after, made)
            # The note comes last: a bank that it describes is complete.
            with files.in_a_sentence(self._folder, "cannot be written"):
                files.write_json(self._folder / "bank.json", note)
        except BaseException:
            self._close_behind(before)
            for number in made:  # nobody has written to them
                self._path(number).unlink(missing_ok=True)
            raise

    def _open(self, count: int, made: Sequence[int] = ()) -> None:
        size = self._per_file * self._layout.size
        for number in range(len(self._descriptors), count):
            path = self._path(number)
            with files.in_a_sentence(path, "cannot be opened"):
                descriptor = os.open(path, os.O_RDWR)
                self._descriptors.append(descriptor)
                if (got := os.fstat(descriptor).st_size) != size:
                    raise DataError(f"{path}: has {got} bytes, expected {size}: restore a copy")
                mapped = mmap.mmap(descriptor, size, prot=mmap.PROT_READ)
                # Reading around a fault, the kernel would fetch neighbours nobody asked for: 50 ms and more a batch.
                mapped.madvise(mmap.MADV_RANDOM)
                self._maps.append(mapped)
                self._records.append(np.frombuffer(mapped, np.uint8).reshape(self._per_file, -1))
            known = _BLANK if number in made else _UNKNOWN
            self._known = np.append(self._known, np.full(self._per_file, known, np.uint8))

    def flush(self) -> None:
        for number, descriptor in enumerate(self._descriptors):
            with files.in_a_sentence(self._path(number), "cannot be written"):
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
        self._close_behind(0)
        self._lock.release()

    def _close_behind(self, count: int) -> None:
        del self._maps[count:], self._records[count:]
        self._known = self._known[: count * self._per_file]
        while len(self._descriptors) > count:
            os.close(self._descriptors.pop())

    def _path(self, number: int) -> pathlib.Path:
        return self._folder / f"rows-{number:05d}.bin"

    def _count(self, capacity: int) -> int:
        return -(-capacity // self._per_file)


def _bytes(leaf: Any) -> int:
    return math.prod(leaf.shape) * leaf.dtype.itemsize


def _noted(path: pathlib.Path, note: Mapping[str, Any]) -> tuple[int, int, dict[str, Any]]:
    """(capacity, rows of a file, leaves by name) of a `bank.json`."""
    if note.get("format") != FORMAT:
        raise DataError(f"{path}: format is {note.get('format')!r}, expected {FORMAT}")
    try:
        capacity = checks.number(note.get("capacity"), "capacity", 0)
        per_file = checks.number(note.get("rows_per_file"), "rows_per_file", 1)
        leaves = {name: jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(kind)) for name, shape, kind in note["leaves"]}
    except KeyError as error:
        raise DataError(f"{path}: has no {error.args[0]}: restore a copy") from error
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: does not describe a bank ({error}): restore a copy") from error
    return capacity, per_file, leaves
