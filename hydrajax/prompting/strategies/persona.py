"""A description of the user, made of reasoning that predicts records, and demonstrations (SynthesizeMe, ACL 2025).

Of the newest records, the last three tenths are held out. Then

    1  for every other record the LLM reasons of the user, from others of them alone, and predicts the user's answer
    2  the reasoning stays where that held (`reasoning.holds`)
    3  sets of it are tried on predicting the held-out answers; the best one stays
    4  persona = LLM(the best set)
    5  sets of demonstrations are tried with the persona on the held-out records; the best one is shown

With n records, t = floor(.7 n) and S sets these are at most t + (n - t) S + 1 + (n - t) S calls a user, and t more
where answers are texts. Where no reasoning held, the persona is made of the same records as they are, and
`UserModel.fault` says so. Where records hold no input that could be asked (LaMP_1, LaMP_7), or fewer than three do,
nothing is tried: the persona is made of the newest records as they are, and the newest ones are shown.
"""

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from hydrajax import metrics
from hydrajax.data import draws, pseudo
from hydrajax.prompting import reasoning, shorten, templates, turns
from hydrajax.prompting.contract import Asked, Context, Strategy, UserModel
from hydrajax.prompting.reasoning import Demonstration
from hydrajax.types import Query, Record, User

Shown = TypeVar("Shown")
PROMPTS = ("persona.txt", "with_persona.txt")
LEAST_RECORDS = 3  # one is held out, and each of the others is predicted from the other one
UNVERIFIED = "no reasoning held"
_READ = reasoning.Prediction(reasoning="", answer="")  # of records that nothing was asked about


