"""From the command line's `--llm NAME` to a transport: `local`, a GGUF file, `scripted`, or a Claude model."""

import os
import pathlib

from hydrajax.llm import batches, local_server, messages, scripted
from hydrajax.llm.request import LLMError, Transport

SALT_BYTES = 16


def connect(
    name: str,
    *,
    parallel: int = 64,
    threads: int | None = None,
    transport: str = "messages",
    key_file: str | None = None,
    salt_file: str | None = None,
) -> Transport:
    """The transport of an LLM's name. Nothing is started or called yet.

    Args:
      name: `local` (the embedded SmolLM2-135M-Instruct), a path that ends in `.gguf`, `scripted` (a stand-in for
        tests), or a Claude model's name; any name where ANTHROPIC_BASE_URL names a server of one's own.
      parallel: most requests under way at once, for Claude.
      threads: threads of the embedded server, by default the free cores.
      transport: `messages`, or `batches` (half the price, within a day; Claude only).
      key_file: holds the API key; by default it is taken from the environment.
      salt_file: holds the secret under which users are told apart in `metadata.user_id`; by default nothing is sent.

    Raises:
      LLMError: the name is none of these, what it needs is not installed, or a file does not hold what it should.
    """
    if transport not in ("messages", "batches"):
        raise LLMError(f"unknown transport {transport!r}; valid are messages and batches")
    remote = name.startswith("claude") or (
        bool(os.environ.get("ANTHROPIC_BASE_URL")) and name not in ("local", "scripted") and not name.endswith(".gguf")
    )
    if transport == "batches" and not remote:
        raise LLMError(f"{name} takes no batches; leave --transport out")
    if name == "local":
        return local_server.LocalServer(threads=threads)
    if name.endswith(".gguf"):
        return local_server.LocalServer(name, threads=threads)
    if name == "scripted":
        return scripted.Scripted()
    if remote:
        key = None if key_file is None else _secret(key_file, "an API key").decode("ascii", "replace")
        salt = None if salt_file is None else _secret(salt_file, "a salt")
        if key is not None and (not key.isprintable() or " " in key):
            raise LLMError(f"{key_file}: holds more than one line or word, expected an API key and nothing else")
        if salt is not None and len(salt) < SALT_BYTES:
            raise LLMError(f"{salt_file}: holds {len(salt)} bytes, expected a salt of at least {SALT_BYTES}")
        way = messages.Messages(name, parallel=parallel, api_key=key, salt=salt)
        return batches.Batches(way) if transport == "batches" else way
    raise LLMError(f"unknown LLM {name!r}; valid are local, FILE.gguf, scripted, and Claude models (claude-...)")


def _secret(path: str, what: str) -> bytes:
    """The content of a file, without white space around it; no message repeats it."""
    try:
        content = pathlib.Path(path).expanduser().read_bytes().strip()
    except OSError as error:
        raise LLMError(f"{path}: cannot be read ({error.strerror}), expected {what}") from error
    if not content:
        raise LLMError(f"{path}: is empty, expected {what}")
    return content
