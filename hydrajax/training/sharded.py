"""The train step over many devices and processes: every row of the bank lives on one device, and its users go there.

The mesh has the axes `users` and `data`; a shard is one device of both. The bank's rows are dealt to the shards in
equal blocks, and a batch is routed, on the host, to the shards where its users' rows are. So a user's examples are all
on one device, a row is updated by exactly one, and heads need no collective. What all users share is replicated, and
its gradient is the one thing that is reduced. Both axes divide users, none a user's examples: `users` is meant to run
over processes and `data` over the devices of each, and the result does not depend on how many are on which axis.

    mesh = sharded.make_mesh()
    state = sharded.place(state, mesh)
    update = jax.jit(sharded.make_sharded_step(scorer, base_tx, head_tx, mesh), donate_argnums=0)
    state, metrics = update(state, sharded.put_batch(sharded.route(batch, capacity, mesh.size), mesh))

Several processes: `jax.distributed.initialize()` first, then the same lines in every process, with the same batches.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils

from hydrajax.nn import backends, heads, processes
from hydrajax.nn import scorer as scorers
from hydrajax.training import checks
from hydrajax.training import step as steps
from hydrajax.training.examples import Batch
from hydrajax.training.state import TrainState
from hydrajax.types import DataError

AXES = ("users", "data")
SHARDED = jax.sharding.PartitionSpec(AXES)
REPLICATED = jax.sharding.PartitionSpec()
SPECS = TrainState(
    **{
        field.name: SHARDED if field.name in ("bank", "bank_opt") else REPLICATED
        for field in dataclasses.fields(TrainState)
    }
)


def make_mesh(users: int | None = None, data: int = 1, *, devices: Sequence[Any] | None = None) -> jax.sharding.Mesh:
    """A mesh with the axes `users` and `data`.

    Args:
      users: devices along `users`; None: all there are, divided by `data`.
      data: devices along `data`.
      devices: by default all, of all processes.

    Raises:
      DataError: there are not so many devices.
    """
    checks.number(data, "data", 1)
    devices = jax.devices() if devices is None else list(devices)
    users = len(devices) // data if users is None else users
    if users < 1 or users * data != len(devices):
        raise DataError(f"a mesh of {users} x {data} devices, there are {len(devices)}")
    kinds = (jax.sharding.AxisType.Auto,) * 2
    return jax.make_mesh((users, data), AXES, axis_types=kinds, devices=devices)


def default_mesh() -> jax.sharding.Mesh | None:
    """All devices of all processes that compute together; None: there is one, for which nothing is divided."""
    devices = backends.all_devices()
    return make_mesh(devices=devices) if len(devices) > 1 else None


def place(state: TrainState, mesh: jax.sharding.Mesh) -> TrainState:
    """The state on the mesh: rows of the bank dealt out, everything else replicated.

    In a run of several processes each is given the same state, and keeps the part that is its own. A checkpoint is
    restored on another number of devices by loading it like `place(state, mesh)` of the new mesh.

    Raises:
      DataError: the capacity is no multiple of the number of shards.
    """
    _per_shard(state.capacity, mesh.size)

    def put(spec: jax.sharding.PartitionSpec, part: Any) -> Any:
        sharding = jax.sharding.NamedSharding(mesh, spec)
        return jax.tree.map(lambda leaf: _put(leaf, sharding), part)

    return jax.tree.map(put, SPECS, state)


def padded(state: TrainState, shards: int) -> TrainState:
    """The state with a capacity that is a multiple of the shards, by rows of zeros that no user has."""
    more = -state.capacity % shards
    if not more:
        return state
    pad = jax.tree.map(lambda leaf: jnp.pad(leaf, [(0, more)] + [(0, 0)] * (leaf.ndim - 1)), state.stored)
    return state.with_stored(pad)


def gathered(state: TrainState, capacity: int) -> TrainState:
    """The whole state as arrays of one device, with the first rows of the bank; the same in every process."""
    state = jax.tree.map(_get, state)
    return state.with_stored(jax.tree.map(lambda leaf: leaf[:capacity], state.stored))


def of_first(state: TrainState) -> TrainState:
    """The state of process 0, in all of them."""
    key = jax.random.key_data(state.key)
    sent = processes.of_first(jax.tree.map(np.asarray, state.replace(key=key)))
    return sent.replace(key=jax.random.wrap_key_data(sent.key, impl=jax.random.key_impl(state.key)))


def total(parts: jax.Array) -> float:
    """The sum of what shards have of a metric."""
    return float(np.sum(_get(parts)))


def dealt(batch: Batch, num_users: int, mesh: jax.sharding.Mesh) -> Batch:
    """`route` of a batch of a bank of so many users, to the mesh that its state was `padded` for."""
    capacity = num_users + -num_users % mesh.size
    rows = np.where(batch.rows < num_users, batch.rows, capacity).astype(np.int32)
    return route(batch.replace(rows=rows), capacity, mesh.size)


def route(batch: Batch, capacity: int, shards: int, *, slots: int | None = None) -> Batch:
    """A batch in the order of the shards: the users whose rows are on shard s are in slots s * slots and following.

    Args:
      batch: rows are those of the whole bank, on the host; a row of `capacity` or more is a slot without a user, which
        is left out.
      capacity: C, of the whole bank.
      shards: devices of the mesh.
      slots: users of one shard; slots that are left over are padding. None: the least power of two that will do,
        which compiles a step anew for each; a fixed number compiles one.

    Returns:
      Every array [shards * slots, ...]; rows are local to the shard, 0..C / shards - 1, a slot without a user has
      C / shards; ids are the rows of the whole bank.

    Raises:
      DataError: rows that `checks.check_slots` refuses, more users of one shard than slots, or a capacity that is no
        multiple of shards, or a batch that is routed already.
    """
    if batch.routed is not None:
        raise DataError("the batch is routed already")
    # Of a bank that stores nothing, no row could say where its user goes.
    checks.number(capacity, "the capacity", 1)
    rows, per = checks.check_slots(batch.rows, capacity), _per_shard(capacity, checks.number(shards, "shards", 1))
    if slots is not None:
        checks.number(slots, "slots", 0)
    real = np.flatnonzero(rows < capacity)
    counts = np.bincount(rows[real] // per, minlength=shards)
    fullest = int(counts.max(initial=0))
    if slots is None:
        slots = 1 << max(fullest - 1, 0).bit_length()
    if fullest > slots:
        raise DataError(
            f"shard {counts.argmax()} has {fullest} users of the batch and {slots} slots: "
            "give more slots, or fewer users a batch"
        )
    order = real[np.argsort(rows[real] // per, kind="stable")]
    shard = rows[order] // per
    place_in = np.arange(len(order)) - np.searchsorted(shard, shard)
    source = np.full(shards * slots, -1)
    source[shard * slots + place_in] = order

    taken = source >= 0

    def move(leaf: Any, nobody: int = 0) -> np.ndarray:
        leaf = np.asarray(leaf)
        moved = np.full((len(source), *leaf.shape[1:]), nobody, leaf.dtype)
        moved[taken] = leaf[source[taken]]
        return moved

    local = move(rows % per, per)
    ids = move(rows if batch.ids is None else np.asarray(batch.ids, np.int32), capacity)
    return jax.tree.map(move, batch).replace(rows=local, ids=ids, routed=(capacity, shards))


def put_batch(batch: Batch, mesh: jax.sharding.Mesh) -> Batch:
    """A routed batch on the mesh. Of several processes each is given the same batch and sends the part of its devices.

    Raises:
      DataError: the batch is not routed, or for another number of shards.
    """
    if batch.routed is None:
        raise DataError(f"the batch is not routed: sharded.route(batch, capacity, {mesh.size}) comes first")
    if batch.routed[1] != mesh.size:
        raise DataError(f"the batch is routed for {batch.routed[1]} shards, the mesh has {mesh.size} devices")
    sharding = jax.sharding.NamedSharding(mesh, SHARDED)
    here = np.array([device.process_index == jax.process_index() for device in mesh.devices.flat])
    mine = np.arange(len(batch.rows)).reshape(mesh.size, -1)[here].ravel()

    def send(leaf: Any) -> jax.Array:
        leaf = np.asarray(leaf)
        return jax.make_array_from_process_local_data(sharding, leaf[mine], leaf.shape)

    return jax.tree.map(send, batch)


def make_sharded_step(
    scorer: scorers.Scorer,
    base_tx: optax.GradientTransformation | None,
    head_tx: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
    *,
    loss: str = "cross_entropy",
    normaliser: scorers.Normaliser | None = None,
    units: heads.Units | None = None,
    shared_pull: Any = 0.0,
) -> steps.Step:
    """The step of `step.make_train_step` on every shard, with one sum over shards for what all users share; un-jitted.

    Parameters are those of the step on one device but for rounding, with dropout in the heads too. A base that is
    trained with dropout draws apart on each shard.

    Args:
      scorer: base and head family.
      base_tx: optimizer of (base, shared), which sees the mean gradient over all shards; None: both are frozen.
      head_tx: optimizer of one head.
      mesh: of `make_mesh`.
      loss: a name of `losses.LOSSES`.
      normaliser: statistics of the inputs; None leaves them as they are.
      units: in what heads are updated, as in `make_train_step`.
      shared_pull: as in `make_train_step`.

    Returns:
      step(state, batch) -> (state, metrics), state of `place`, batch of `put_batch`; metrics hold `loss` (a sum) and
      `weight` of every shard, float32 [shards]: to add them up in the step would be a collective. It raises a DataError
      where the batch is not routed for the state's capacity and this mesh, and where `make_train_step` does.
    """
    local = steps.make_train_step(
        scorer,
        base_tx,
        head_tx,
        loss=loss,
        normaliser=normaliser,
        units=units,
        shared_pull=shared_pull,
        reduce=lambda sums: jax.lax.psum(sums, AXES),
    )

    def on_shard(state: TrainState, batch: Batch) -> tuple[TrainState, Any]:
        state, metrics = local(state, batch.replace(routed=None))
        return state, jax.tree.map(lambda value: value[None], metrics)

    # check_vma is off: gradients of replicated parameters are then those of the shard, not reduced leaf by leaf.
    mapped = jax.shard_map(on_shard, mesh=mesh, in_specs=(SPECS, SHARDED), out_specs=(SPECS, SHARDED), check_vma=False)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Any]:
        capacity, fits = state.capacity, None if batch.routed is None else batch.routed[0]
        if batch.routed is None or batch.routed[1] != mesh.size or (capacity and fits != capacity):
            given = "not routed" if batch.routed is None else f"routed for {fits} rows on {batch.routed[1]} shards"
            raise DataError(f"the batch is {given}, the bank has {capacity} rows on {mesh.size}")
        return mapped(state, batch)

    return step


def _per_shard(capacity: int, shards: int) -> int:
    if capacity % shards:
        raise DataError(f"a bank of {capacity} rows cannot be dealt to {shards} shards: grow it to a multiple")
    return capacity // shards


def _get(leaf: jax.Array) -> Any:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_get(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
    # Copies: the arrays may be donated to the next step.
    if leaf.is_fully_addressable:
        return np.array(leaf)
    if leaf.is_fully_replicated:
        return np.array(leaf.addressable_data(0))
    return multihost_utils.process_allgather(leaf, tiled=True)


def _put(leaf: Any, sharding: jax.sharding.NamedSharding) -> jax.Array:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _put(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
