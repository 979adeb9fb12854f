"""Features that were computed once and are kept in a folder: safetensors files, read through a memory map.

A frozen base gives the same text the same features for ever, and on a CPU they are the slowest part of a run. Features
are written in parts, each a file that appears whole or not at all; a killed run loses what it computed in the last
`SECONDS` at most. Several processes, and users, may share a folder; two that need the same text at the same time may
both compute it. A part carries checksums: one whose bytes have changed is removed with a warning, and what was in it
is computed again.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import os
import pathlib
import socket
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import filelock
import numpy as np
import psutil
import safetensors.numpy
from jaxtyping import Float, UInt8

from hydrajax import files

FOLDER = "features"
UNUSABLE = "not usable as a cache of features, name another folder"
SECONDS = 20.0  # between two parts
BYTES = 16 * 2**20  # of a part
PARTS = 48  # beyond which they become one
OLD = 3600.0  # seconds after which nobody writes a temporary file any more, unless its process still runs

Asked = TypeVar("Asked", str, tuple[str, str])

_log = logging.getLogger(__name__)
# Files that were found sound, by path, time and size: their values are read through once a process.
_sound: set[tuple[pathlib.Path, int, int]] = set()


def key(*parts: object) -> bytes:
    """The hash under which a text's features are kept: of everything that they depend on; 32 bytes."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).digest()


@dataclasses.dataclass(frozen=True)
class ReadOnly:
    """A folder whose features are read, while nothing in it is written, removed or made: for plans."""

    folder: str | pathlib.Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """Features of one file.

    Attributes:
      keys, values: of every feature; mapped.
      stamp: path, time and size of the file; None of what this process has written.
      checksum: of the values; None in files of earlier versions.
      read_only: whether the file stays where it is damaged.
    """

    keys: UInt8[np.ndarray, "N 32"]
    values: Float[np.ndarray, "N D"]
    stamp: tuple[pathlib.Path, int, int] | None = None
    checksum: str | None = None
    read_only: bool = False

    @functools.cached_property
    def sound(self) -> bool:
        """Whether the values are those that were written; a file of which they are not is of no use."""
        if self.stamp is not None and self.checksum is not None and self.stamp not in _sound:
            if _checksum(self.values) != self.checksum:
                _discard(self.stamp[0], "its values have another checksum", self.read_only)
                return False
            _sound.add(self.stamp)
        return True


