"""One call of the sampler under way: what is wanted, what came, what failed, and whether to go on."""

import collections
import dataclasses
import logging
import random
from collections.abc import Mapping

from hydrajax import progress
from hydrajax.llm import models, request
from hydrajax.llm.budget import Account
from hydrajax.llm.request import Answer, LLMError, Request
from hydrajax.llm.store import Key, Store
from hydrajax.llm.usage import Usage

_log = logging.getLogger(__name__)
LOGGED = 3  # failures; all of them are returned
NOTED_EVERY = 200  # attempts are counted in the store in such portions


@dataclasses.dataclass(kw_only=True)
class Job:
    """Requests without a stored answer, on their way.

    Attributes:
      model: whose.
      wanted: what is missing, by key.
      store, usage, account, advance: where answers, counts, money and progress go.
      answers: received so far, those from the store included.
      failures: requests that never will be answered.
      stop: why nothing more is sent; None while it goes on.
      fatal: the error behind it, where it was one.
      reserved: requests in batches for which money is set aside, of this job and of others with the same account.
      submitted: ids of batches that this run has submitted.
      strangers: batches that turned out to be somebody else's, by intent.
      looks, broken: looks at a batch, and downloads of its results, that failed; by intent.
      attempts: failed ones, by request.
      rng: of jitter.
    """

    model: str
    wanted: Mapping[Key, Request]
    store: Store
    usage: Usage
    account: Account
    advance: progress.Advance
    answers: dict[Key, Answer]
    failures: dict[Key, LLMError] = dataclasses.field(default_factory=dict)
    stop: str | None = None
    fatal: LLMError | None = None
    reserved: set[Key] = dataclasses.field(default_factory=set)
    submitted: set[str] = dataclasses.field(default_factory=set)
    strangers: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    looks: "collections.Counter[str]" = dataclasses.field(default_factory=collections.Counter)
    broken: "collections.Counter[str]" = dataclasses.field(default_factory=collections.Counter)
    attempts: "collections.Counter[Key]" = dataclasses.field(default_factory=collections.Counter)
    rng: random.Random = dataclasses.field(default_factory=random.Random)
    _outcomes: "collections.Counter[str]" = dataclasses.field(default_factory=collections.Counter)
    _done: int = 0

    def received(self, key: Key, answer: Answer) -> None:
        """Stores an answer, then counts it."""
        if answer.cached:
            self.answers[key] = answer
        else:
            tokens, limit = self.expected(key)
            self.answers[key] = self.store.put(*key, self.model, answer, expected_tokens=tokens, max_tokens=limit)
            self.note("answered")
        self.usage.add(answer)
        self._step()

    def expected(self, key: Key) -> tuple[int, int]:
        """The prompt's tokens as estimated, and the answer's limit as it is sent: plans learn from them."""
        wanted = self.wanted[key]
        return request.estimate_input_tokens(wanted), models.find(self.model).limit(wanted.max_tokens)

    def took(self, key: Key, answer: Answer) -> None:
        """Counts an answer that is stored already."""
        self.answers[key] = answer
        self.usage.add(answer)
        self._step()

    def failed(self, key: Key, error: LLMError) -> None:
        """Gives a request up."""
        self.failures[key] = error
        self.store.release([key])
        if len(self.failures) <= LOGGED:
            _log.warning("a request failed for good: %s", error)
        self._step()

    def note(self, outcome: str) -> None:
        """Counts an attempt."""
        self._outcomes[outcome] += 1
        if sum(self._outcomes.values()) >= NOTED_EVERY:
            self.flush()

    def flush(self) -> None:
        """Writes the count of attempts down."""
        if self._outcomes:
            self.store.note(self.model, self._outcomes)
            self._outcomes.clear()

    def missing(self) -> list[Key]:
        """What is still to be answered."""
        return [key for key in self.wanted if key not in self.answers and key not in self.failures]

    def _step(self) -> None:
        self._done += 1
        parts = [f"{self.usage.input_tokens + self.usage.output_tokens:,} tokens"]
        if self.usage.cached:
            parts.insert(0, f"{self.usage.cached:,} from the store")
        if self.failures:
            parts.insert(0, f"{len(self.failures)} failed")
        if self.usage.cost_usd:
            parts.append(f"${self.usage.cost_usd:,.2f}")
        self.advance(self._done, len(self.wanted), ", ".join(parts))
