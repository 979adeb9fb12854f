"""The loop around the train step: batches, curves, checkpoints, resume."""

import contextlib
import pathlib
from collections.abc import Callable
from typing import Any

import jax

from hydrajax.nn import processes
from hydrajax.training import batches, checkpoints, sharded
from hydrajax.training import step as steps
from hydrajax.training.state import TrainState
from hydrajax.types import DataError

Progress = Callable[[int, int], None]


def run(
    step: steps.Step,
    state: TrainState,
    plan: batches.Plan,
    *,
    checkpoint: str | pathlib.Path | None = None,
    save_every: int | None = None,
    run_id: str = "",
    mesh: jax.sharding.Mesh | None = None,
    progress: Progress | None = None,
) -> tuple[TrainState, list[float]]:
    """Trains for all epochs; with a checkpoint folder, goes on where an interrupted run of the same kind stopped.

    A resumed run ends with bit-identical parameters: state, key and the place in the data are all in the checkpoint.
    That is the same whatever the number of devices, so a run may go on with another; then to rounding.

    Args:
      step: of `make_train_step`, or of `make_sharded_step` with a mesh; jitted here, its state donated.
      state: before the first step; consumed.
      plan: the batches of every epoch.
      checkpoint: a folder; None keeps nothing.
      save_every: steps between two checkpoints; None: an epoch's.
      run_id: what the run depends on, as a hash; a checkpoint of another run is refused.
      mesh: of `sharded.make_mesh`; None: one device.
      progress: called with (steps done, steps).

    Returns:
      (state, mean loss of every epoch).

    Raises:
      DataError: the folder's checkpoint is of another run.
    """
    ends, feed = plan.ends, plan.iterator()
    capacity = state.capacity or len(plan.pull) - 1
    jitted = jax.jit(step, donate_argnums=0)
    sums: list[list[float]] = [[0.0, 0.0] for _ in plan.epochs]
    epoch = done = 0
    waiting: list[tuple[int, Any]] = []

    def fetch(keep: int) -> None:
        """Adds up the metrics of all but the last `keep` steps: reading those would wait for the device."""
        while len(waiting) > keep:
            where, metrics = waiting.pop(0)
            for place, name in enumerate(("loss", "weight")):
                sums[where][place] += float(metrics[name]) if mesh is None else sharded.total(metrics[name])

    def placed(state: TrainState) -> TrainState:
        """The state where steps take it: a copy, since one made from the caller's arrays must not donate them."""
        if mesh is None:
            return jax.tree.map(lambda leaf: leaf.copy(), state)
        return sharded.place(sharded.padded(state, mesh.size), mesh)

    def whole(state: TrainState) -> TrainState:
        return state if mesh is None else sharded.gathered(state, capacity)

    writes = processes.count() == 1 or processes.first()
    with contextlib.nullcontext() if checkpoint is None or not writes else checkpoints.opened(checkpoint) as kept:
        if checkpoint is not None:
            state, note = _resumed(kept, state, run_id, checkpoint)
            if note is not None:
                feed.set_state(note["feed"])
                sums, done = note["sums"], note["done"]
        state = placed(state)
        while done < ends[-1]:
            while ends[epoch + 1] <= done:
                epoch += 1
            batch = next(feed)
            if mesh is not None:
                batch = sharded.put_batch(sharded.dealt(batch, capacity, mesh), mesh)
            state, metrics = jitted(state, batch)
            waiting.append((epoch, metrics))
            done += 1
            fetch(1)
            due = done in ends if save_every is None else done % save_every == 0 or done == ends[-1]
            if checkpoint is not None and due:
                fetch(0)
                now = whole(state)
                if kept is not None:
                    kept.save(done, now, {"run_id": run_id, "feed": feed.get_state(), "sums": sums, "done": done})
            if progress is not None:
                progress(done, ends[-1])
        fetch(0)
    return whole(state), [loss / weight if weight else float("nan") for loss, weight in sums]


def _resumed(
    kept: checkpoints.Checkpoints | checkpoints.OneFile | None, state: TrainState, run_id: str, folder: Any
) -> tuple[TrainState, dict[str, Any] | None]:
    """The state of the newest checkpoint and its note, or the state as it is; of several processes the first reads."""
    error, note = None, None
    try:
        note = None if kept is None else kept.note()
        if kept is not None and note is not None:
            if note.get("run_id") != run_id:
                raise DataError(f"{folder}: holds a checkpoint of another run: name another folder")
            state = kept.load(state)
    except DataError as found:
        error = found
    processes.agree(error)
    note = processes.of_first(note)
    return (state if note is None or processes.count() == 1 else sharded.of_first(state)), note
