"""What depends on where a program runs: the devices, how much one takes at once, and how exact its products are.

Sizes of rows of a bank are in `training.rows`, which asks here. A CPU's were measured on 2 cores; those of accelerators
follow from their memory and were not measured.
"""

import contextlib
from typing import Any

import jax

from hydrajax.nn import processes
from hydrajax.types import DataError

BATCH_TOKENS = 2048  # rows times padded length of a batch on a CPU, for each device
LEAST_TOKENS, MOST_TOKENS = 2**13, 2**17  # the same on an accelerator
MEMORY_SHARE = 8  # a batch takes this part of the memory that an accelerator has
UNKNOWN_MEMORY = 8 * 2**30  # of an accelerator that does not say
PACKED_LENGTH = 256  # of rows in which texts stand side by side
AXIS = "devices"

_most: int | None = None


def on_cpu() -> bool:
    """Whether programs run on CPUs."""
    return jax.default_backend() == "cpu"


def use(most: int | None) -> None:
    """Programs are spread over so many of this process's devices from now on; None: over all of them.

    Raises:
      DataError: there are not so many.
    """
    global _most
    there = len(jax.local_devices())
    if most is not None and not 1 <= most <= there:
        raise DataError(f"devices is {most}, expected 1 to the {there} of this machine")
    _most = most


def devices() -> list[Any]:
    """The devices of this process over which programs are spread."""
    return jax.local_devices()[:_most]


def all_devices() -> list[Any]:
    """The same of all processes that compute together."""
    return devices() if processes.count() == 1 else _of_all_processes()


def number() -> int:
    """How many devices compute, those of processes that serve this one among them."""
    return len(_of_all_processes() if processes.several() else devices())


def _of_all_processes() -> list[Any]:
    by_process: dict[int, list[Any]] = {}
    for device in jax.devices():
        by_process.setdefault(device.process_index, []).append(device)
    return [device for _, there in sorted(by_process.items()) for device in there[:_most]]


def mesh() -> jax.sharding.Mesh | None:
    """The same as a mesh of one axis; None: one device, for which programs need none."""
    here = devices()
    if len(here) == 1:
        return None
    return jax.make_mesh((len(here),), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,), devices=here)


def shards(mesh: jax.sharding.Mesh | None) -> int:
    """Devices of a mesh."""
    return 1 if mesh is None else mesh.size


def everywhere(tree: Any, mesh: jax.sharding.Mesh | None) -> Any:
    """The tree on every device of the mesh; as it is where there is none."""
    if mesh is None:
        return tree
    return jax.device_put(tree, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


# The tree that was copied last, by `kept_everywhere`: (tree, mesh, copy).
_copied: tuple[Any, Any, Any] = (None, None, None)


def kept_everywhere(tree: Any, mesh: jax.sharding.Mesh | None) -> Any:
    """The same, with the copy kept for the next call; not of numpy arrays, which may change."""
    global _copied
    if mesh is None or not all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(tree)):
        return everywhere(tree, mesh)
    if _copied[0] is not tree or _copied[1] != mesh:
        _copied = (tree, mesh, everywhere(tree, mesh))
    return _copied[2]


def dealt(function: Any, mesh: jax.sharding.Mesh | None, whole: int) -> Any:
    """`function(*whole arguments, *parts)` on every device of a mesh at once, un-jitted.

    Every device computes its part of the results from its part of the arguments: there is no collective.

    Args:
      function: leaves of its results, and of the arguments behind the first ones, have the divided axis first.
      mesh: of `mesh`; None: the function itself.
      whole: how many of the arguments every device gets whole.
    """
    if mesh is None:
        return function
    divided, replicated = jax.sharding.PartitionSpec(AXIS), jax.sharding.PartitionSpec()

    def call(*arguments: Any) -> Any:
        specs = (replicated,) * whole + (divided,) * (len(arguments) - whole)
        mapped = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=divided, check_vma=False)
        return mapped(*arguments)

    return call


def multiple(n: int, of: int) -> int:
    """n, or the next multiple."""
    return -(-n // of) * of


def batch_tokens(config: Any) -> int:
    """Rows times padded length of a batch of an encoder on one device.

    On a CPU what its caches like; on an accelerator, of `MEMORY_SHARE` of its memory, what about 16 vectors of a
    token and 2 of the wider layer leave room for, a power of two.

    Args:
      config: the encoder's `blocks.Shape`.
    """
    if on_cpu():
        return BATCH_TOKENS
    bytes_of_token = 4 * (16 * config.hidden_size + 2 * config.intermediate_size)
    fits = max(1, _memory() // MEMORY_SHARE // bytes_of_token)
    return max(LEAST_TOKENS, min(MOST_TOKENS, 1 << (fits.bit_length() - 1)))


def packing(positions: int) -> int:
    """Length of rows in which short texts stand side by side, 0: a text a row.

    An accelerator pays for padding what it pays for text; on a CPU, texts are padded to the next of many lengths and
    their rows computed from the cache.
    """
    return 0 if on_cpu() else min(PACKED_LENGTH, positions)


def rows_of_batch(left: int, full: int, small: int) -> int:
    """Rows of the next batch: `full`, or fewer where few are left, so that few rows stay cheap.

    On a CPU `small`, one further program a length; an accelerator's full batch is so large that every power of two is
    worth one.

    Args:
      left: rows that are still to be computed.
      full: rows of a full batch.
      small: rows of the smallest batch.
    """
    if on_cpu():
        return small if left <= min(2 * small, full // 2) else full
    size = small
    while size < min(left, full):
        size *= 2
    return min(size, full)


def batches_behind() -> int:
    """How many batches are under way while the host goes on: an accelerator would wait for each copy; a CPU's cores
    would have two programs to run."""
    return 0 if on_cpu() else 1


def exact_products() -> Any:
    """Products in full float32, for a context in which a program is traced. A CPU has no others."""
    return contextlib.nullcontext() if on_cpu() else jax.default_matmul_precision("highest")


def precision(name: str) -> None:
    """Products from now on in the precision of this name, of `jax.lax.Precision`; those of a CPU are always exact."""
    if not on_cpu():
        jax.config.update("jax_default_matmul_precision", name)


def computed_by() -> tuple[str, ...]:
    """What features depend on besides text and base: the backend, and its products' precision; () for a CPU."""
    if on_cpu():
        return ()
    return jax.default_backend(), str(getattr(jax.config, "jax_default_matmul_precision", None) or "default")


def _memory() -> int:
    stats = devices()[0].memory_stats() or {}
    return int(stats.get("bytes_limit", UNKNOWN_MEMORY))
