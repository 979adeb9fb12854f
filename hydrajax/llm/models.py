"""What a model takes and costs, as data. A model that is not listed gets the conservative row, and a warning.

Source: Anthropic's model overview, pricing and prompt-caching pages and its migration guides, as of October 2026.
"""

import dataclasses
import functools
import logging
import math
from collections.abc import Mapping
from typing import Any

from hydrajax.llm import request
from hydrajax.llm.request import Request

_log = logging.getLogger(__name__)

# Where thinking cannot be switched off its tokens count toward the answer's limit, so the limit is raised by these.
THINKING_TOKENS = 1024
TOKENS_PER_ESTIMATE = 1.1  # of the models until 4.6
BATCH_PRICE = 0.5
CACHE_WRITE_PRICE = 1.25


@dataclasses.dataclass(frozen=True)
class Model:
    """Capabilities and price.

    Attributes:
      usd_in, usd_out: US dollars per million tokens; None where unknown.
      usd_cached: the same for input read from the prompt cache.
      cache_minimum: tokens that a prefix needs to be cached; None where nothing is said of caching in requests.
      temperature: whether requests may carry one. Where not, the first sample stands in for the greedy answer.
      context_tokens: length of prompt and answer together.
      no_thinking: fields of a request that switch thinking off, or down to the least.
      thinks: whether it thinks all the same.
      tokens_per_estimate: tokens as the model counts them for each of `request.estimate_input_tokens`.
      filled: typical length of an answer, as a share of its limit; for plans.
    """

    usd_in: float | None = None
    usd_out: float | None = None
    usd_cached: float | None = None
    cache_minimum: int | None = None
    _: dataclasses.KW_ONLY
    temperature: bool
    context_tokens: int
    no_thinking: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    thinks: bool = False
    tokens_per_estimate: float = 1.1
    filled: float = 0.5

    def limit(self, max_tokens: int) -> int:
        """The limit that a request for so many tokens of text is sent with."""
        return max_tokens + (THINKING_TOKENS if self.thinks else 0)

    def most_input_tokens(self, wanted: Request) -> int:
        """See `request.most_input_tokens`; more where the tokenizer counts more."""
        return math.ceil(request.most_input_tokens(wanted) * max(1.0, self.tokens_per_estimate / TOKENS_PER_ESTIMATE))

    def caches(self, estimated_tokens: int) -> bool:
        """Whether a prompt is marked for the prompt cache: where it may be long enough, the estimate being low."""
        return self.cache_minimum is not None and 1.5 * estimated_tokens >= self.cache_minimum

    def cost(
        self,
        input_tokens: int | float,
        output_tokens: int | float,
        *,
        cache_read: int | float = 0,
        cache_written: int | float = 0,
        batch: bool = False,
    ) -> float | None:
        """US dollars, None where the price is unknown.

        Args:
          input_tokens: of whole prompts, what was read from or written to the cache included.
          output_tokens: of answers.
          cache_read, cache_written: part of the input that came from the prompt cache, or went into it.
          batch: whether they were sent as Message Batches.
        """
        if self.usd_in is None or self.usd_out is None:
            return None
        cached = self.usd_in if self.usd_cached is None else self.usd_cached
        plain = input_tokens - cache_read - cache_written
        dollars = (plain + CACHE_WRITE_PRICE * cache_written) * self.usd_in + cache_read * cached
        return (dollars + output_tokens * self.usd_out) / 1e6 * (BATCH_PRICE if batch else 1.0)


_OFF = {"thinking": {"type": "disabled"}}
_BETWEEN = {"thinking": {"type": "between_tools"}}
_LEAST = {"output_config": {"effort": "low"}}
# The tokenizer of 4.7 and later counts the same text as about 30 % more tokens.
_new = functools.partial(Model, temperature=False, context_tokens=1_000_000, tokens_per_estimate=1.4)
_old = functools.partial(Model, temperature=True, context_tokens=200_000, tokens_per_estimate=TOKENS_PER_ESTIMATE)

CLAUDE: Mapping[str, Model] = {
    "claude-3-haiku": _old(0.25, 1.25, 0.03, 2048),
    "claude-3-5-haiku": _old(0.80, 4.00, 0.08, 2048),
    "claude-haiku-4-5": _old(1.00, 5.00, 0.10, 4096),
    "claude-haiku-5-5": _new(0.10, 0.50, 0.01, 4096, no_thinking=_LEAST, thinks=True),
    "claude-sonnet-4-5": _old(3.00, 15.00, 0.30, 1024),
    "claude-sonnet-4-6": _old(3.00, 15.00, 0.30, 1024, context_tokens=1_000_000),
    "claude-sonnet-5": _new(2.00, 10.00, 0.20, 1024, no_thinking=_OFF),
    "claude-sonnet-5-5": _new(2.00, 10.00, 0.10, 1024, no_thinking=_BETWEEN),
    "claude-opus-4-5": _old(5.00, 25.00, 0.50, 4096),
    "claude-opus-4-6": _old(5.00, 25.00, 0.50, 4096, context_tokens=1_000_000),
    "claude-opus-4-7": _new(5.00, 25.00, 0.50, 2048),
    "claude-opus-4-8": _new(5.00, 25.00, 0.50, 1024),
    "claude-opus-5": _new(5.00, 25.00, 0.50, 512, no_thinking=_OFF),
    "claude-opus-5-5": _new(4.00, 20.00, 0.20, 512, no_thinking=_LEAST, thinks=True),
    "claude-fable-5": _new(10.00, 50.00, 1.00, 512, no_thinking=_LEAST, thinks=True),
    "claude-fable-5-1": _new(10.00, 50.00, 0.25, 512, no_thinking=_LEAST, thinks=True),
}

OF_OTHERS: dict[str, Model] = {}
UNKNOWN = Model(temperature=False, context_tokens=100_000, tokens_per_estimate=1.4)
# The small embedded model rambles on to the limit; its tokenizer is finer than the estimate.
LOCAL = Model(0.0, 0.0, temperature=True, context_tokens=8192, filled=0.9)
SCRIPTED = dataclasses.replace(LOCAL, tokens_per_estimate=1.0, filled=0.3)


@functools.cache
def find(model: str) -> Model:
    """The row of a model name; a dated name such as `claude-haiku-4-5-20251001` finds its family.

    An unknown name is warned about once, and gets a row that every current model works with.
    """
    if model.startswith("local:"):
        return LOCAL
    if model.startswith("scripted"):
        return SCRIPTED
    if model in OF_OTHERS:
        return OF_OTHERS[model]
    names = [name for name in CLAUDE if model == name or model.startswith(name + "-")]
    if names:
        return CLAUDE[max(names, key=len)]
    _log.warning(
        "%s is not in the table of models: no temperature is sent, no prompt cache is used, and its price is unknown",
        model,
    )
    return UNKNOWN


def add(model: str, row: Model) -> None:
    """Adds the row of a model that is not listed here, such as that of an LLM of one's own (see `connect`)."""
    OF_OTHERS[model] = row
    find.cache_clear()


# The embedded model on one core of 2026: tokens read and written per second. Claude: seconds per call.
READ_RATE, WRITE_RATE, CALL_SECONDS = 200.0, 60.0, 2.0


def seconds(model: str, calls: int, fresh_input_tokens: int, output_tokens: int, *, parallel: int) -> float:
    """A rough estimate of the time that calls take."""
    if model.startswith("local:"):
        return fresh_input_tokens / READ_RATE + output_tokens / WRITE_RATE
    if model == "scripted":
        return 0.0
    return calls * CALL_SECONDS / max(1, parallel)
