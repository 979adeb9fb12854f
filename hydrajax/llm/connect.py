"""From the command line's `--llm NAME` to a transport: `local`, a GGUF file, `scripted`, or a Claude model."""

from hydrajax.llm import batches, local_server, messages, scripted
from hydrajax.llm.request import LLMError, Transport


def connect(name: str, *, parallel: int = 64, threads: int | None = None, transport: str = "messages") -> Transport:
    """The transport of an LLM's name. Nothing is started or called yet.

    Args:
      name: `local` (the embedded SmolLM2-135M-Instruct), a path that ends in `.gguf`, `scripted` (a stand-in for
        tests), or a Claude model's name.
      parallel: most requests under way at once, for Claude.
      threads: threads of the embedded server, by default the free cores.
      transport: `messages`, or `batches` (half the price, within a day; Claude only).

    Raises:
      LLMError: the name is none of these, or what it needs is not installed.
    """
    if transport not in ("messages", "batches"):
        raise LLMError(f"unknown transport {transport!r}; valid are messages and batches")
    if transport == "batches" and not name.startswith("claude"):
        raise LLMError(f"{name} takes no batches; leave --transport out")
    if name == "local":
        return local_server.LocalServer(threads=threads)
    if name.endswith(".gguf"):
        return local_server.LocalServer(name, threads=threads)
    if name == "scripted":
        return scripted.Scripted()
    if name.startswith("claude"):
        way = messages.Messages(name, parallel=parallel)
        return batches.Batches(way) if transport == "batches" else way
    raise LLMError(f"unknown LLM {name!r}; valid are local, FILE.gguf, scripted, and Claude models (claude-...)")
