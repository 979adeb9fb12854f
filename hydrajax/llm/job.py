"""One call of the sampler under way: what is wanted, what came, what failed, and whether to go on."""

import collections
import dataclasses
import logging
import random
from collections.abc import Callable, Iterable, Mapping

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
      wanted: what is missing, by key.
      store, usage, account, advance: where answers, counts, money and progress go.
      answers: received so far, those from the store included.
      failures: requests that never will be answered.
      elsewhere: requests that others are at, a process or a batch (`batch:INTENT`).
      ended: told of every request that was answered or given up.
      stop: why nothing more is sent; None while it goes on.
      fatal: the error behind it, where it was one.
      reserved: requests in batches for which money is set aside, of this job and of others with the same account.
      submitted: ids of batches that this run has submitted.
      strangers: batches that turned out to be somebody else's, by intent.
      looks, broken: looks at a batch, and downloads of its results, that failed; by intent.
      attempts: failed ones, by request.
      rng: of jitter.
    """

    wanted: Mapping[Key, Request]
    store: Store
    usage: Usage
    account: Account
    advance: progress.Advance
    answers: dict[Key, Answer]
    failures: dict[Key, LLMError] = dataclasses.field(default_factory=dict)
    elsewhere: dict[Key, str] = dataclasses.field(default_factory=dict)
    ended: Callable[[Key], None] = lambda key: None
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

    @property
    def model(self) -> str:
        return self.usage.model

    def claim(self, keys: Iterable[Key]) -> list[Key]:
        """Those that are now this process's to send; of the others the answer is taken, or noted who is at them."""
        mine = []
        for key, state in self.store.claim_many(list(keys)).items():
            self.elsewhere.pop(key, None)
            if isinstance(state, Answer):
                self.settle(key, state)  # of this run's batch, perhaps, whose results another process has stored
                self.count(key, state)
            elif state is None:
                mine.append(key)
            else:
                self.elsewhere[key] = state
        return mine

    def received(self, key: Key, answer: Answer) -> None:
        """Stores an answer, then counts it."""
        stored = self.store.put(key, self.model, answer, expected=self.expected(key))
        self.note("answered")
        self.count(key, answer)
        self.answers[key] = stored  # another process's, perhaps, which was there first; this one was paid for

    def expected(self, key: Key) -> tuple[int, int]:
        """The prompt's tokens as estimated, and the answer's limit as it is sent: plans learn from them."""
        wanted = self.wanted[key]
        return request.estimate_input_tokens(wanted), models.find(self.model).limit(wanted.max_tokens)

    def count(self, key: Key, answer: Answer) -> None:
        """Counts an answer that is stored already."""
        self.answers[key] = answer
        self.usage.add(answer)
        self._step(key)

    def settle(self, key: Key, answer: Answer | None) -> None:
        """Books the result of a request in a batch; of batches that another run has submitted, that run has paid."""
        if key in self.reserved:
            self.reserved.discard(key)
            self.account.settle(self.wanted[key], answer, batch=True)

    def failed(self, key: Key, error: LLMError) -> None:
        """Gives a request up."""
        self.failures[key] = error
        self.store.release([key])
        if len(self.failures) <= LOGGED:
            _log.warning("a request failed for good: %s", error)
        self._step(key)

    def abort(self, error: LLMError) -> None:
        """Nothing more is sent, since no other request would fare better."""
        self.stop, self.fatal = "an error", error

    def note(self, outcome: str) -> None:
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

    def _step(self, key: Key) -> None:
        self.elsewhere.pop(key, None)
        self.ended(key)
        self._done += 1
        parts = [f"{self.usage.input_tokens + self.usage.output_tokens:,} tokens"]
        if self.usage.cached:
            parts.insert(0, f"{self.usage.cached:,} from the store")
        if self.failures:
            parts.insert(0, f"{len(self.failures)} failed")
        if self.usage.cost_usd:
            parts.append(f"${self.usage.cost_usd:,.2f}")
        self.advance(self._done, len(self.wanted), ", ".join(parts))
