"""One embedded LLM for all runs of a user on this machine.

Two servers on few cores are slower than one by far, so whoever needs one uses what is there. A file says where it
listens; another one, a lease, says that a process needs it, and the server ends when there is none. The lease of a
process that has ended, however it ended, counts for nothing.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import stat
import tempfile
import uuid

import filelock
import platformdirs

from hydrajax.llm import store
from hydrajax.llm.request import LLMError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Address:
    """Where the server is.

    Attributes:
      model: what it serves, as named in keys and reports.
      process: its name (`store.process_name`).
      port: of the Messages protocol.
    """

    model: str
    process: str
    port: int
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


def alone() -> filelock.BaseFileLock:
    """While it is held, nobody else looks for a server or starts one, and no server ends by itself."""
    return filelock.FileLock(folder() / "server.lock")


def read() -> Address | None:
    """Where the server is, None where there is none."""
    try:
        address = Address(**json.loads((folder() / "server.json").read_text()))
        return address if store.process_lives(address.process, 0.0) else None
    except (OSError, ValueError, TypeError):
        return None


def write(address: Address) -> None:
    """Says where the server is, to this user alone."""
    path = folder() / "server.json"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(dataclasses.asdict(address), file)


def lease() -> pathlib.Path:
    """A lease of this process, given back by deleting it; to be taken inside `alone`."""
    path = folder() / f"{uuid.uuid4().hex}.lease"
    path.write_text(store.process_name())
    return path


def is_leased() -> bool:
    """Whether any process needs the server; leases of those that have ended are deleted."""
    held = False
    for path in folder().glob("*.lease"):
        with contextlib.suppress(FileNotFoundError):  # given back at this moment
            if store.process_lives(path.read_text(), 0.0):
                held = True
            else:
                path.unlink()
    return held
