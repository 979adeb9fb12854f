"""Where a run runs and how its LLM is asked: options of every command that asks one."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Literal

from hydrajax.llm import budget, request
from hydrajax.types import check_least


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a run runs; nothing here changes its results, but for rounding."""

    store: str | None = None
    """File of the LLM's answers; by default one in the user's cache folder, shared by all runs."""
    parallel: int = 64
    """Most requests to Claude under way at once; how many really are adapts to the server."""
    transport: Literal["messages", "batches"] = "messages"
    """`batches` sends Message Batches to Claude: half the price, and up to a day."""
    max_calls: int | None = None
    """Stop before this invocation makes more calls than this, with everything received kept; the same command goes on,
    and may spend as much again."""
    max_tokens: int | None = None
    """The same for tokens, of prompts and answers together."""
    max_usd: float | None = None
    """The same for US dollars."""
    key_file: str | None = None
    """File that holds the API key; by default it is taken from ANTHROPIC_API_KEY."""
    salt_file: str | None = None
    """Tell the server which requests are one user's, by a hash under this file's secret; by default nothing is said."""
    threads: int | None = None
    """Threads of the embedded LLM; by default the cores that are free when it starts."""
    cache: str | None = None
    """Folder of the base's features; by default one beside the store."""
    devices: int | None = None
    """Devices of this machine that encode and train; by default all that JAX sees."""
    precision: Literal["default", "high", "highest"] = "high"
    """Of float32 products on GPUs and TPUs: the fastest, about 3 digits or better, or float32. Newton's method always
    has the last one, and so have CPUs."""
    distributed: bool = False
    """This process is one of several of the run, which are told of each other by the environment: a TPU pod, Slurm, or
    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID. With the first of these it need not be given."""
    join_seconds: int = 300
    """How long processes wait for each other at the beginning."""

    def __post_init__(self):
        check_least(self, parallel=1, threads=1, devices=1, join_seconds=1)
        check_least(self, max_calls=0, max_tokens=0, max_usd=0)
        self.budget  # noqa: B018 (refuses what is no number)

    @property
    def budget(self) -> budget.Budget:
        """What this invocation may spend."""
        return budget.Budget(calls=self.max_calls, tokens=self.max_tokens, usd=self.max_usd)

    @contextlib.contextmanager
    def joined(self) -> Iterator[bool]:
        """Inside, the other processes of the run compute their parts; false in these, when all is done.

        Raises:
          DataError: one of them does not come.
        """
        if not self.distributed and "JAX_COORDINATOR_ADDRESS" not in os.environ:
            yield True
            return
        from hydrajax.nn import processes  # with JAX

        processes.join(self.join_seconds)
        self.prepare()
        if processes.first():
            with processes.leading():
                yield True
        else:
            processes.serve()
            yield False

    def prepare(self) -> None:
        """Programs are compiled for these devices from now on, with products of this precision."""
        from hydrajax.nn import backends  # with JAX

        if self.devices is not None:
            backends.use(self.devices)
        backends.precision(self.precision)

    def connect(self, llm: str) -> request.Transport:
        """The way to an LLM. Nothing is started or called yet.

        Raises:
          LLMError: see `llm.connect.connect`.
        """
        from hydrajax.llm import connect  # with the clients of all LLMs

        return connect.connect(
            llm,
            parallel=self.parallel,
            threads=self.threads,
            transport=self.transport,
            key_file=self.key_file,
            salt_file=self.salt_file,
        )
