"""Features that were computed once and are kept in a folder: safetensors files, read through a memory map.

A frozen base gives the same text the same features for ever, and on a CPU they are the slowest part of a run. Features
are written in parts, each a file that appears whole or not at all; a killed run loses what it computed in the last
`SECONDS` at most. Several processes may share a folder.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import filelock
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Float, UInt8

from hydrajax.types import DataError

FOLDER = "features"
SECONDS = 20.0  # between two parts
BYTES = 16 * 2**20  # of a part
PARTS = 48  # beyond which they become one


def key(*parts: object) -> bytes:
    """The hash under which a text's features are kept: of everything that they depend on; 32 bytes."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).digest()


class FeatureCache:
    """Features by key; of `opened`."""

    def __init__(self, folder: pathlib.Path, dim: int):
        self._folder = folder
        self._dim = dim
        self._parts: list[np.ndarray] = []
        self._keys: UInt8[np.ndarray, "N 32"] = np.zeros((0, 32), np.uint8)
        self._place = np.zeros((0, 2), np.int64)  # part and row of each key
        self._new: dict[bytes, np.ndarray] = {}
        self._written = time.monotonic()
        found = sorted(folder.glob(f"{dim}-*.safetensors"))
        if len(found) > PARTS:
            found = self._merged(found)
        keys, places = [], []
        for path in found:
            one = _read(path, dim)
            if one is None:
                continue  # merged by another process a moment ago
            keys.append(one[0])
            places.append(np.stack([np.full(len(one[0]), len(self._parts)), np.arange(len(one[0]))], axis=1))
            self._parts.append(one[1])
        if keys:
            joined = np.concatenate(keys)
            order = np.argsort(_start(joined), kind="stable")
            self._keys, self._place = joined[order], np.concatenate(places)[order]
        self._starts = _start(self._keys)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Float[np.ndarray, " D"]]:
        """The features that are there, float32 [D] by key."""
        found = {name: self._new[name] for name in keys if name in self._new}
        if len(self._keys) and keys:
            wanted = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32)
            at = np.minimum(np.searchsorted(self._starts, _start(wanted)), len(self._keys) - 1)
            for i in np.flatnonzero((self._keys[at] == wanted).all(axis=1)).tolist():
                part, row = self._place[at[i]].tolist()
                found[keys[i]] = self._parts[part][row]
        return found

    def put(self, rows: Mapping[bytes, Float[np.ndarray, " D"]]) -> None:
        """Keeps rows; they are on the disk within `SECONDS`, and when the cache is closed."""
        self._new |= {name: np.asarray(row, np.float32) for name, row in rows.items()}
        if len(self._new) * 4 * self._dim >= BYTES or time.monotonic() - self._written >= SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes what is new."""
        if self._new:
            keys = np.frombuffer(b"".join(self._new), np.uint8).reshape(-1, 32)
            values = np.stack(list(self._new.values()))
            _write(self._folder, self._dim, keys, values)
            starts = np.concatenate([self._starts, _start(keys)])
            order = np.argsort(starts, kind="stable")
            place = np.stack([np.full(len(keys), len(self._parts)), np.arange(len(keys))], axis=1)
            self._keys, self._starts = np.concatenate([self._keys, keys])[order], starts[order]
            self._place = np.concatenate([self._place, place])[order]
            self._parts.append(values)
            self._new = {}
        self._written = time.monotonic()

    def _merged(self, found: list[pathlib.Path]) -> list[pathlib.Path]:
        """One file in the place of many; the many where another process is at it."""
        lock = filelock.FileLock(self._folder / "lock")
        try:
            with lock.acquire(timeout=0):
                found = sorted(self._folder.glob(f"{self._dim}-*.safetensors"))
                parts = [one for path in found if (one := _read(path, self._dim)) is not None]
                keys, first = np.unique(np.concatenate([one[0] for one in parts]), axis=0, return_index=True)
                values = np.concatenate([one[1] for one in parts])[first]
                new = _write(self._folder, self._dim, keys, values)
                for path in found:
                    path.unlink(missing_ok=True)
                return [new]
        except filelock.Timeout:
            return found


@contextlib.contextmanager
def opened(folder: str | pathlib.Path, dim: int) -> Iterator[FeatureCache]:
    """The cache of a folder, which is made where it does not exist.

    Args:
      folder: of the cache.
      dim: D, the width of its features; those of other widths are left alone.

    Raises:
      DataError: the folder cannot be made or written, or a file in it is broken.
    """
    path = pathlib.Path(folder).expanduser() / FOLDER
    try:
        path.mkdir(parents=True, exist_ok=True)
        cache = FeatureCache(path, dim)
        try:
            yield cache
        finally:
            cache.flush()
    except OSError as error:
        raise DataError(f"{path}: not usable as a cache of features ({error.strerror}): name another folder") from error


def _start(keys: np.ndarray) -> np.ndarray:
    """The first 8 bytes of every key as a number; two of a billion hashes share them with a chance of 3 %."""
    return np.ascontiguousarray(keys[:, :8]).view(np.uint64)[:, 0]


def _write(folder: pathlib.Path, dim: int, keys: np.ndarray, values: np.ndarray) -> pathlib.Path:
    name = f"{dim}-{uuid.uuid4().hex}.safetensors"
    temporary = folder / f".{name}.{os.getpid()}"
    try:
        safetensors.numpy.save_file({"keys": np.ascontiguousarray(keys), "values": values}, temporary)
        return temporary.replace(folder / name)
    except safetensors.SafetensorError as error:
        raise DataError(f"{folder}: features cannot be written ({error}): name another folder") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _read(path: pathlib.Path, dim: int) -> tuple[np.ndarray, np.ndarray] | None:
    """(keys uint8 [n, 32], values float32 [n, D]), both mapped; None where the file is gone."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > 4096:
                raise ValueError("its header is too long")
            header: dict[str, Any] = json.loads(file.read(size))
        n = header["keys"]["shape"][0]
        wanted = {"keys": ("U8", [n, 32], np.uint8), "values": ("F32", [n, dim], np.float32)}
        found = []
        for name, (kind, shape, dtype) in wanted.items():
            if (header[name]["dtype"], header[name]["shape"]) != (kind, shape):
                raise ValueError(f"{name} is {header[name]['dtype']}{header[name]['shape']}, expected {kind}{shape}")
            start = 8 + size + header[name]["data_offsets"][0]
            found.append(np.memmap(path, dtype, "r", start, tuple(shape)))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
        raise DataError(f"{path}: not usable as a cache of features ({error}): delete it") from error
    return found[0], found[1]
