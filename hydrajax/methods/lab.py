"""What methods share: the task, the LLM, the users, the judge of answers, settings and seed."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

from hydrajax import metrics, retrieval
from hydrajax.llm import models
from hydrajax.methods import ledger as ledger_lib
from hydrajax.methods import settings as settings_lib
from hydrajax.prompting import contract, registry
from hydrajax.prompting import library as library_lib
from hydrajax.types import Query, Record, User

Reward = Callable[[Query, str], float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lab:
    """One task, one LLM and one seed.

    Attributes:
      ctx: the task, the LLM and the prompt settings.
      users: every user that is asked about, by id.
      settings: of the run.
      reward: of (query, text), for tasks that are judged by simulated users.
      seed: of every draw.
      ledger: what each user cost.
      library: what strategies have learned of users.
      strategy: the prompt strategy of a name.
      booked: user models whose cost is in the ledger.
      fingerprints: of what user models are made of.
    """

    ctx: contract.Context
    users: Mapping[str, User]
    settings: settings_lib.Settings
    reward: Reward | None = None
    seed: int = 0
    ledger: ledger_lib.Ledger = dataclasses.field(default_factory=dict)
    library: library_lib.Library = dataclasses.field(default_factory=library_lib.Library)
    strategy: Callable[[str], contract.Strategy] = registry.get
    booked: set[library_lib.Key] = dataclasses.field(init=False, default_factory=set)
    fingerprints: dict[library_lib.Key, str] = dataclasses.field(init=False, default_factory=dict)

    def quality(self, query: Query, answer: str) -> float:
        """How good an answer is: the graded quality against the gold, or the simulated user's reward.

        Raises:
          ValueError: there is neither.
        """
        prediction = self.ctx.task.normalise(answer)
        if self.reward is not None:
            return self.reward(query, prediction)
        if query.gold is None:
            raise ValueError(f"query {query.id!r} has no gold, its answers cannot be judged")
        return metrics.quality(self.ctx.task, prediction, query.gold)

    def retrieve(self, query: Query, n: int, retriever: str | None = None) -> tuple[Record, ...]:
        """The top n records for a query, best first, never the one that a pseudo-query was made of."""
        name = retriever or self.settings.retriever
        return retrieval.retrieve(name, self.ctx.task, query, self.users[query.user_id], n, self.seed)

    @property
    def greedy(self) -> float | None:
        """The temperature of a greedy answer; None where the model takes no temperature."""
        return 0.0 if models.find(self.ctx.llm.model).temperature else None

    @functools.cached_property
    def population_digest(self) -> str:
        """Changes with the users whom strategies may compare with."""
        population = self.ctx.population or {}
        return library_lib.digest(population[user_id] for user_id in sorted(population))
