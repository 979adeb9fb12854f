"""A bank that does not fit into the memory: its step against that of a bank that does."""

import collections
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import psutil

from hydrajax import progress
from hydrajax.nn import scorer as scorers
from hydrajax.training import out_of_core, step
from hydrajax.training import state as states
from hydrajax.training.examples import Batch
from hydrajax.training.out_of_core import records

FILLED_AT_ONCE = 2048  # rows
SPARE_BYTES = 4e9  # of the disk that are left to others

Made = Callable[[int, int], Sequence[Batch]]


def measure(
    scorer: scorers.Scorer, tx: Any, in_memory: step.Step, state: Any, made: Made, *, users: int, steps: int, turns: int
) -> dict[str, Any]:
    """Milliseconds of a step in memory, from files, and from files without fetching ahead; turns are taken.

    Every row is written before anything is timed, so that rows are read from the files and not made up, and the files
    are removed at the end.

    Args:
      scorer: base and head family.
      tx: optimizer of a head.
      in_memory: the compiled step over a bank in memory, whose state is donated.
      state: of that bank.
      made: (number of users, seed) -> batches on the host whose users are drawn from so many.
      users: rows in the files.
      steps: of a turn; the first is not timed.
      turns: how often each contender has its turn.
    """
    head = scorer.family.init_user(jax.random.key(1), scorer.dims)
    fresh = states.initial(scorer, tx, head=head)
    size = users * records.layout_of(fresh).size
    folder = tempfile.mkdtemp(prefix="hydrajax-bank-")
    try:
        if shutil.disk_usage(folder).free < size + SPARE_BYTES:
            return {"left_out": f"{size / 1e9:.0f} GB are not free under {tempfile.gettempdir()}"}
        with out_of_core.create(folder, users, fresh) as store:
            start = time.perf_counter()
            _fill(store, users, fresh)
            filled = time.perf_counter() - start
            update = jax.jit(step.make_train_step(scorer, None, tx), donate_argnums=0)
            few = states.init_state(scorer, None, tx, num_users=1, key=jax.random.key(0), head=head)
            capacity = state.capacity
            seconds: dict[str, list[float]] = collections.defaultdict(list)
            for turn in range(turns):
                batches = made(capacity, turn)[:steps]
                for i, batch in enumerate(batches):
                    begun = time.perf_counter()
                    state, _ = in_memory(state, batch)
                    jax.block_until_ready(state)
                    if i:
                        seconds["memory"].append(time.perf_counter() - begun)
                for name, prefetch in (("files", True), ("files_in_turn", False)):
                    own = jax.tree.map(lambda leaf: leaf.copy(), few)
                    batches = made(users, 2 * turn + prefetch)[:steps]  # never users that were just there
                    begun, done = time.perf_counter(), 0
                    for after, _ in out_of_core.stream(update, own, store, batches, prefetch=prefetch):
                        jax.block_until_ready(after.bank)
                        if done:
                            seconds[name].append(time.perf_counter() - begun)
                        begun, done = time.perf_counter(), done + 1
        median = {name: float(np.median(taken)) for name, taken in seconds.items()}
        return {
            "step_ms": {name: round(1e3 * value, 3) for name, value in median.items()},
            "users": users,
            "bank_gb": round(size / 1e9, 2),
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
            "written_mb_per_second": round(size / 1e6 / filled),
            "ratio_shards": round(median["files"] / median["memory"], 3),
            "ratio_shards_in_turn": round(median["files_in_turn"] / median["memory"], 3),
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fill(store: out_of_core.RowStore, users: int, fresh: states.Initial) -> None:
    with progress.bar("writing the bank") as advance:
        for first in range(0, users, FILLED_AT_ONCE):
            rows = np.arange(first, min(first + FILLED_AT_ONCE, users), dtype=np.int32)
            store.write(rows, jax.device_get(fresh(rows)))
            advance(int(rows[-1]) + 1, users)
    store.flush()
