"""The loop around the train step: user-major batches, curves, checkpoints, resume.

What goes into which batch is decided once, from the seed; the place in the data is the number of the next batch, and a
resumed run goes on with the batch that the interrupted one would have had.
"""

import contextlib
import dataclasses
import itertools
import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import grain
import jax
import numpy as np
from jaxtyping import Float, Integer

from hydrajax.nn import processes, tokens
from hydrajax.training import checkpoints, losses, sharded
from hydrajax.training import examples as examples_
from hydrajax.training import step as steps
from hydrajax.training.state import TrainState
from hydrajax.types import DataError

Progress = Callable[[int, int], None]
SMALLEST = 8  # E, the examples of a user in a batch, padding included


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slots:
    """One batch before its arrays are gathered: users [U], row numbers of examples [U, E], tokens T (0: features)."""

    users: np.ndarray
    rows: np.ndarray
    length: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """The batches of every epoch; see `plan`.

    Attributes:
      examples: what the batches hold.
      pull: float32 [num_users + 1], the prior's strength by the user's examples.
      epochs: the batches in their order.
      beside: of `losses.Targets`.
    """

    examples: examples_.Examples
    pull: np.ndarray
    epochs: Sequence[Sequence[Slots]]
    beside: int | None = None

    @property
    def ends(self) -> list[int]:
        """Batches before the first epoch, and up to the end of each."""
        return list(itertools.accumulate(map(len, self.epochs), initial=0))

    def updates(self) -> Integer[np.ndarray, " U"]:
        """How many updates the heads of users 0..num_users-1 get."""
        users = [slots.users for epoch in self.epochs for slots in epoch]
        return np.bincount(np.concatenate([np.zeros(0, np.int32), *users]), minlength=len(self.pull))[:-1]

    def batch(self, slots: Slots) -> examples_.Batch:
        """The arrays of one batch."""
        examples = self.examples
        take, mask = np.maximum(slots.rows, 0), slots.rows >= 0
        if isinstance(examples.x, tokens.Tokens):
            x: Any = jax.tree.map(lambda leaf: leaf[take, : slots.length], examples.x)
            # A padded example attends to its own padding: the mask of a text without any token would be empty.
            x = x.replace(mask=x.mask & mask[..., None])
        else:
            x = examples.x[take]
        return examples_.Batch(
            rows=slots.users,
            x=x,
            extras=examples.extras[take],
            targets=losses.Targets(
                label=examples.label[take],
                score=examples.score[take],
                pool=examples.pool[take],
                mask=mask,
                beside=self.beside,
            ),
            pull=self.pull[slots.users],
        )

    def iterator(self) -> grain.DatasetIterator:
        """The batches of all epochs in order; `get_state` and `set_state` save and resume."""
        # Grain names a step by its repr: that of the method would print every batch.
        data = grain.MapDataset.source(list(itertools.chain(*self.epochs))).map(lambda slots: self.batch(slots))
        read = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
        return iter(data.to_iter_dataset(read))


def plan(
    examples: examples_.Examples,
    num_users: int,
    *,
    epochs: int,
    users_per_batch: int,
    batch_examples: int,
    total_examples: int | None = None,
    prior_strength: float = 0.0,
    seed: int = 0,
    whole_pools: bool = False,
    clusters: int = 0,
) -> Plan:
    """Decides which examples of which users are in which batch.

    A batch holds different users, with like numbers of examples and like lengths: E and T are the smallest bucket
    that holds them, so that a step is traced once a bucket.

    Args:
      examples: of users 0..num_users-1.
      num_users: the row of slots without a user.
      epochs: passes over the examples.
      users_per_batch: slots for users; slots that are left over are padding.
      batch_examples: most examples of a user in a batch (a whole pool may be more).
      total_examples: of all users in a batch, as near as whole chunks come: it then has fewer users, as many as that
        takes on average.
      prior_strength: of the prior, divided here by the user's examples.
      seed: of every order.
      whole_pools: a pool is never divided, as losses inside a pool need it.
      clusters: of features, by which pools are drawn: a user is then in one batch of an epoch (`examples.chunked`); 0:
        all examples are in every epoch. There are none of tokens.
    """
    cluster = None
    if clusters and not isinstance(examples.x, tokens.Tokens):
        cluster = clusters_of_pools(examples.x, examples.user, examples.pool, clusters, seed=seed)
    chunks = examples_.chunked(
        examples.user,
        examples.pool,
        num_users,
        size=batch_examples,
        epochs=epochs,
        seed=seed,
        whole_pools=whole_pools,
        cluster=cluster,
    )
    count = (chunks.rows >= 0).sum(axis=1)
    sizes = np.array([_power(n) for n in count.tolist()], int)
    slots = dict.fromkeys(sizes.tolist(), users_per_batch)
    if total_examples is not None:
        for size in slots:
            slots[size] = min(users_per_batch, max(1, round(total_examples / count[sizes == size].mean())))
    lengths, longest = None, 0
    if isinstance(examples.x, tokens.Tokens):
        lengths, longest = examples.x.mask.sum(axis=1), examples.x.ids.shape[1]
    planned = []
    for epoch in range(epochs):
        rng = np.random.default_rng([seed, epoch])
        # A user's chunks go to different rounds: a batch has one update for a head, not two that miss each other.
        groups: dict[tuple[int, int, int], list[tuple[int, np.ndarray]]] = {}
        for user in rng.permutation(num_users):
            for turn, chunk in enumerate(range(chunks.start[epoch, user], chunks.stop[epoch, user])):
                rows = chunks.rows[chunk][chunks.rows[chunk] >= 0]
                length = 0 if lengths is None else min(tokens.bucket(int(lengths[rows].max())), longest)
                groups.setdefault((turn, _power(len(rows)), length), []).append((int(user), rows))
        batches = []
        for (_, size, length), members in sorted(groups.items(), key=lambda item: item[0]):
            for first in range(0, len(members), slots[size]):
                users = np.full(slots[size], num_users, np.int32)
                taken = np.full((slots[size], size), -1, np.int32)
                for slot, (user, rows) in enumerate(members[first : first + slots[size]]):
                    users[slot], taken[slot, : len(rows)] = user, rows
                batches.append(Slots(users=users, rows=taken, length=length))
        planned.append([batches[i] for i in rng.permutation(len(batches))])
    of_user = np.bincount(examples.user, minlength=num_users + 1)
    pull = (prior_strength / np.maximum(of_user, 1)).astype(np.float32)
    beside = losses.beside(examples.pool) if whole_pools else None
    return Plan(examples=examples, pull=pull, epochs=planned, beside=beside)


