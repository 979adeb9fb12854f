"""From `--llm NAME` to a transport: `local`, a GGUF file, `scripted`, a Claude model, or an LLM of one's own.

An LLM of one's own is a file with a `request.Transport` in it, or with a class or function that makes one when it is
called without arguments. It is named `FILE.py:NAME` or `package.module:NAME`; this one repeats what it is asked:

    from hydrajax.llm import models, request

    models.add("echo-1", models.Model(0.0, 0.0, temperature=True, context_tokens=4096))  # else its price is unknown

    class Echo:
        model, parallel, in_turn, limits = "echo-1", 4, False, request.Limits()

        def check(self):
            pass

        async def complete(self, wanted):
            text = wanted.messages[-1].text
            return request.Answer(text=text, stop_reason="end_turn", input_tokens=len(text), output_tokens=len(text))

        async def close(self):
            pass

Where it fails it raises `request.Transient`, `request.Rejected` or `request.LLMError`: how often a request is repeated,
the store, the budget and interrupts are no business of a transport.
"""

import importlib.util
import os
import pathlib
import re
from typing import Any

from hydrajax import plugins
from hydrajax.llm.request import LLMError, Transport

SALT_BYTES = 16
_OUTSIDE = re.compile(r"(?P<where>.+\.py|\w+(\.\w+)*):(?P<name>\w+)")
_PARTS = ("model", "parallel", "in_turn", "limits", "check", "complete", "close")


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
        tests), a Claude model's name, or an LLM of one's own (see above); any name where ANTHROPIC_BASE_URL names a
        server of one's own.
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
    embedded, remote, outside = is_embedded(name), is_remote(name), _OUTSIDE.fullmatch(name)
    if transport == "batches" and not remote:
        raise LLMError(f"{name} takes no batches; leave --transport out")
    if remote:
        return _remote(name, parallel, transport, key_file, salt_file)
    if embedded:
        from hydrajax.llm import local_server

        return local_server.LocalServer(None if name == "local" else name, threads=threads)
    if name == "scripted":
        from hydrajax.llm import scripted

        return scripted.Scripted()
    if outside:
        return _outside(name, outside["where"], outside["name"])
    raise LLMError(
        f"unknown LLM {name!r}; valid are local, FILE.gguf, scripted, Claude models (claude-...), and of one's own "
        "FILE.py:NAME and package.module:NAME"
    )


def is_embedded(name: str) -> bool:
    """Whether a name is that of an LLM that this machine serves."""
    return name == "local" or name.endswith(".gguf")


def is_remote(name: str) -> bool:
    """Whether a name is that of an LLM behind an API."""
    if name.startswith("claude"):
        return True
    outside = _OUTSIDE.fullmatch(name)
    return (
        bool(os.environ.get("ANTHROPIC_BASE_URL"))
        and not (is_embedded(name) or name == "scripted")
        and not (outside and _is_there(outside["where"]))  # servers have models such as `llama:8b`, too
    )


def _remote(name: str, parallel: int, transport: str, key_file: str | None, salt_file: str | None) -> Transport:
    from hydrajax.llm import batches

    key = None if key_file is None else _secret(key_file, "an API key").decode("ascii", "replace")
    salt = None if salt_file is None else _secret(salt_file, "a salt")
    if key is not None and (not key.isprintable() or " " in key):
        raise LLMError(f"{key_file}: holds more than one line or word, expected an API key and nothing else")
    if salt is not None and len(salt) < SALT_BYTES:
        raise LLMError(f"{salt_file}: holds {len(salt)} bytes, expected a salt of at least {SALT_BYTES}")
    return batches.Batches(name, sends=transport == "batches", parallel=parallel, api_key=key, salt=salt)


def _outside(name: str, where: str, attribute: str) -> Transport:
    """The transport of somebody's file or module.

    Raises:
      LLMError: it cannot be imported, or has no such thing, or that is no transport.
    """
    if plugins.is_missing(where):
        raise LLMError(f"{where}: the file does not exist")
    try:
        module = plugins.imported(where)
        value = getattr(module, attribute, None)
        transport: Any = value() if callable(value) else value
    except LLMError:
        raise
    except (Exception, SystemExit) as error:
        raise LLMError(f"{name}: cannot be used as an LLM ({plugins.said(error)})") from error
    if not hasattr(module, attribute):
        raise LLMError(f"{where}: the file defines no {attribute}")
    missing = [part for part in _PARTS if not hasattr(transport, part)]
    if missing:
        raise LLMError(
            f"{name}: a {type(transport).__name__} has no {', '.join(missing)}, expected a transport "
            "(hydrajax.llm.request.Transport), or what makes one when it is called without arguments"
        )
    return transport


def _is_there(where: str) -> bool:
    return where.endswith(".py") or importlib.util.find_spec(where.split(".")[0]) is not None


def _secret(path: str, what: str) -> bytes:
    """The content of a file, without white space around it; no message repeats it."""
    try:
        content = pathlib.Path(path).expanduser().read_bytes().strip()
    except OSError as error:
        raise LLMError(f"{path}: cannot be read ({error.strerror}), expected {what}") from error
    if not content:
        raise LLMError(f"{path}: is empty, expected {what}")
    return content
