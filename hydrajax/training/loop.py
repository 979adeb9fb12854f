"""The loop around the train step: batches, curves, checkpoints, resume."""

import contextlib
import pathlib
from collections.abc import Callable
from typing import Any

import jax

from hydrajax.training import batches, checkpoints
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
    progress: Progress | None = None,
) -> tuple[TrainState, list[float]]:
    """Trains for all epochs; with a checkpoint folder, goes on where an interrupted run of the same kind stopped.

    A resumed run ends with bit-identical parameters: state, key and the place in the data are all in the checkpoint.

    Args:
      step: of `make_train_step`; jitted here, its state donated.
      state: before the first step; consumed.
      plan: the batches of every epoch.
      checkpoint: a folder; None keeps nothing.
      save_every: steps between two checkpoints; None: an epoch's.
      run_id: what the run depends on, as a hash; a checkpoint of another run is refused.
      progress: called with (steps done, steps).

    Returns:
      (state, mean loss of every epoch).

    Raises:
      DataError: the folder's checkpoint is of another run.
    """
    ends, feed = plan.ends, plan.iterator()
    # A state that was made from the caller's arrays must not donate them.
    state = jax.tree.map(lambda leaf: leaf.copy(), state)
    jitted = jax.jit(step, donate_argnums=0)
    sums: list[list[float]] = [[0.0, 0.0] for _ in plan.epochs]
    epoch = done = 0
    waiting: list[tuple[int, Any]] = []

    def fetch(keep: int) -> None:
        """Adds up the metrics of all but the last `keep` steps: reading those would wait for the device."""
        while len(waiting) > keep:
            where, metrics = waiting.pop(0)
            sums[where][0] += float(metrics["loss"])
            sums[where][1] += float(metrics["weight"])

    with contextlib.nullcontext() if checkpoint is None else checkpoints.opened(checkpoint) as kept:
        if kept is not None and (note := kept.note()) is not None:
            if note.get("run_id") != run_id:
                raise DataError(f"{checkpoint}: holds a checkpoint of another run: name another folder")
            state = kept.load(state)
            feed.set_state(note["feed"])
            sums, done = note["sums"], note["done"]
        while done < ends[-1]:
            while ends[epoch + 1] <= done:
                epoch += 1
            state, metrics = jitted(state, next(feed))
            waiting.append((epoch, metrics))
            done += 1
            fetch(1)
            due = done in ends if save_every is None else done % save_every == 0 or done == ends[-1]
            if kept is not None and due:
                fetch(0)
                kept.save(done, state, {"run_id": run_id, "feed": feed.get_state(), "sums": sums, "done": done})
            if progress is not None:
                progress(done, ends[-1])
        fetch(0)
    return state, [loss / weight if weight else float("nan") for loss, weight in sums]
