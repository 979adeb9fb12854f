"""The Messages protocol through the anthropic SDK: Claude by API key, or any server that speaks the same.

Each call is one attempt: when, and how often, it is repeated is the sampler's business, so that every request that
was sent is counted.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import hmac
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hydrajax.llm import models
from hydrajax.llm.request import (
    Answer,
    Limits,
    LLMError,
    Rejected,
    Request,
    Transient,
    encodable,
    estimate_input_tokens,
)

if TYPE_CHECKING:
    import anthropic  # elsewhere in the functions that need it: half a second, which plans and `--help` do not have

# The environment may name a proxy; the loopback interface is never behind it.
_NO_PROXY = dict.fromkeys(("all://127.0.0.1", "all://localhost", "all://[::1]"))
_FATAL = (401, 402, 403, 404)  # the key, the account, or the model: no other request would fare better
_KINDS = {408: "timeout", 409: "server", 429: "rate_limited", 529: "overloaded"}
_SECRET_NAMES = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
_SECRET = re.compile(r"sk-[\w-]{8,}")  # a server may repeat the key in its complaint
_CONTROL = re.compile(r"<(?=\||/?s>|(?:start|end)_of_turn>)|\[(?=/?INST\])")  # of the usual chat forms
_LIMITED = ("requests", "input-tokens", "output-tokens", "tokens")


class Messages:
    """Sends requests one by one.

    Args:
      model: the model's name as the server knows it.
      name: how the model is called in keys and reports, by default `model`.
      base_url, api_key: where to, by default Claude with the key of the environment.
      parallel: most requests under way at once.
      timeout: seconds for one answer.
      in_turn: see `Transport`.
      salt: where it is given, `metadata.user_id` holds a hash of the request's group under this secret; by default
        nothing is said of users.

    Attributes:
      served_as: the argument `model`.
    """

    def __init__(
        self,
        model: str,
        *,
        name: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        parallel: int = 64,
        timeout: float = 600.0,
        in_turn: bool = False,
        salt: bytes | None = None,
    ):
        self.model = name or model
        self.parallel = parallel
        self.in_turn = in_turn
        self.limits = Limits()
        self.served_as = model
        self._salt = salt
        # A server of one's own must not be sent a Claude key that happens to lie in the environment.
        self._settings: dict[str, Any] = {
            "base_url": base_url,
            "api_key": api_key,
            "timeout": timeout,
            "max_retries": 0,
        }
        self._client: anthropic.AsyncAnthropic | None = None

    def check(self) -> None:
        """See `Transport.check`: whether the environment, a profile or an argument holds a key."""
        import anthropic

        try:
            client = anthropic.AsyncAnthropic(**self._settings)
        except (anthropic.AnthropicError, TypeError, ValueError) as error:
            raise LLMError(_no_key(self.model)) from error
        if not (client.api_key or client.auth_token or client.custom_auth):
            raise LLMError(_no_key(self.model))

    async def complete(self, request: Request) -> Answer:
        start = time.monotonic()
        with self.errors():
            raw = await self.client().messages.with_raw_response.create(**self.body(request))
            self.limits = limits(raw.headers)
            reply = await raw.parse()
            return dataclasses.replace(
                answer(self.model, reply),
                request_id=raw.headers.get("request-id", ""),
                seconds=round(time.monotonic() - start, 3),
            )

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    def body(self, request: Request) -> dict[str, Any]:
        user = None
        if self._salt is not None and request.group:
            user = hmac.new(self._salt, request.group.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
        return body(self.model, self.served_as, request, user)

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """The SDK's errors become this package's, each with one sentence and without the key."""
        import anthropic

        try:
            yield
        except anthropic.AuthenticationError as error:
            raise LLMError(f"{self.model}: the API key was refused; set ANTHROPIC_API_KEY") from error
        except anthropic.APIStatusError as error:
            # Without its cause, which would bring the server's words back into a traceback.
            raise self._status_error(error) from None
        except anthropic.APITimeoutError as error:
            raise Transient(f"{self.model}: no answer in time", kind="timeout") from error
        except anthropic.APIConnectionError as error:
            name = type(error.__cause__ or error).__name__
            raise Transient(f"{self.model}: no connection to the server ({name})", kind="connection") from error
        except (json.JSONDecodeError, UnicodeDecodeError, anthropic.APIResponseValidationError) as error:
            raise Transient(_no_answer(self.model), kind="invalid") from error
        except (anthropic.AnthropicError, TypeError) as error:
            # The SDK reports a missing key with its generic error or a TypeError, depending on where it notices.
            raise LLMError(_no_key(self.model)) from error

    def without_keys(self, text: str) -> str:
        """A sentence of a server's, without what looks like a key, or is the one in use; cut at 200 characters."""
        client = self._client
        secrets = [client.api_key, client.auth_token] if client else []
        # Before there is a client, too: it is made inside the context that needs this.
        for secret in (*secrets, self._settings["api_key"], *map(os.environ.get, _SECRET_NAMES)):
            if secret:
                text = text.replace(secret, "[key]")
        return _SECRET.sub("[key]", text)[:200]

    def _status_error(self, error: "anthropic.APIStatusError") -> LLMError:
        """What an HTTP status means for this request, and for others."""
        code = error.status_code
        sentence = f"{self.model}: the server answered {code} ({self.without_keys(_reason(error))})"
        if code in _FATAL:
            return LLMError(sentence)
        if code in _KINDS or code >= 500:
            headers = error.response.headers
            milliseconds = _number(headers.get("retry-after-ms"))
            retry_after = _number(headers.get("retry-after")) if milliseconds is None else milliseconds / 1000
            return Transient(sentence, kind=_KINDS.get(code, "server"), retry_after=retry_after)
        return Rejected(sentence)

    def client(self) -> "anthropic.AsyncAnthropic":
        """The SDK's client, made when it is first needed."""
        if self._client is None:
            import anthropic

            http_client = anthropic.DefaultAsyncHttpxClient(mounts=_NO_PROXY)
            with self.errors():
                self._client = anthropic.AsyncAnthropic(**self._settings, http_client=http_client)
        return self._client