class Persona(Strategy):
    """Puts a persona before the query, and shows the demonstrations that went best with it."""

    retriever = "bm25"
    alone = True
    template = "with_persona.txt"

    def learn(self, users: Sequence[User], ctx: Context) -> dict[str, UserModel]:
        plans = {user.id: _Plan.of(user, ctx) for user in users if user.profile}
        tried = {user_id: plan for user_id, plan in plans.items() if plan.held_out}
        predictions = self._predictions(tried, ctx)
        held = self._held(tried, predictions, ctx)
        read = self._best_reasoning(tried, held, ctx)
        questions = {user_id: (user_id, _question(plan, read.get(user_id, ()), ctx)) for user_id, plan in plans.items()}
        personas = ctx.ask(questions, max_tokens=ctx.settings.max_summary_tokens, stage="personas")
        models = {}
        for user_id, persona in personas.items():
            unread = sum(predictions.get((user_id, record.id), _READ) is None for record in plans[user_id].records)
            faults = {
                "no persona": not persona,
                UNVERIFIED: user_id in tried and user_id not in read,
                f"{unread} unreadable predictions": unread > 0,
            }
            models[user_id] = ctx.user_model(
                " ".join(persona.split()),
                plans[user_id].records,
                (*PROMPTS, *reasoning.PROMPTS) if user_id in tried else PROMPTS,
                ", ".join(fault for fault, there in faults.items() if there),
            )
        best = self._best_demonstrations({u: plan for u, plan in plans.items() if personas[u]}, models, ctx)
        shown = {user_id: tuple(record.id for record in records) for user_id, records in best.items()}
        return {user_id: dataclasses.replace(model, shown=shown.get(user_id, ())) for user_id, model in models.items()}

    def read(self, answer: str) -> reasoning.Prediction | None:
        """See `reasoning.read`."""
        return reasoning.read(answer)

    def holds(self, prediction: str, gold: str, without: str, ctx: Context) -> bool:
        """See `reasoning.holds`."""
        return reasoning.holds(prediction, gold, without, ctx.task)

    def _predictions(
        self, plans: Mapping[str, "_Plan"], ctx: Context
    ) -> dict[tuple[str, str], reasoning.Prediction | None]:
        """What is reasoned of every record that is not held out, by user and record; None where it cannot be read."""
        questions = {
            (user_id, record.id): (user_id, reasoning.question(plan.query(record, ctx), plan.others(record, ctx), ctx))
            for user_id, plan in plans.items()
            for record in plan.records
        }
        answers = ctx.ask(questions, max_tokens=_limit(ctx), stage="personas: reasoning")
        return {key: self.read(answer) for key, answer in answers.items()}

    def _held(
        self,
        plans: Mapping[str, "_Plan"],
        predictions: Mapping[tuple[str, str], reasoning.Prediction | None],
        ctx: Context,
    ) -> dict[str, dict[str, str]]:
        """The reasoning that held, by user and record; users without any are left out."""
        without: dict[tuple[str, str], str] = {}
        if not ctx.task.labels:
            records = {(user_id, record.id): record for user_id, plan in plans.items() for record in plan.records}
            requests = []
            for (user_id, _), record in records.items():
                plan = plans[user_id]
                shown = [one.record for one in plan.others(record, ctx)]
                messages = turns.conversation(plan.query(record, ctx), shown, ctx)
                requests.append(ctx.request(messages, user_id=user_id))
            answers = ctx.llm.sample(requests, stage="personas: without reasoning") if requests else []
            without = {key: answer.text for key, answer in zip(records, answers, strict=True)}
        held: dict[str, dict[str, str]] = collections.defaultdict(dict)
        for user_id, plan in plans.items():
            for record in plan.records:
                prediction, gold = predictions[user_id, record.id], ctx.task.record_answer(record)
                plain = without.get((user_id, record.id), "")
                if prediction is not None and self.holds(prediction.answer, gold, plain, ctx):
                    held[user_id][record.id] = prediction.reasoning
        return dict(held)

    def _best_reasoning(
        self, plans: Mapping[str, "_Plan"], held: Mapping[str, Mapping[str, str]], ctx: Context
    ) -> dict[str, Sequence[Demonstration]]:
        """The set that predicts the held-out answers best, by user."""
        sets = {user_id: reasoning.sets(plans[user_id].records, held[user_id], ctx, user_id) for user_id in held}

        def answered(tried: Sequence[tuple[str, Sequence[Demonstration], Query]]) -> list[str]:
            questions = {i: (user_id, reasoning.question(q, shown, ctx)) for i, (user_id, shown, q) in enumerate(tried)}
            answers = ctx.ask(questions, max_tokens=_limit(ctx), stage="personas: reasoning tried")
            return ["" if (one := self.read(answer)) is None else one.answer for answer in answers.values()]

        return _best(sets, plans, answered, ctx)

    def _best_demonstrations(
        self, plans: Mapping[str, "_Plan"], models: Mapping[str, UserModel], ctx: Context
    ) -> dict[str, Sequence[Record]]:
        """The set with which the held-out records are answered best, by user."""

        def answered(tried: Sequence[tuple[str, Sequence[Record], Query]]) -> list[str]:
            requests = [
                ctx.request(self.messages(query, shown, models[user_id], ctx), user_id=user_id)
                for user_id, shown, query in tried
            ]
            answers = ctx.llm.sample(requests, stage="personas: demonstrations tried") if requests else []
            return [answer.text for answer in answers]

        return _best({user_id: plan.sets for user_id, plan in plans.items()}, plans, answered, ctx)

    def choose(self, asked: Sequence[Asked], k: int, ctx: Context) -> dict[str, Sequence[Record]]:
        chosen: dict[str, Sequence[Record]] = {}
        for a in asked:
            if a.user_model is not None:
                by_id = {record.id: record for record in a.profile}
                chosen[a.query.id] = tuple(by_id[i] for i in a.user_model.shown if i in by_id)[:k]
        return chosen

    def slots(self, known: str) -> dict[str, str]:
        return {"persona": templates.tagged("person", [known])}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Plan:
    """What is reasoned about, what is shown, and what both are tried on.

    Attributes:
      user: whose records these are.
      records: that reasoning, persona and demonstrations are made of, oldest first.
      order: their ids as they are drawn to be shown.
      sets: of demonstrations, all different; one alone needs no trial.
      held_out: records of none of these, as queries; empty where nothing can be tried.
    """

    user: User
    records: tuple[Record, ...]
    order: tuple[str, ...] = ()
    sets: Sequence[Sequence[Record]]
    held_out: tuple[Query, ...] = ()

    @classmethod
    def of(cls, user: User, ctx: Context) -> "_Plan":
        """Of the records that can be asked; one that reads like another of the user cannot."""
        s = ctx.settings
        can_ask = bool(ctx.task.inputs) and ctx.task.kind != "reward"
        askable = pseudo.askable(ctx.task, user.profile)[-s.persona_records :] if can_ask else ()
        if len(askable) < LEAST_RECORDS:
            answered = [record for record in user.profile if ctx.task.record_answer(record).strip()]
            newest = answered[::-1][: s.demonstrations]
            return cls(user=user, records=user.profile[-s.summary_records :], sets=[newest])
        kept = 7 * len(askable) // 10
        records = tuple(askable[:kept])
        drawn: dict[frozenset[str], list[Record]] = {}
        for i in range(reasoning.DRAWS * s.trials):
            seed = draws.number(ctx.seed, user.id, "demonstrations", i)
            one = _shuffled(records, seed) if i else list(records[::-1])
            one = one[: s.demonstrations]
            drawn.setdefault(frozenset(record.id for record in one), one)
            if len(drawn) == s.trials:
                break
        return cls(
            user=user,
            records=records,
            order=tuple(record.id for record in _shuffled(records, draws.number(ctx.seed, user.id))),
            sets=list(drawn.values()),
            held_out=tuple(pseudo.from_record(ctx.task, user, record) for record in askable[kept:]),
        )

    def query(self, record: Record, ctx: Context) -> Query:
        return pseudo.from_record(ctx.task, self.user, record)

    def others(self, record: Record, ctx: Context) -> list[Demonstration]:
        """What a record's answer is predicted from."""
        by_id = {one.id: one for one in self.records}
        ids = [record_id for record_id in self.order if record_id != record.id][: ctx.settings.demonstrations]
        return [Demonstration(record=by_id[record_id]) for record_id in ids]


