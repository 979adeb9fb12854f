"""Several processes of one program, each with devices of its own: a pod of TPUs, nodes with GPUs.

Process 0 leads: it alone reads secrets, asks LLMs, writes the run folder and the store. The others serve: what is
decorated with `joined` and called by the leader, they call too, with the leader's arguments, which come as arrays. In
such a call every process computes its part, on its own devices, and gets the parts of the others.

    processes.join(seconds)                    in every process, before JAX is used
    if processes.first():
        with processes.leading():
            ...                                calls joined functions
    else:
        processes.serve()                      until the leader is done

Who writes the loop of all processes alike, calls the functions inside `alike()` instead.

Calls and values are pickled: they come from process 0 of the same program, over JAX's own connections, and whoever
could put other bytes there could run the program itself. The coordinator's port must not be open to strangers.
"""

import contextlib
import functools
import importlib
import os
import pickle
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from hydrajax.types import DataError

F = TypeVar("F", bound=Callable[..., Any])

ADDRESS, NUMBER, COUNT = "JAX_COORDINATOR_ADDRESS", "JAX_PROCESS_ID", "JAX_NUM_PROCESSES"
SECONDS = 300  # that processes wait for each other at the beginning
_ENDING = 30  # seconds that a process waits for others before it ends
_END = "0"  # the bytes of a call that is none
_TURN = 60_000  # ms that a serving process waits for a call before it waits again
_MESSAGE = 1024  # bytes of an error that processes tell each other

_alike = _leads = False
_calls = 0


def join(seconds: int = SECONDS) -> None:
    """Makes this process one of several, which the environment describes: that of a TPU pod, of Slurm, of Open MPI, or
    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    Args:
      seconds: after which a process that does not come is given up.

    Raises:
      DataError: the environment says nothing, or names a host that does not come.
    """
    address, count, number = (os.environ.get(name) for name in (ADDRESS, COUNT, NUMBER))
    for name, value in ((COUNT, count), (NUMBER, number)):
        if value is not None and not value.isdecimal():
            raise DataError(f"{name} is {value!r}, expected a whole number")
    if address is not None and count is not None and number is not None:
        _meet(address, int(count), int(number), seconds)
    try:
        jax.distributed.initialize(
            num_processes=None if count is None else int(count),
            process_id=None if number is None else int(number),
            initialization_timeout=seconds,
            shutdown_timeout_seconds=_ENDING,
        )
    except (ValueError, TypeError) as error:
        raise DataError(
            f"the processes of this run cannot be told from the environment ({error}): set {ADDRESS} (host:port of "
            f"process 0), {COUNT} and {NUMBER} in each of them"
        ) from None
    except RuntimeError as error:
        raise DataError(
            f"the processes of this run did not find each other at {address or 'process 0'} within {seconds} s "
            f"({' '.join(str(error).split())[:200]})"
        ) from None


def count() -> int:
    """How many processes compute the same now; 1 outside of what is called in all of them."""
    return jax.process_count() if _alike else 1


def first() -> bool:
    """Whether this process leads, or is the only one."""
    return jax.process_index() == 0


@contextlib.contextmanager
def alike() -> Iterator[None]:
    """What is called inside, every process calls in the same order with the same arguments."""
    global _alike
    before, _alike = _alike, True
    try:
        yield
    finally:
        _alike = before


def several() -> bool:
    """Whether what is `joined` is computed by more than one process."""
    return _leads or count() > 1


def mine(number: int) -> np.ndarray:
    """Which of so many parts of a work this process does."""
    return np.arange(jax.process_index() if count() > 1 else 0, number, count())


