"""The Messages protocol through the anthropic SDK: Claude by API key, or any server that speaks the same."""

import json
from typing import Any, cast

import anthropic

from hydrajax.llm import models
from hydrajax.llm.request import Answer, LLMError, Request

# The environment may name a proxy; the loopback interface is never behind it.
_NO_PROXY = dict.fromkeys(("all://127.0.0.1", "all://localhost", "all://[::1]"))


class Messages:
    """Sends requests one by one.

    Args:
      model: the model's name as the server knows it.
      name: how the model is called in keys and reports, by default `model`.
      base_url, api_key: where to, by default Claude with the key of the environment.
      parallel: requests under way at once.
      timeout: seconds for one answer.

    Raises:
      LLMError: no key, or the server refuses the request for good.
    """

    def __init__(
        self,
        model: str,
        *,
        name: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        parallel: int = 8,
        timeout: float = 600.0,
        max_retries: int = 6,
    ):
        self.model = name or model
        self.parallel = parallel
        self._served_as = model
        self._takes_temperature = models.find(self.model).temperature
        # A server of one's own must not be sent a Claude key that happens to lie in the environment.
        self._settings: dict[str, Any] = {
            "base_url": base_url,
            "api_key": api_key,
            "timeout": timeout,
            "max_retries": max_retries,
        }
        self._client: anthropic.AsyncAnthropic | None = None

    def check(self) -> None:
        """See `Transport.check`: whether the environment, a profile or an argument holds a key."""
        try:
            client = anthropic.AsyncAnthropic(**self._settings)
        except (anthropic.AnthropicError, TypeError, ValueError) as error:
            raise LLMError(_no_key(self.model)) from error
        if not (client.api_key or client.auth_token or client.custom_auth):
            raise LLMError(_no_key(self.model))

    async def complete(self, request: Request) -> Answer:
        if self._client is None:
            http_client = anthropic.DefaultAsyncHttpxClient(mounts=_NO_PROXY)
            self._client = anthropic.AsyncAnthropic(**self._settings, http_client=http_client)
        extra = {}
        if request.temperature is not None and self._takes_temperature:
            extra["temperature"] = request.temperature
        try:
            reply = await self._client.messages.create(
                model=self._served_as,
                max_tokens=request.max_tokens,
                messages=cast(
                    list[anthropic.types.MessageParam],
                    [{"role": message.role, "content": message.text} for message in request.messages],
                ),
                system=anthropic.omit if request.system is None else request.system,
                extra_body=extra or None,
            )
        except anthropic.AuthenticationError as error:
            raise LLMError(f"{self.model}: the API key was refused; set ANTHROPIC_API_KEY") from error
        except anthropic.APIStatusError as error:
            raise LLMError(f"{self.model}: the server answered {error.status_code} ({_reason(error)})") from error
        except anthropic.APIConnectionError as error:
            raise LLMError(f"{self.model}: no connection to the server ({type(error).__name__})") from error
        except (json.JSONDecodeError, anthropic.APIResponseValidationError) as error:
            raise LLMError(_no_answer(self.model)) from error
        except (anthropic.AnthropicError, TypeError) as error:
            # The SDK reports a missing key with its generic error or a TypeError, depending on where it notices.
            raise LLMError(_no_key(self.model)) from error
        try:
            usage = reply.usage
            return Answer(
                text="".join(block.text for block in reply.content if block.type == "text"),
                stop_reason=reply.stop_reason or "unknown",
                input_tokens=usage.input_tokens
                + (usage.cache_read_input_tokens or 0)
                + (usage.cache_creation_input_tokens or 0),
                output_tokens=usage.output_tokens,
            )
        except (AttributeError, TypeError) as error:  # the SDK builds its objects out of any JSON
            raise LLMError(_no_answer(self.model)) from error

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None


def _no_key(model: str) -> str:
    return f"{model}: the request could not be sent; set ANTHROPIC_API_KEY, or use --llm local"


def _no_answer(model: str) -> str:
    return f"{model}: what the server sent is not an answer in the Messages protocol; is the address right?"


def _reason(error: anthropic.APIStatusError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    detail = body.get("error", {})
    return str(detail.get("message", "no reason given") if isinstance(detail, dict) else detail)[:200]