def _shuffled(records: Sequence[Record], seed: int) -> list[Record]:
    return draws.shuffled(records, seed=seed, name=lambda record: record.id)


def _limit(ctx: Context) -> int:
    """Tokens of a prediction: its reasoning and its answer."""
    return ctx.settings.max_reasoning_tokens + (ctx.settings.max_answer_tokens or ctx.task.max_answer_tokens)


def _question(plan: _Plan, read: Sequence[Demonstration], ctx: Context) -> str:
    """What is asked for the persona."""
    if read:
        return templates.fill("persona_reasoned.txt", {"records": reasoning.quoted(read, ctx)})
    newest = plan.records[-ctx.settings.summary_records :]
    return templates.fill("persona.txt", {"records": templates.tagged("record", shorten.quoted(newest, ctx))})


def _best(
    sets: Mapping[str, Sequence[Sequence[Shown]]],
    plans: Mapping[str, _Plan],
    answered: Callable[[Sequence[tuple[str, Sequence[Shown], Query]]], Sequence[str]],
    ctx: Context,
) -> dict[str, Sequence[Shown]]:
    """The set of the highest mean quality on the held-out records, the first of equals, by user."""
    tried = [
        (user_id, i, query)
        for user_id, of_user in sets.items()
        if len(of_user) > 1
        for i in range(len(of_user))
        for query in plans[user_id].held_out
    ]
    answers = answered([(user_id, sets[user_id][i], query) for user_id, i, query in tried])
    totals: dict[tuple[str, int], float] = collections.defaultdict(float)
    for (user_id, i, query), answer in zip(tried, answers, strict=True):
        totals[user_id, i] += metrics.quality(ctx.task, ctx.task.normalise(answer), query.gold or "")
    best = {}
    for user_id, of_user in sets.items():
        means = [round(totals[user_id, i], 9) for i in range(len(of_user))]
        best[user_id] = of_user[means.index(max(means))]
    return best


STRATEGY = Persona()
