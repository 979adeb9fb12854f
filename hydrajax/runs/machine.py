"""Where a run runs and how its LLM is asked: options of every command that asks one."""

import dataclasses
from typing import Literal

from hydrajax.llm import budget, request
from hydrajax.types import check_least


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a run runs; nothing here changes its results."""

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

    def __post_init__(self):
        check_least(self, parallel=1, threads=1)
        self.budget  # noqa: B018 (refuses limits below 0)

    @property
    def budget(self) -> budget.Budget:
        """What this invocation may spend."""
        return budget.Budget(calls=self.max_calls, tokens=self.max_tokens, usd=self.max_usd)

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
