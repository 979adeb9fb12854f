"""Message Batches through the anthropic SDK: many requests in one submission, within a day, at half the price."""

import datetime
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from hydrajax.llm import messages
from hydrajax.llm.request import Answer, LLMError, Rejected, Request, Transient
from hydrajax.llm.store import Key, SubmittedBatch

# Documented limits are 100,000 requests and 256 MB.
MOST_REQUESTS = 100_000
MOST_BYTES = 200_000_000
_ID_DIGITS = 48
KEPT_SECONDS = 29 * 86400.0  # the server keeps results that long
CLOCKS_DIFFER = 300.0  # seconds between this machine's clock and the server's
SUBMITTED_WITHIN = 3 * 3600.0  # seconds after it was about to be: a server that is busy may be asked that long


def custom_id(key: Key) -> str:
    """A request's name inside a batch (at most 64 characters), made of what the store knows it by."""
    return f"{key[0][:_ID_DIGITS]}-{key[1]}"


class Gone(Transient):
    """The server has ended a batch, and no longer holds its results."""

    def __init__(self, message: str):
        super().__init__(message, kind="missing")


class Batches(messages.Messages):
    """A server of the Messages protocol that takes batches, too. Those under way when it is closed go on.

    Args:
      model, settings: as for `messages.Messages`.
      sends: whether requests are sent in batches; else one by one, and only the results of others' batches are read.
      most_requests: of one batch.
      poll_seconds: most between two looks at a batch; the first ones are closer.
    """

    def __init__(
        self,
        model: str,
        *,
        sends: bool = True,
        most_requests: int = MOST_REQUESTS,
        poll_seconds: float = 30.0,
        **settings: Any,
    ):
        if not 1 <= most_requests <= MOST_REQUESTS:
            raise ValueError(f"most_requests is {most_requests}, expected 1 to {MOST_REQUESTS}")
        super().__init__(model, **settings)
        self.sends, self.most_requests, self.poll_seconds = sends, most_requests, poll_seconds

    def size(self, request: Request) -> int:
        """Bytes of a request inside a batch, at most."""
        texts = [*((m.role, m.text) for m in request.messages), request.system]
        return 600 + len(json.dumps(texts))

    async def submit(self, requests: Sequence[tuple[Key, Request]]) -> str:
        """Submits a batch, and returns its id.

        Raises:
          Transient, LLMError: it was not taken.
        """
        bodies = [(custom_id(key), self.body(request)) for key, request in requests]
        entries = [{"custom_id": name, "params": body | body.pop("extra_body", {})} for name, body in bodies]
        with self.errors():
            batch = await self.client().messages.batches.create(requests=entries)  # type: ignore[arg-type]
            return batch.id

    async def ended(self, batch_id: str) -> bool | None:
        """Whether all of a batch's results are there; None where the server knows no such batch (any more)."""
        import anthropic

        with self.errors():
            try:
                batch = await self.client().messages.batches.retrieve(batch_id)
            except anthropic.NotFoundError:
                return None
            return batch.processing_status == "ended"

    async def results(self, batch_id: str, keys: Mapping[str, Key]) -> AsyncIterator[tuple[Key, Answer | LLMError]]:
        """The results of a batch that has ended, in any order; what it leaves out is not mentioned.

        Args:
          batch_id: the server's id.
          keys: custom id -> request; other results are passed over.

        Raises:
          Gone: the server keeps results for 29 days.
        """
        import anthropic

        with self.errors():
            try:
                stream = await self.client().messages.batches.results(batch_id)
            except anthropic.AnthropicError as error:
                # The SDK's plain error, of no kind, stands for a batch without an address of its results.
                if isinstance(error, anthropic.NotFoundError) or not isinstance(error, anthropic.APIError):
                    raise Gone(f"{self.model}: the results of batch {batch_id} are no longer there") from error
                raise
            async for entry in stream:
                if entry.custom_id in keys:
                    yield keys[entry.custom_id], self._outcome(entry.result)

    async def find(self, batch: SubmittedBatch, known: frozenset[str]) -> str | None:
        """The id of a batch whose submission was not seen to end, by its time and size; None where it never arrived.

        Args:
          batch: without an id.
          known: ids of other batches.
        """
        begun = datetime.datetime.fromtimestamp(batch.created, datetime.UTC)
        candidates: list[tuple[float, str]] = []
        with self.errors():
            async for other in self.client().messages.batches.list(limit=100):
                later = (other.created_at - begun).total_seconds()
                if later < -CLOCKS_DIFFER:
                    break
                counts = other.request_counts
                size = counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
                if other.id not in known and size == batch.size and later < SUBMITTED_WITHIN:
                    candidates.append((abs(later), other.id))
        return min(candidates, default=(0.0, None))[1]

    def _outcome(self, result: Any) -> Answer | LLMError:
        match result.type:
            case "succeeded":
                try:
                    return messages.answer(self.model, result.message, batch=True)
                except Transient as error:
                    return error
            case "errored":
                detail = result.error.error
                sentence = f"{self.model}: {self.without_keys(detail.message)}"
                if detail.type in ("invalid_request_error", "not_found_error"):
                    return Rejected(sentence)
                return Transient(sentence, kind="server")
            case "canceled":
                return Rejected(f"{self.model}: the request's batch was canceled")
            case other:
                return Transient(f"{self.model}: the request's batch was {other}", kind=str(other))
