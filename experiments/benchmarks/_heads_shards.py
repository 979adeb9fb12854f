"""A bank that does not fit into the memory: its step against that of a bank that does."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
import psutil

from experiments.benchmarks import _benchmark
from hydrajax import progress
from hydrajax.training import out_of_core, step
from hydrajax.training import state as states
from hydrajax.training.examples import Batch
from hydrajax.training.out_of_core import records

FILLED_AT_ONCE = 2048  # rows
SPARE_BYTES = 4e9  # of the disk that are left to others


def measure(
    inside: Any, made: Callable[[int, int], Sequence[Batch]], *, users: int, steps: int, turns: int
) -> dict[str, Any]:
    """Milliseconds of a step in memory, from files, and from files without fetching ahead; turns are taken.

    Every row is written before anything is timed, so that rows are read from the files and not made up, and the files
    are removed at the end.

    Args:
      inside: a `heads.Bank` in memory.
      made: (number of users, seed) -> batches on the host whose users are drawn from so many.
      users: rows in the files.
      steps: of a turn; the first is not timed.
      turns: how often each contender has its turn.
    """
    scorer, tx = inside.scorer, inside.tx
    head = scorer.family.init_user(jax.random.key(1), scorer.dims)
    fresh = states.initial(scorer, tx, head=head)
    size = users * records.layout_of(fresh).size
    with tempfile.TemporaryDirectory(prefix="hydrajax-bank-", ignore_cleanup_errors=True) as folder:
        if shutil.disk_usage(folder).free < size + SPARE_BYTES:
            return {"left_out": f"{size / 1e9:.0f} GB are not free under {tempfile.gettempdir()}"}
        with out_of_core.create(folder, users, fresh) as store:
            start = time.perf_counter()
            _fill(store, users, fresh)
            filled = time.perf_counter() - start
            update = jax.jit(step.make_train_step(scorer, None, tx), donate_argnums=0)
            few = states.init_state(scorer, None, tx, num_users=1, key=jax.random.key(0), head=head)
            taken: dict[str, list[float]] = {"memory": [], "files": [], "files_in_turn": []}
            for turn in range(turns):
                taken["memory"] += laps(map(inside, made(inside.users, turn)[:steps]))
                for name, prefetch in (("files", True), ("files_in_turn", False)):
                    own = jax.tree.map(lambda leaf: leaf.copy(), few)
                    batches = made(users, 2 * turn + prefetch)[:steps]  # never users that were just there
                    streamed = out_of_core.stream(update, own, store, batches, prefetch=prefetch)
                    taken[name] += laps(jax.block_until_ready(after.bank) for after, _ in streamed)
    median = {name: float(np.median(seconds)) for name, seconds in taken.items()}
    return {
        "step_ms": _benchmark.milliseconds(median),
        "users": users,
        "bank_gb": size / 1e9,
        "memory_gb": psutil.virtual_memory().total / 1e9,
        "written_mb_per_second": size / 1e6 / filled,
        "ratio_shards": median["files"] / median["memory"],
        "ratio_shards_in_turn": median["files_in_turn"] / median["memory"],
    }


def laps(steps: Iterable[Any]) -> list[float]:
    """Seconds of every step but the first."""
    return np.diff([time.perf_counter() for _ in steps]).tolist()


def _fill(store: out_of_core.RowStore, users: int, fresh: states.Initial) -> None:
    with progress.bar("writing the bank") as advance:
        for first in range(0, users, FILLED_AT_ONCE):
            rows = np.arange(first, min(first + FILLED_AT_ONCE, users), dtype=np.int32)
            store.write(rows, jax.device_get(fresh(rows)))
            advance(int(rows[-1]) + 1, users)
    store.flush()
