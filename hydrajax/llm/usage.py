"""What was asked of an LLM so far."""

import dataclasses
from collections.abc import Callable

from hydrajax.llm import budget, models, request


@dataclasses.dataclass(kw_only=True)
class Usage:
    """What was asked of the LLM so far; tokens and dollars are those of the calls, not of answers from the store.

    Attributes:
      calls: requests sent in this run and answered.
      cached: answers read from the store.
      input_tokens, output_tokens: of the calls.
      cache_read: part of the input that came from the server's prompt cache.
      cost_usd: None where the model's price is not known.
    """

    model: str
    calls: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read: int = 0
    cost_usd: float | None = 0.0

    def __post_init__(self):
        self._told: Callable[[], None] = _nobody

    def tell(self, told: Callable[[], None] | None) -> None:
        """Calls this after every call that was paid for; None: nobody any more."""
        self._told = told or _nobody

    def add(self, answer: request.Answer) -> None:
        if answer.cached:
            self.cached += 1
            return
        self.calls += 1
        self.input_tokens += answer.input_tokens
        self.output_tokens += answer.output_tokens
        self.cache_read += answer.cache_read
        paid = budget.cost(models.find(self.model), answer)
        self.cost_usd = None if paid is None or self.cost_usd is None else self.cost_usd + paid
        self._told()


def _nobody() -> None:
    """Nobody wants to be told."""
