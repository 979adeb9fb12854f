"""The train step over a bank that is not on the device: rows are fetched ahead and written back behind.

While step t computes, one background thread fetches the rows of batch t + 1, then writes those of batch t back. It does
one thing at a time and in this order, so that the rows of batch t + 1 are as batch t - 1 left them. What batch t itself
has changed is handed over on the device, from the result of its step. No row is ever read while it is written, and the
parameters are bit-identical to those of the bank in memory, with dropout too.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from hydrajax.training import checks
from hydrajax.training import rows as rows_
from hydrajax.training import state as states
from hydrajax.training import step as steps
from hydrajax.training.examples import Batch
from hydrajax.training.state import TrainState


@runtime_checkable
class ReadsAndWrites(Protocol):
    """Where rows are kept: a `row_store.RowStore`, or what has these three."""

    @property
    def capacity(self) -> int: ...

    def read(self, rows: np.ndarray) -> states.Rows: ...

    def write(self, rows: np.ndarray, values: states.Rows) -> None: ...


def stream(
    update: steps.Step,
    state: TrainState,
    store: ReadsAndWrites,
    batches: Iterable[Batch],
    *,
    prefetch: bool = True,
) -> Iterator[tuple[TrainState, steps.Metrics]]:
    """One update a batch; the bank is the store's.

    Leaving the loop early (`break`, then `close()` of the iterator) writes back what was computed. Read the store
    after the loop, not within, and close it after the iterator. The iterator does not wait for the device: read the
    metrics one step late.

    Args:
      update: a step, jitted by the caller; its state may be donated.
      state: base, shared parameters, their optimizer, anchor, key; its bank is not looked at, so that
        `init_state(..., num_users=1)` will do.
      store: with the users' rows.
      batches: rows are those of the store; one of its capacity or more is a slot without a user.
      prefetch: False: fetch, compute, write, one after the other; for measurements.

    Yields:
      (state, metrics) after every step, the state with a bank of the batch's rows 0..U-1. It is good until the next.

    Raises:
      DataError: a negative row, a row twice in a batch, or the store cannot be read or written.
    """
    with getattr(store, "streamed", contextlib.nullcontext)():
        worker = concurrent.futures.ThreadPoolExecutor(1, "rows")

        def submit(function: Callable[..., Any], *args: Any) -> concurrent.futures.Future:
            future = worker.submit(function, *args)
            if not prefetch:
                concurrent.futures.wait([future])
            return future

        writing: Any = None
        last: tuple[np.ndarray, states.Rows] | None = None
        try:
            feed = iter(batches)
            batch = next(feed, None)
            reading: Any = None if batch is None else submit(_fetch, store, _rows(batch, store))
            while batch is not None:
                rows = _rows(batch, store)
                users = reading.result()
                if last is not None:
                    users = _hand_over(users, rows, *last, store.capacity)
                following = next(feed, None)
                if following is not None:
                    # Before the step is dispatched: small programs run on the thread that dispatches them.
                    reading = submit(_fetch, store, _rows(following, store))
                slots = np.where(rows < store.capacity, np.arange(len(rows)), len(rows)).astype(np.int32)
                state = state.with_stored(users)
                ids = rows if batch.ids is None else batch.ids
                state, metrics = update(state, dataclasses.replace(batch, rows=slots, ids=ids))
                last = rows, state.stored
                if writing is not None:
                    writing.result()
                writing = submit(_write, store, *last)
                yield state, metrics
                batch = following
        finally:
            worker.shutdown(wait=True)
            if writing is not None:
                writing.result()


def _rows(batch: Batch, store: ReadsAndWrites) -> np.ndarray:
    return checks.check_slots(batch.rows, store.capacity)


def _fetch(store: ReadsAndWrites, rows: np.ndarray) -> states.Rows:
    real = rows < store.capacity
    users = store.read(rows[real])
    if not real.all():
        users = jax.tree.map(lambda leaf: _spread(leaf, real), users)
    return jax.device_put(users)


def _write(store: ReadsAndWrites, rows: np.ndarray, users: states.Rows) -> None:
    real = rows < store.capacity
    store.write(rows[real], jax.tree.map(lambda leaf: np.asarray(leaf)[real], users))


def _hand_over(
    users: states.Rows, rows: np.ndarray, last_rows: np.ndarray, last: states.Rows, capacity: int
) -> states.Rows:
    """The fetched users, but those of the last batch as its step has left them."""
    both, here, there = np.intersect1d(rows[rows < capacity], last_rows, return_indices=True)
    if not len(both):
        return users
    here = np.flatnonzero(rows < capacity)[here]
    to, source = np.full(len(rows), len(rows), np.int32), np.zeros(len(rows), np.int32)
    to[: len(both)], source[: len(both)] = here, there
    return _copy_rows(users, last, to, source)


@functools.partial(jax.jit, donate_argnums=0)
def _copy_rows(users: states.Rows, last: states.Rows, to: jax.Array, source: jax.Array) -> states.Rows:
    return rows_.scatter(users, to, rows_.gather(last, source))


def _spread(leaf: np.ndarray, real: np.ndarray) -> np.ndarray:
    out = np.zeros((len(real), *leaf.shape[1:]), leaf.dtype)
    out[real] = leaf
    return out
