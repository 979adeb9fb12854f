"""What methods share: the task, the LLM through prompt strategies, the judge of answers, settings and seed."""

import collections
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hydrajax import metrics, retrieval
from hydrajax.data import cross_fitting, draws, pseudo
from hydrajax.llm import models, request, sampler
from hydrajax.methods import settings as settings_lib
from hydrajax.methods import stages
from hydrajax.prompting import contract, registry
from hydrajax.prompting import library as library_lib
from hydrajax.types import Candidate, Message, Query, Record, User, profile_for

Reward = Callable[[Query, str], float]
PARAPHRASE = "Say the following in other, plain words, without any explanation before or after it: "


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lab:
    """Everything that calls the LLM or judges an answer, bound to one task, one LLM and one seed.

    Attributes:
      ctx: the task, the LLM and the prompt settings.
      users: every user that is asked about, by id.
      settings: of the run.
      reward: of (query, text), for tasks that are judged by simulated users.
      seed: of every draw.
      ledger: what each user cost, (stage, user id) -> calls, input_tokens, output_tokens, stored answers included.
      library: what strategies have learned of users.
    """

    ctx: contract.Context
    users: Mapping[str, User]
    settings: settings_lib.Settings
    reward: Reward | None = None
    seed: int = 0
    ledger: dict[tuple[str, str], collections.Counter[str]] = dataclasses.field(default_factory=dict)
    library: library_lib.Library = dataclasses.field(default_factory=library_lib.Library)
    _booked: set[library_lib.Key] = dataclasses.field(init=False, default_factory=set)
    _fingerprints: dict[library_lib.Key, str] = dataclasses.field(init=False, default_factory=dict)

    def quality(self, query: Query, answer: str) -> float:
        """How good an answer is: the graded quality against the gold, or the simulated user's reward."""
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

    def pseudo_queries(self, user_ids: Sequence[str], population: Sequence[str] | None = None) -> list[Query]:
        """Records of the users' profiles as queries with known answers.

        Where records hold no input (LaMP_7) the LLM paraphrases what the user wrote, as the benchmark was made; a
        record whose paraphrase comes back empty is not asked.

        Args:
          user_ids: whose records.
          population: among whom the other author of LaMP_1's questions is found: the training users, so that no new
            user's profile shows in what others learn from. By default everybody.
        """
        task = self.ctx.task
        others = [self.users[user_id] for user_id in (self.users if population is None else population)]
        queries = [
            query
            for user_id in user_ids
            for query in pseudo.pseudo_queries(
                task,
                self.users[user_id],
                self.settings.pseudo_queries,
                seed=self.seed,
                population=others,
            )
        ]
        if task.pseudo_query != "paraphrase":
            return queries
        requests = [
            self.ctx.request((Message(role="user", text=PARAPHRASE + task.query_text(query)),), temperature=self.greedy)
            for query in queries
        ]
        answers = self.ctx.llm.sample(requests, stage=stages.PARAPHRASES)
        self.charge(stages.PARAPHRASES, [query.user_id for query in queries], answers)
        texts = [task.normalise(answer.text) for answer in answers]
        return [pseudo.with_inputs(query, text) for query, text in zip(queries, texts, strict=True) if text]

    @property
    def greedy(self) -> float | None:
        """The temperature of a greedy answer; None where the model takes no temperature."""
        return 0.0 if models.find(self.ctx.llm.model).temperature else None

    def answers(
        self,
        strategy: str,
        shown: Mapping[str, Sequence[Record]],
        queries: Sequence[Query],
        *,
        stage: str,
    ) -> dict[str, Candidate]:
        """The greedy answer to each query, by query id.

        Args:
          strategy: the prompt strategy.
          shown: records by query id, most relevant first.
          queries: what is asked.
          stage: names the calls in progress and plans.
        """
        pools = self.pools(strategy, shown, queries, samples=0, source=strategy, stage=stage)
        return {query_id: pool[0] for query_id, pool in pools.items()}

    def pools(
        self,
        strategy: str,
        shown: Mapping[str, Sequence[Record]],
        queries: Sequence[Query],
        *,
        samples: int,
        source: str,
        stage: str,
    ) -> dict[str, list[Candidate]]:
        """The greedy answer and `samples` sampled ones to each query, equal answers merged and their votes counted.

        Returns:
          candidates by query id, the greedy answer first (see `merge` for where it is missing). An LLM that takes no
          temperature gives independent samples, the first of which stands in for the greedy one; the others see the
          records in other orders, and one of three or more left out.
        """
        of = registry.get(strategy)
        known = self.user_models(strategy, queries)
        asked = self._asked(queries, known, shown)
        with self.charging(stages.notes(stage)) as ctx:
            notes = of.prepare(asked, ctx)
        hot = self.settings.temperature if self.greedy is not None else None
        first_hot = 0 if self.greedy is not None else 1
        requests: list[request.Request] = []
        for query in queries:
            model, note = known.get(query.id), notes.get(query.id, "")
            records = shown.get(query.id, ())
            messages = of.messages(query, records, model, self.ctx, note=note)
            requests.append(self.ctx.request(messages, temperature=self.greedy, user_id=query.user_id))
            for i in range(samples):
                if self.greedy is None and len(records) > 1:
                    messages = of.messages(query, self._varied(query, records, i), model, self.ctx, note=note)
                styled = self._styled(messages, i)
                requests.append(self.ctx.request(styled, temperature=hot, sample=first_hot + i, user_id=query.user_id))
        answers = self.ctx.llm.sample(requests, stage=stage)
        self.charge(stage, [query.user_id for query in queries for _ in range(samples + 1)], answers)
        pools = {}
        for i, query in enumerate(queries):
            drawn = answers[i * (samples + 1) : (i + 1) * (samples + 1)]
            pools[query.id] = merge(
                [
                    Candidate(text=a.text, source=source, stop_reason=a.stop_reason, greedy=n == 0)
                    for n, a in enumerate(drawn)
                ],
                self.ctx.task.normalise,
            )
        return pools

    def shown(self, strategy: str, queries: Sequence[Query], k: int) -> dict[str, Sequence[Record]]:
        """The k records that a strategy shows, most relevant first, by query id; none where it shows none."""
        of = registry.get(strategy)
        if of.retriever is None or k == 0:
            return {query.id: () for query in queries}
        chosen = of.choose(self._asked(queries, self.user_models(strategy, queries)), k, self.ctx)
        retriever = self.settings.retriever if of.retriever == "bm25" else of.retriever
        return {q.id: chosen[q.id] if q.id in chosen else self.retrieve(q, k, retriever) for q in queries}

    def _asked(
        self,
        queries: Sequence[Query],
        user_models: Mapping[str, contract.UserModel],
        shown: Mapping[str, Sequence[Record]] | None = None,
    ) -> list[contract.Asked]:
        return [
            contract.Asked(
                query=query,
                profile=profile_for(query, self.users[query.user_id]),
                records=(shown or {}).get(query.id, ()),
                user_model=user_models.get(query.id),
            )
            for query in queries
        ]

    def user_models(self, strategy: str, queries: Sequence[Query]) -> dict[str, contract.UserModel]:
        """What a strategy knows of the user of each query, by query id, learned where the library has nothing that was
        made of the same records in the same way.

        A real query gets what was made of the whole profile. A pseudo-query gets what was made of the half of it that
        does not hold the query's record: learned from the whole, the answer might have been seen.
        """
        keys = {
            query.id: library_lib.Key(strategy, query.user_id, cross_fitting.part_for(query, self.users[query.user_id]))
            for query in queries
        }
        missing = [key for key in dict.fromkeys(keys.values()) if not self.library.fits(key, self._fingerprint(key))]
        for part in dict.fromkeys(key.part for key in missing):
            users = [cross_fitting.half(self.users[key.user_id], part) for key in missing if key.part == part]
            noted = _Noted(self.ctx.llm)
            found = registry.get(strategy).learn(
                [user for user in users if user.profile], dataclasses.replace(self.ctx, llm=noted, whole=self.users)
            )
            cost: Mapping[str, Mapping[str, Any]] = _spent(noted.users, noted.answers)
            learned = {library_lib.Key(strategy, user.id, part): found.get(user.id) for user in users}
            self.library.add(
                {
                    key: library_lib.Entry(model=model, fingerprint=self._fingerprint(key), **cost.get(key.user_id, {}))
                    for key, model in learned.items()
                }
            )
        for key in set(keys.values()) - self._booked:
            entry = self.library[key]
            if entry.calls:
                spent = {name: getattr(entry, name) for name in ("calls", "input_tokens", "output_tokens")}
                at = (stages.learned(strategy, key.part), key.user_id)
                self.ledger.setdefault(at, collections.Counter()).update(spent)
            if entry.model is not None and entry.model.fault:
                self.ctx.faults[f"{strategy}: {entry.model.fault}"] += 1
            self._booked.add(key)
        models = {query_id: self.library[key].model for query_id, key in keys.items()}
        return {query_id: model for query_id, model in models.items() if model is not None and model.text}

    def _fingerprint(self, key: library_lib.Key) -> str:
        """Of what a user model is made of; empty for strategies that make none."""
        if key not in self._fingerprints:
            of = registry.get(key.strategy)
            user = cross_fitting.half(self.users[key.user_id], key.part)
            # What others say of the user's other half is kept from it (`Context.whole`), so that half matters too.
            whole = library_lib.digest([self.users[key.user_id]])
            others = self._population + whole if of.learns and of.compares else ""
            self._fingerprints[key] = library_lib.fingerprint(user, self.ctx, others) if of.learns else ""
        return self._fingerprints[key]

    @functools.cached_property
    def _population(self) -> str:
        population = self.ctx.population or {}
        return library_lib.digest(population[user_id] for user_id in sorted(population))

    def _varied(self, query: Query, records: Sequence[Record], sample: int) -> tuple[Record, ...]:
        """The records in another order, one of three or more left out, drawn by seed, query and sample alone.

        A model without temperature says much the same to the same prompt.
        """
        seed = draws.number(self.seed, query.id, sample)
        order = draws.shuffled(records, seed=seed, name=lambda record: record.id)
        return tuple(order[: len(order) - (len(order) > 2)])

    def _styled(self, messages: tuple[Message, ...], sample: int) -> tuple[Message, ...]:
        """The conversation with the sample's style instruction under the question, where there are any."""
        styles = self.settings.styles
        if not styles:
            return messages
        text = f"{messages[-1].text}\n{styles[sample % len(styles)]}"
        return (*messages[:-1], dataclasses.replace(messages[-1], text=text))

    def charge(self, stage: str, user_ids: Sequence[str], answers: Sequence[request.Answer]) -> None:
        """Books answers on their users, whether they were called for or stored."""
        for user_id, spent in _spent(user_ids, answers).items():
            self.ledger.setdefault((stage, user_id), collections.Counter()).update(spent)

    @contextlib.contextmanager
    def charging(self, stage: str) -> Iterator[contract.Context]:
        """A context whose answers are booked on the users that the requests are for (`Request.group`)."""
        noted = _Noted(self.ctx.llm)
        yield dataclasses.replace(self.ctx, llm=noted)
        self.charge(stage, noted.users, noted.answers)