class FeatureCache:
    """Features by key; of `opened`."""

    def __init__(self, folder: pathlib.Path, dim: int, *, read_only: bool = False):
        self._read_only = read_only
        self._folder = folder
        self._dim = dim
        self._places: dict[bytes, tuple[Part, int]] = {}  # part and row of each key
        self._new: dict[bytes, np.ndarray] = {}
        self._written = time.monotonic()
        if not read_only:
            _remove_leftovers(folder)
        paths = _files(folder, dim)
        for path in self._merged(paths) if len(paths) > PARTS and not read_only else paths:
            if (part := _read(path, dim, read_only)) is not None:
                self._add(part)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Float[np.ndarray, " D"]]:
        """The features that are there, float32 [D] by key."""
        rows = {name: self._new[name] for name in keys if name in self._new}
        for name in keys:
            if name not in rows and name in self._places:
                part, row = self._places[name]
                if part.sound:
                    rows[name] = part.values[row]
        return rows

    def put(self, rows: Mapping[bytes, Float[np.ndarray, " D"]]) -> None:
        """Keeps rows; they are on the disk within `SECONDS`, and when the cache is closed."""
        self._new |= {name: np.asarray(row, np.float32) for name, row in rows.items()}
        if len(self._new) * 4 * self._dim >= BYTES or time.monotonic() - self._written >= SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes what is new."""
        if self._new and not self._read_only:
            keys = np.frombuffer(b"".join(self._new), np.uint8).reshape(-1, 32)
            values = np.stack(list(self._new.values()))
            with files.in_a_sentence(self._folder, UNUSABLE):
                _write(self._folder, self._dim, keys, values)
            self._add(Part(keys=keys, values=values))
            self._new = {}
        self._written = time.monotonic()

    def _add(self, part: Part) -> None:
        keys = part.keys.tobytes()
        self._places |= {keys[start : start + 32]: (part, start // 32) for start in range(0, len(keys), 32)}

    def _merged(self, paths: list[pathlib.Path]) -> list[pathlib.Path]:
        """One file in the place of many; the many where another process is at it."""
        lock = filelock.FileLock(self._folder / "lock")
        try:
            with lock.acquire(timeout=0):
                paths = _files(self._folder, self._dim)
                # What is damaged must not get a checksum of its own.
                parts = [part for path in paths if (part := _read(path, self._dim)) is not None and part.sound]
                if not parts:
                    return []
                keys, first = np.unique(np.concatenate([part.keys for part in parts]), axis=0, return_index=True)
                values = np.concatenate([part.values for part in parts])[first]
                new = _write(self._folder, self._dim, keys, values)
                for path in paths:
                    path.unlink(missing_ok=True)
                return [new]
        except filelock.Timeout:
            return paths


@contextlib.contextmanager
def opened(folder: str | pathlib.Path | ReadOnly, dim: int) -> Iterator[FeatureCache]:
    """The cache of a folder, which is made where it does not exist.

    Args:
      folder: of the cache; of one that is `ReadOnly`, what is put into it is remembered until it is closed.
      dim: D, the width of its features; those of other widths are left alone.

    Raises:
      DataError: the folder cannot be made, read or written. What the caller's own code raises stays as it is.
    """
    read_only = isinstance(folder, ReadOnly)
    path = files.expanded(folder.folder if isinstance(folder, ReadOnly) else folder) / FOLDER
    with files.in_a_sentence(path, UNUSABLE):
        if not read_only:
            path.mkdir(parents=True, exist_ok=True)
        cache = FeatureCache(path, dim, read_only=read_only)
    try:
        yield cache
    finally:
        cache.flush()


def _files(folder: pathlib.Path, dim: int) -> list[pathlib.Path]:
    return sorted(path for path in folder.glob(f"{dim}-*.safetensors") if path.is_file())


def _write(folder: pathlib.Path, dim: int, keys: np.ndarray, values: np.ndarray) -> pathlib.Path:
    arrays = {"keys": np.ascontiguousarray(keys), "values": np.ascontiguousarray(values)}
    checksums = {part: _checksum(array) for part, array in arrays.items()}
    path = folder / f"{dim}-{uuid.uuid4().hex}.safetensors"
    files.write_bytes(path, safetensors.numpy.save(arrays, metadata=checksums))
    return path


def _read(path: pathlib.Path, dim: int, read_only: bool = False) -> Part | None:
    """A file; None where it is gone (merged by another process a moment ago) or was damaged, and then it is removed."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > 4096:
                raise ValueError("its header is too long")
            header: dict[str, Any] = json.loads(file.read(size))
            stat = os.fstat(file.fileno())
        n = header["keys"]["shape"][0]
        wanted = {"keys": ("U8", [n, 32], np.uint8), "values": ("F32", [n, dim], np.float32)}
        arrays = {}
        for name, (kind, shape, dtype) in wanted.items():
            if (header[name]["dtype"], header[name]["shape"]) != (kind, shape):
                raise ValueError(f"{name} is {header[name]['dtype']}{header[name]['shape']}, expected {kind}{shape}")
            start = 8 + size + header[name]["data_offsets"][0]
            arrays[name] = np.memmap(path, dtype, "r", start, tuple(shape))
        checksums = header.get("__metadata__", {})
        if checksums.get("keys") not in (None, _checksum(arrays["keys"])):
            raise ValueError("its keys have another checksum")
        stamp = (path, stat.st_mtime_ns, stat.st_size)
        return Part(**arrays, stamp=stamp, checksum=checksums.get("values"), read_only=read_only)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        _discard(path, str(error), read_only)
        return None


def _checksum(array: np.ndarray) -> str:
    return f"{zlib.crc32(array.data):08x}"


def _discard(path: pathlib.Path, why: str, read_only: bool) -> None:
    if read_only:
        return
    _log.warning("%s: was damaged (%s) and is removed: its features are computed anew", path, why)
    with contextlib.suppress(OSError):
        path.unlink()


def _remove_leftovers(folder: pathlib.Path) -> None:
    """Removes what processes left that were killed while they wrote; of those of other machines age is all we know."""
    for left in (*folder.glob(".*.safetensors.*"), *folder.glob(".tmp??????")):  # those of safetensors itself last
        host, _, number = left.name.partition(".safetensors.")[2].rpartition(".")
        runs = host == socket.gethostname() and number.isdecimal() and psutil.pid_exists(int(number))
        with contextlib.suppress(OSError):
            if not runs and time.time() - left.stat().st_mtime > OLD:
                left.unlink()


def in_memory(encode: Callable[[Sequence[Asked]], np.ndarray]) -> Callable[[Sequence[Asked]], np.ndarray]:
    """The same function, which remembers what it has computed, for what is asked for again and again.

    Args:
      encode: texts, or pairs of texts -> features [N, D].
    """
    known: dict[Asked, np.ndarray] = {}

    def remembered(texts: Sequence[Asked]) -> np.ndarray:
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing or not texts:
            computed = encode(missing)
            known.update(zip(missing, computed, strict=True))
        return np.stack([known[text] for text in texts]) if texts else computed

    return remembered
