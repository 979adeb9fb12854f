"""A request to the LLM and its answer, and the key under which the answer is stored."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from hydrajax.types import Message


class LLMError(RuntimeError):
    """The LLM gave no answer. The message says what failed and what to do; answers received before are stored."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """The full content of one call, and which of its samples is wanted.

    Attributes:
      messages: alternating turns, the last one the user's.
      max_tokens: limit of the answer's length.
      temperature: None where the model takes none; 0.0 is greedy.
      system: the system prompt, None for the model's own default.
      sample: number of the sample; the same content with another number is an independent draw.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float | None = None
    system: str | None = None
    sample: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back.

    Attributes:
      text: the text blocks joined; may be empty.
      stop_reason: `end_turn`, `max_tokens`, `refusal`, ...
      input_tokens, output_tokens: as the server counted them.
      cached: whether it was read from the store instead of being paid for.
    """

    text: str
    stop_reason: str
    input_tokens: int
    output_tokens: int
    cached: bool = False


@runtime_checkable
class Transport(Protocol):
    """One way to reach an LLM.

    `model` names it in keys and reports and changes whenever its answers would: the local server adds the digest of
    its weights. `parallel` is the number of requests worth having under way at once.
    """

    model: str
    parallel: int

    def check(self) -> None:
        """Raises `LLMError` where every request would fail: no key, nothing installed. It calls nobody."""
        ...

    async def complete(self, request: Request) -> Answer: ...

    async def close(self) -> None: ...


def key(model: str, request: Request) -> str:
    """SHA-256 over everything that decides the distribution of the answer; the sample number is not part of it."""
    content = {
        "model": model,
        "system": request.system,
        "messages": [[message.role, message.text] for message in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": None if request.temperature is None else round(request.temperature, 6),
    }
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def count_tokens(text: str) -> int:
    """A tokenizer-free estimate of the tokens of `text`, the same for every model.

    Words of up to six letters and single marks count one, longer words one per six letters. Prompts built with it do
    not change with the model's tokenizer, so that stored answers stay valid; the limits it guards keep a margin.
    """
    return sum(-(-len(word) // 6) for word in text.split()) + sum(text.count(mark) for mark in ".,;:!?\"'()[]{}-/")


def estimate_input_tokens(request: Request) -> int:
    """The estimate for a whole request: its texts, and five tokens of frame a turn."""
    texts: Sequence[str] = [message.text for message in request.messages] + ([request.system] if request.system else [])
    return sum(count_tokens(text) + 5 for text in texts)
