"""What may be spent: calls, tokens, dollars. Looked at before every request is sent, with what it may cost at most."""

import dataclasses

from hydrajax.llm import models, request


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits of one invocation, None for none.

    Attributes:
      calls: requests answered.
      tokens: of prompts and answers together.
      usd: US dollars.
    """

    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None

    def __post_init__(self):
        for name in ("calls", "tokens", "usd"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"the budget's {name} is {value}, expected 0 or more")


class Account:
    """A budget being spent: what requests under way may cost is set aside until it is known.

    Args:
      model: names the prices.
      beside: the account of another LLM on the same budget: what either spends, both have spent.

    Raises:
      LLMError: dollars are limited, and the model's price is not known.
    """

    def __init__(self, budget: Budget, model: str, *, beside: "Account | None" = None):
        self._budget, self._model = budget, models.find(model)
        if budget.usd is not None and self._model.usd_in is None:
            raise request.LLMError(f"the price of {model} is not known, so dollars cannot be limited; limit tokens")
        nothing = {"calls": 0.0, "tokens": 0.0, "usd": 0.0}
        self._spent: dict[str, float] = dict(nothing) if beside is None else beside._spent
        self._aside: dict[str, float] = dict(nothing) if beside is None else beside._aside

    def reserve(self, wanted: request.Request, *, batch: bool = False) -> str | None:
        """Sets aside what a request may cost at most; returns the limit that forbids it, None where none does."""
        cost = self._most(wanted, batch)
        for name, amount in cost.items():
            limit = getattr(self._budget, name)
            if limit is not None and self._spent[name] + self._aside[name] + amount > limit:
                return f"{limit:,} {name}"
        for name, amount in cost.items():
            self._aside[name] += amount
        return None

    def settle(self, wanted: request.Request, answer: request.Answer | None, *, batch: bool = False) -> None:
        """Frees what was set aside, and books what was spent; nothing where no answer came."""
        for name, amount in self._most(wanted, batch).items():
            # Never below nothing: what another run set aside may be settled here.
            self._aside[name] = max(0.0, self._aside[name] - amount)
        if answer is not None:
            self._spent["calls"] += 1
            self._spent["tokens"] += answer.input_tokens + answer.output_tokens
            self._spent["usd"] += cost(self._model, answer) or 0.0

    def _most(self, wanted: request.Request, batch: bool) -> dict[str, float]:
        read = self._model.most_input_tokens(wanted)
        written = self._model.limit(wanted.max_tokens)
        into_cache = read if self._model.caches(request.estimate_input_tokens(wanted)) else 0.0
        return {
            "calls": 1.0,
            "tokens": read + written,
            "usd": self._model.cost(read, written, cache_written=into_cache, batch=batch) or 0.0,
        }


def cost(model: models.Model, answer: request.Answer) -> float | None:
    """What an answer cost in US dollars, None where no price is known."""
    return model.cost(
        answer.input_tokens,
        answer.output_tokens,
        cache_read=answer.cache_read,
        cache_written=answer.cache_written,
        batch=answer.batch,
    )
