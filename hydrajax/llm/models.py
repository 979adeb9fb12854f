"""What a model takes and costs, as data. A model that is not listed gets the conservative row."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """Capabilities and price.

    Attributes:
      temperature: whether requests may carry one. Where not, the first sample stands in for the greedy answer.
      context_tokens: length of prompt and answer together.
      usd_in, usd_out: US dollars per million tokens; None where unknown.
    """

    temperature: bool
    context_tokens: int
    usd_in: float | None
    usd_out: float | None

    def cost(self, input_tokens: int | float, output_tokens: int | float) -> float | None:
        """US dollars, None where the price is unknown."""
        if self.usd_in is None or self.usd_out is None:
            return None
        return (input_tokens * self.usd_in + output_tokens * self.usd_out) / 1e6


UNKNOWN = Model(temperature=False, context_tokens=100_000, usd_in=None, usd_out=None)
LOCAL = Model(temperature=True, context_tokens=8192, usd_in=0.0, usd_out=0.0)

CLAUDE: Mapping[str, Model] = {
    "claude-3-haiku": Model(temperature=True, context_tokens=200_000, usd_in=0.25, usd_out=1.25),
    "claude-3-5-haiku": Model(temperature=True, context_tokens=200_000, usd_in=0.80, usd_out=4.00),
    "claude-haiku-4-5": Model(temperature=True, context_tokens=200_000, usd_in=1.00, usd_out=5.00),
    "claude-sonnet-4-5": Model(temperature=True, context_tokens=200_000, usd_in=3.00, usd_out=15.00),
    "claude-opus-4-5": Model(temperature=True, context_tokens=200_000, usd_in=5.00, usd_out=25.00),
}


def find(model: str) -> Model:
    """The row of a model name; a dated name such as `claude-haiku-4-5-20251001` finds its family."""
    if model.startswith(("local:", "scripted")):
        return LOCAL
    names = [name for name in CLAUDE if model == name or model.startswith(name + "-")]
    return CLAUDE[max(names, key=len)] if names else UNKNOWN


# The embedded model on one core of 2026: tokens read and written per second. Claude: seconds per call.
READ_RATE, WRITE_RATE, CALL_SECONDS = 200.0, 60.0, 2.0


def seconds(model: str, calls: int, fresh_input_tokens: int, output_tokens: int, *, parallel: int) -> float:
    """A rough estimate of the time that calls take."""
    if model.startswith("local:"):
        return fresh_input_tokens / READ_RATE + output_tokens / WRITE_RATE
    if model == "scripted":
        return 0.0
    return calls * CALL_SECONDS / max(1, parallel)