def whole(parts: np.ndarray, number: int) -> np.ndarray:
    """All parts [number, ...] of a work, of which this process has those of `mine`."""
    if count() == 1:
        return parts
    most = -(-number // count())
    padded = np.pad(parts, [(0, most - len(parts)), *[(0, 0)] * (parts.ndim - 1)])
    everybody = multihost_utils.process_allgather(padded)  # [processes, most, ...]
    return np.swapaxes(np.asarray(everybody), 0, 1).reshape(-1, *parts.shape[1:])[:number]


def summed(part: np.ndarray) -> np.ndarray:
    """The sum of what the processes have."""
    return part if count() == 1 else np.asarray(multihost_utils.process_allgather(part)).sum(axis=0)


def agree(error: DataError | None) -> None:
    """Raises the error of the first process that has one, in all of them."""
    if count() > 1:
        said = np.frombuffer(str(error or "").encode()[:_MESSAGE].ljust(_MESSAGE, b"\0"), np.uint8)
        for one in np.asarray(multihost_utils.process_allgather(said)):
            if one.any():
                raise DataError(one.tobytes().rstrip(b"\0").decode(errors="ignore"))
    elif error is not None:
        raise error


def of_first(value: Any) -> Any:
    """What process 0 has in the place of this; a tree of what can be pickled."""
    if count() == 1:
        return value
    data = np.frombuffer(pickle.dumps(value) if first() else b"", np.uint8)
    high, low = multihost_utils.broadcast_one_to_all(np.array(divmod(data.size, 2**31), np.int32)).tolist()
    size = high * 2**31 + low
    return pickle.loads(_sent(data, size))


def joined(function: F) -> F:
    """The function, which the serving processes call too where the leader does; they need no `progress`."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not _leads or _alike:
            return function(*args, **kwargs)
        _tell((function.__module__, function.__name__, args, {k: v for k, v in kwargs.items() if k != "progress"}))
        with alike():
            return function(*args, **kwargs)

    return call  # type: ignore[return-value]


@contextlib.contextmanager
def leading() -> Iterator[None]:
    """Process 0 calls joined functions inside; behind it the others end."""
    global _leads
    _leads = jax.process_count() > 1
    try:
        yield
    finally:
        if _leads:
            # Not by a collective: after an error the others may be in another one, and end with this process.
            _client().key_value_set(f"hydrajax/{_calls}", _END)
        _leads = False


def serve() -> None:
    """Calls what the leader calls, until it is done."""
    while (call := _heard()) is not None:
        module, name, args, kwargs = call
        # What the leader's arguments have wrong, the leader says.
        with alike(), contextlib.suppress(DataError):
            getattr(importlib.import_module(module), name)(*args, **kwargs)


def _tell(call: Any) -> None:
    global _calls
    data = np.frombuffer(pickle.dumps(call), np.uint8)
    _client().key_value_set(f"hydrajax/{_calls}", str(data.size))
    _calls += 1
    _sent(data, data.size)


def _heard() -> Any:
    """The next call. Between two of them the leader may ask an LLM for hours: longer than a collective would wait."""
    global _calls
    while True:
        try:
            size = int(_client().blocking_key_value_get(f"hydrajax/{_calls}", _TURN))
            break
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
    if size == int(_END):
        return None
    _calls += 1
    return pickle.loads(_sent(np.zeros(0, np.uint8), size))


def _sent(data: np.ndarray, size: int) -> bytes:
    """These bytes of process 0, in all processes."""
    mine = data if first() else np.zeros(size, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(mine)).tobytes()


def _client() -> Any:
    from jax._src import distributed  # the service that all processes are connected to has no public name

    return distributed.global_state.client


def _meet(address: str, count: int, number: int, seconds: int) -> None:
    """Waits until all processes are there: where one is not, JAX's own way of beginning ends the others.

    Process 0 listens at the address before JAX does; each of the others says its number, and waits for an answer.

    Raises:
      DataError: who did not come.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise DataError(f"{ADDRESS} is {address!r}, expected host:port of process 0")
    host, end = host.strip("[]"), time.monotonic() + seconds
    missing = set(range(1, count)) if number == 0 else {0}
    try:
        if number:
            with _connected(host, int(port), end) as line:
                line.sendall(number.to_bytes(4, "big"))
                line.settimeout(max(0.1, end - time.monotonic()))
                if line.recv(1) != b"!":
                    raise OSError("it left")
                return
        with _door(int(port)) as door, contextlib.ExitStack() as lines:
            came = []
            while missing:
                door.settimeout(max(0.1, end - time.monotonic()))
                line = lines.enter_context(door.accept()[0])
                line.settimeout(5.0)
                with contextlib.suppress(OSError):
                    missing.discard(int.from_bytes(line.recv(4), "big"))
                    came.append(line)
            for line in came:
                with contextlib.suppress(OSError):
                    line.sendall(b"!")
                    line.recv(1)  # until it has hung up, so that the address is free again
    except OSError as error:
        names = ", ".join(map(str, sorted(missing)))
        raise DataError(f"process {names} of {count} did not come to {address} within {seconds} s ({error})") from None


def _door(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _connected(host: str, port: int, end: float) -> socket.socket:
    while True:
        try:
            return socket.create_connection((host, port), timeout=max(0.1, end - time.monotonic()))
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
