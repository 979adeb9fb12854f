"""One embedded LLM for all runs of a user on this machine.

Two servers on few cores are slower than one by far, so whoever needs one uses what is there. A file says where it
listens; a connection that is kept open is a lease, and the server ends when it has none. The system closes the leases
of a process that dies, however it dies.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import socket
import stat
import tempfile
from collections.abc import Iterator

import filelock
import platformdirs

from hydrajax.llm.local_child import LEASED
from hydrajax.llm.request import LLMError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Address:
    """Where the server is.

    Attributes:
      model: what it serves, as named in keys and reports.
      weights: the file that is served.
      pid: of its process.
      port: of the Messages protocol.
      lease_port: where leases are taken.
      api_key: of both.
    """

    model: str
    weights: str
    pid: int
    port: int
    lease_port: int
    api_key: str


def folder() -> pathlib.Path:
    """A folder of this user alone, the same for every run on this machine.

    Raises:
      LLMError: somebody else's folder is in its place.
    """
    if not hasattr(os, "getuid"):
        path = pathlib.Path(platformdirs.user_cache_dir("hydrajax")) / "server"
        path.mkdir(parents=True, exist_ok=True)
        return path
    path = pathlib.Path(tempfile.gettempdir()) / f"hydrajax-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077 or not stat.S_ISDIR(status.st_mode):
        raise LLMError(f"{path}: belongs to somebody else, or others may write there; remove it")
    return path


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Nobody else looks for a server, or starts one, meanwhile."""
    with filelock.FileLock(folder() / "server.lock"):
        yield


def read() -> Address | None:
    """Where a server was last; it may have ended."""
    try:
        return Address(**json.loads((folder() / "server.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write(address: Address) -> None:
    """Says where the server is, to this user alone."""
    path = folder() / "server.json"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(dataclasses.asdict(address), file)


def lease(address: Address, *, seconds: float = 5.0) -> socket.socket | None:
    """A lease, given back by closing it; None where the server is no longer there."""
    try:
        held = socket.create_connection(("127.0.0.1", address.lease_port), timeout=seconds)
    except OSError:
        return None
    try:
        held.sendall(address.api_key.encode() + b"\n")
        if held.recv(len(LEASED)) == LEASED:
            held.settimeout(None)
            return held
    except OSError:
        pass
    held.close()
    return None


def is_broken(held: socket.socket) -> bool:
    """Whether the server at the other end of a lease has ended. It never says anything, so what comes is the end."""
    try:
        return held.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
