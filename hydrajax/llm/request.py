"""A request to the LLM and its answer, and the key under which the answer is stored."""

import dataclasses
import hashlib
import json
import re
from typing import Protocol, runtime_checkable

from hydrajax.types import Message

FRAME_TOKENS = 12
LONG_PIECE = 12
_PIECES = re.compile(r"\w+|[^\w\s]")


class LLMError(RuntimeError):
    """The LLM gave no answer. The message says what failed and what to do; answers received before are stored."""


class Transient(LLMError):
    """One attempt failed; another one may succeed.

    Attributes:
      kind: `rate_limited`, `overloaded`, `server`, `timeout`, `connection` or `invalid` (no answer of the protocol).
      retry_after: seconds that the server asks to wait, None where it says nothing.
    """

    def __init__(self, message: str, *, kind: str, retry_after: float | None = None):
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after


class Rejected(LLMError):
    """This request will never be answered (too long, for example); others may be."""


class Stopped(LLMError):
    """Nothing more was sent, because a budget is spent or the run was interrupted. What was received is stored."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """The full content of one call, and which of its samples is wanted.

    Attributes:
      messages: alternating turns, the last one the user's.
      max_tokens: limit of the answer's length.
      temperature: None where the model takes none; 0.0 is greedy.
      system: the system prompt, None for the model's own default.
      sample: number of the sample; the same content with another number is an independent draw.
      group: whoever the request is for. It is not part of the key, and never sent but as a salted hash where that is
        switched on: it keeps one user's thousand requests from standing before everybody else's.
      labels: the answers that are allowed, where only some are; the prompt says so. They are not part of the key and
        never sent: a stand-in for an LLM answers with one of them.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float | None = None
    system: str | None = None
    sample: int = 0
    group: str = ""
    labels: tuple[str, ...] = dataclasses.field(default=(), compare=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back.

    Attributes:
      text: the text blocks joined; may be empty.
      stop_reason: `end_turn`, `max_tokens`, `refusal`, ...
      input_tokens, output_tokens: as the server counted them, the prompt's cached part included.
      cache_read, cache_written: tokens of the prompt that came from the server's prompt cache, or went into it.
      request_id: the server's name of the request, for its support.
      seconds: until the answer was there.
      batch: whether it came in a Message Batch, at half the price.
      cached: whether it was read from the store instead of being paid for.
    """

    text: str
    stop_reason: str
    input_tokens: int
    output_tokens: int
    cache_read: int = 0
    cache_written: int = 0
    request_id: str = ""
    seconds: float = 0.0
    batch: bool = False
    cached: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What a server says of its limits along with an answer.

    Attributes:
      per_minute: requests that it takes, None where it does not say.
      wait: seconds until anything is left of the limits that are used up; 0 where something is.
    """

    per_minute: float | None = None
    wait: float = 0.0


@runtime_checkable
class Transport(Protocol):
    """One way to reach an LLM.

    Attributes:
      model: names it in keys and reports, and changes whenever its answers would: the local server adds the digest of
        its weights.
      parallel: most requests worth having under way at once.
      in_turn: whether requests with a common beginning should follow each other (one slot, one prompt cache).
      limits: what the last answer said of the server's limits.
    """

    model: str
    parallel: int
    in_turn: bool
    limits: Limits

    def check(self) -> None:
        """Raises `LLMError` where every request would fail: no key, nothing installed. It calls nobody."""
        ...

    async def complete(self, request: Request) -> Answer:
        """One attempt, without retries.

        Raises:
          Transient: worth another attempt.
          Rejected: this request never will be answered.
          LLMError: no request will be.
        """
        ...

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
    return hashlib.sha256(
        json.dumps(content, ensure_ascii=False, sort_keys=True).encode("utf-8", "replace")
    ).hexdigest()


def most_input_tokens(request: Request) -> int:
    """What a prompt may come to at most, for budgets: about one and a half times the estimate for plain English.

    Text without words (base64, genes, scripts that no tokenizer knows well) comes to far more tokens than
    `estimate_input_tokens` thinks; here such pieces count one for every two characters, and what is not ASCII one for
    every byte.
    """
    return sum(FRAME_TOKENS + sum(_most_tokens(piece) for piece in _PIECES.findall(text)) for text in _texts(request))


def _texts(request: Request) -> list[str]:
    """Every turn, and the system prompt."""
    return [message.text for message in request.messages] + ([request.system] if request.system else [])


def _most_tokens(piece: str) -> int:
    if not piece.isascii():
        return len(encodable(piece).encode())
    return -(-len(piece) // (2 if len(piece) > LONG_PIECE or not piece.isalpha() else 3))


def encodable(text: str) -> str:
    """The text without halves of surrogate pairs, which no encoding can write."""
    return text.encode("utf-8", "replace").decode("utf-8")


def order(wanted: Request) -> tuple[str, ...]:
    """Sorted by this, requests with the same beginning follow each other, so that a server's prompt cache pays."""
    turns = (wanted.system or "", *(message.text for message in wanted.messages))
    return (*turns, str(wanted.temperature), f"{wanted.sample:06d}")


def count_tokens(text: str) -> int:
    """A tokenizer-free estimate of the tokens of `text`, the same for every model.

    Words of up to six letters and single marks count one, longer words one per six letters. Prompts built with it do
    not change with the model's tokenizer, so that stored answers stay valid; the limits it guards keep a margin.
    """
    return sum(-(-len(word) // 6) for word in text.split()) + sum(text.count(mark) for mark in ".,;:!?\"'()[]{}-/")


def estimate_input_tokens(request: Request) -> int:
    """An estimate for a whole request, for plans and budgets: its words and marks, and the frame of each turn.

    Fitted on the prompts of six LaMP tasks and the demo, for which a small llama's own count is .91 to 1.03 of 1.1
    times this. A long word counts as several: in some scripts nothing stands between words.
    """
    return sum(estimate_turn_tokens(text) for text in _texts(request))


def estimate_turn_tokens(text: str) -> int:
    return FRAME_TOKENS + sum(-(-len(piece) // LONG_PIECE) for piece in _PIECES.findall(text))