def clusters_of_pools(
    x: Float[np.ndarray, "N D"],
    user: Integer[np.ndarray, " N"],
    pool: Integer[np.ndarray, " N"],
    count: int,
    *,
    seed: int,
) -> Integer[np.ndarray, " N"]:
    """The cluster of each example's pool among those of its user: what is drawn by it is of all of a profile.

    Cluster-based sampling of MoF (arXiv 2610.08330, section 3.3): k-means over the features of a user's records.

    Args:
      x: features; a pool is at the mean of its examples.
      user: of each example.
      pool: of each example, of one user each.
      count: most clusters of a user.
      seed: of k-means, with the user's number.
    """
    # Imported where it is needed: it takes as long as all of this package.
    from sklearn import cluster

    found = np.zeros(len(pool), np.int32)
    for number in np.unique(user):
        rows = np.flatnonzero(user == number)
        pools, place = np.unique(pool[rows], return_inverse=True)
        centres = np.zeros((len(pools), x.shape[1]), np.float32)
        np.add.at(centres, place, x[rows])
        centres /= np.bincount(place)[:, None]
        if len(pools) <= count:
            found[rows] = place
            continue
        draw = int(np.random.default_rng([seed, number]).integers(2**31))
        with warnings.catch_warnings():
            # Fewer different pools than clusters make fewer clusters.
            warnings.simplefilter("ignore")
            found[rows] = cluster.KMeans(n_clusters=count, n_init=1, random_state=draw).fit_predict(centres)[place]
    return found


def _power(n: int) -> int:
    return max(SMALLEST, 1 << (n - 1).bit_length())


def run(
    step: steps.Step,
    state: TrainState,
    plan: Plan,
    *,
    checkpoint: str | pathlib.Path | None = None,
    save_every: int | None = None,
    run_id: str = "",
    mesh: jax.sharding.Mesh | None = None,
    compiled: bool = False,
    progress: Progress | None = None,
) -> tuple[TrainState, list[float]]:
    """Trains for all epochs; with a checkpoint folder, goes on where an interrupted run of the same kind stopped.

    A resumed run ends with bit-identical parameters: state, key and the place in the data are all in the checkpoint.
    That is the same whatever the number of devices, so a run may go on with another; then to rounding.

    Args:
      step: of `make_train_step`, or of `make_sharded_step` with a mesh; jitted here, its state donated, unless it is.
      state: before the first step; consumed.
      plan: the batches of every epoch.
      checkpoint: a folder; None keeps nothing.
      save_every: steps between two checkpoints; None: an epoch's.
      run_id: what the run depends on, as a hash; a checkpoint of another run is refused.
      mesh: of `sharded.make_mesh`; None: one device.
      compiled: the step is jitted already, its state donated; it may be of several states, whose losses are added up.
      progress: called with (steps done, steps).

    Returns:
      (state, mean loss of every epoch).

    Raises:
      DataError: the folder's checkpoint is of another run.
    """
    ends, feed = plan.ends, plan.iterator()
    capacity = state.capacity or len(plan.pull) - 1
    jitted = step if compiled else jax.jit(step, donate_argnums=0)
    sums: list[list[float]] = [[0.0, 0.0] for _ in plan.epochs]
    epoch = done = 0
    waiting: list[tuple[int, Any]] = []

    def fetch(keep: int) -> None:
        """Adds up the metrics of all but the last `keep` steps: reading those would wait for the device."""
        while len(waiting) > keep:
            where, metrics = waiting.pop(0)
            for place, name in enumerate(("loss", "weight")):
                value = metrics[name]
                sums[where][place] += float(np.sum(value)) if mesh is None else sharded.total(value)

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