def inert(text: str) -> str:
    """The text without what a local server takes for the beginning or the end of a turn.

    llama.cpp reads `<|im_end|>` and the like in what users wrote as tokens of the chat's form: a record could then
    speak as the assistant. A blank behind the bracket leaves a text of it.
    """
    return _CONTROL.sub(r"\g<0> ", encodable(text))


def body(model: str, served_as: str, request: Request, user: str | None = None) -> dict[str, Any]:
    """A request as the SDK takes it: what the model takes, no thinking, and the prompt cache where it can pay.

    Two places are marked for the cache: the end of what stands before the last question, which other questions share,
    and the question itself, which its other samples share.
    """
    row = models.find(model)
    extra: dict[str, Any] = dict(row.no_thinking)
    if request.temperature is not None and row.temperature:
        extra["temperature"] = request.temperature
    plain = inert if model.startswith("local:") else encodable
    messages: list[dict[str, Any]] = [{"role": m.role, "content": plain(m.text)} for m in request.messages]
    # Too short a prefix is not cached and nothing says so.
    if row.caches(estimate_input_tokens(request)):
        for place in {max(0, len(messages) - 2), len(messages) - 1}:
            text = messages[place]["content"]
            messages[place]["content"] = [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]
    sent: dict[str, Any] = {
        "model": served_as,
        "max_tokens": row.limit(request.max_tokens),
        "messages": messages,
    }
    if request.system is not None:
        sent["system"] = plain(request.system)
    if user is not None:
        sent["metadata"] = {"user_id": user}
    if extra:
        sent["extra_body"] = extra
    return sent


def answer(model: str, reply: Any, *, batch: bool = False) -> Answer:
    """What the SDK parsed, as an answer.

    Raises:
      Transient: it is none; the SDK builds its objects out of any JSON.
    """
    try:
        usage = reply.usage
        read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
        return Answer(
            text="".join(block.text for block in reply.content if block.type == "text"),
            stop_reason=reply.stop_reason or "unknown",
            input_tokens=usage.input_tokens + read + written,
            output_tokens=usage.output_tokens,
            cache_read=read,
            cache_written=written,
            batch=batch,
        )
    except (AttributeError, TypeError) as error:
        raise Transient(_no_answer(model), kind="invalid") from error


def limits(headers: Mapping[str, str]) -> Limits:
    """What the headers of an answer say of the server's limits."""
    wait = 0.0
    for kind in _LIMITED:
        if headers.get(f"anthropic-ratelimit-{kind}-remaining") == "0":
            wait = max(wait, _until(headers.get(f"anthropic-ratelimit-{kind}-reset")))
    return Limits(per_minute=_number(headers.get("anthropic-ratelimit-requests-limit")), wait=wait)


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number < float("inf") else None


def _until(text: str | None) -> float:
    """Seconds until a time in RFC 3339; 0 where it is none."""
    try:
        then = datetime.datetime.fromisoformat(text or "")
    except ValueError:
        return 0.0
    now = datetime.datetime.now(then.tzinfo)
    return max(0.0, (then - now).total_seconds())


def _no_key(model: str) -> str:
    return f"{model}: the request could not be sent; set ANTHROPIC_API_KEY, or use --llm local"


def _no_answer(model: str) -> str:
    return f"{model}: what the server sent is not an answer in the Messages protocol; is the address right?"


def _reason(error: "anthropic.APIStatusError") -> str:
    detail = error.body.get("error", {}) if isinstance(error.body, dict) else {}
    return str(detail.get("message", "no reason given") if isinstance(detail, dict) else detail)