class _Noted:
    """A sampler that remembers its answers, and for whom they were."""

    def __init__(self, inner: sampler.Sampler):
        self._inner = inner
        self.model, self.usage = inner.model, inner.usage
        self.users: list[str] = []
        self.answers: list[request.Answer] = []

    def sample(self, requests: Sequence[request.Request], *, stage: str) -> list[request.Answer]:
        found = self._inner.sample(requests, stage=stage)
        self.users += [wanted.group for wanted in requests]
        self.answers += found
        return found


def _spent(user_ids: Sequence[str], answers: Sequence[request.Answer]) -> dict[str, collections.Counter[str]]:
    """Calls and tokens by user."""
    found: dict[str, collections.Counter[str]] = {}
    for user_id, answer in zip(user_ids, answers, strict=True):
        found.setdefault(user_id, collections.Counter()).update(
            calls=1, input_tokens=answer.input_tokens, output_tokens=answer.output_tokens
        )
    return found


def merge(candidates: Sequence[Candidate], normalise: Callable[[str], str]) -> list[Candidate]:
    """Candidates that read the same become one with the sum of their votes; the first one's place and text stay.

    An empty answer is a failure of the LLM, and a refusal is no answer: they are left out unless nothing else is there.
    """
    by_text: dict[tuple[str, str], Candidate] = {}
    for candidate in candidates:
        if candidate.stop_reason == "refusal":
            continue
        key = (candidate.source, normalise(candidate.text))
        if key in by_text:
            by_text[key] = dataclasses.replace(by_text[key], votes=by_text[key].votes + candidate.votes)
        else:
            by_text[key] = candidate
    kept = [candidate for (_, text), candidate in by_text.items() if text]
    return kept or list(candidates[:1])
