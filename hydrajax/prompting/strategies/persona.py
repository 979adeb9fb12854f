"""A description of the user, and demonstrations tried on records held out (SynthesizeMe, ACL 2025).

A call a user writes the persona from the records that are not held out; each of a few sets of demonstrations is then
tried on the held-out ones, and the best set stays. Where a record holds no input that could be asked (LaMP_1, LaMP_7)
or its answer cannot be judged, nothing is tried: the newest records are the demonstrations.
"""

import dataclasses
import operator
from collections.abc import Mapping, Sequence

from hydrajax import metrics
from hydrajax.data import draws, pseudo
from hydrajax.prompting import shorten, templates
from hydrajax.prompting.contract import Asked, Context, Strategy, UserModel
from hydrajax.types import Query, Record, User

PROMPTS = ("persona.txt", "with_persona.txt")


class Persona(Strategy):
    """Puts a persona before the query, and shows the demonstrations that went best with it."""

    retriever = "bm25"
    alone = True
    template = "with_persona.txt"

    def learn(self, users: Sequence[User], ctx: Context) -> dict[str, UserModel]:
        plans = {user.id: _Plan.of(user, ctx) for user in users if user.profile}
        questions = {user_id: (user_id, plan.question(ctx)) for user_id, plan in plans.items()}
        personas = ctx.ask(questions, max_tokens=ctx.settings.max_summary_tokens, stage="personas")
        models = {
            user_id: ctx.user_model(
                " ".join(persona.split()), plans[user_id].read, PROMPTS, "" if persona else "no persona"
            )
            for user_id, persona in personas.items()
        }
        best = self._best_sets({user_id: plan for user_id, plan in plans.items() if personas[user_id]}, models, ctx)
        shown = {user_id: tuple(record.id for record in records) for user_id, records in best.items()}
        return {user_id: dataclasses.replace(model, shown=shown.get(user_id, ())) for user_id, model in models.items()}

    def _best_sets(
        self, plans: Mapping[str, "_Plan"], models: Mapping[str, UserModel], ctx: Context
    ) -> dict[str, tuple[Record, ...]]:
        """The set of the highest mean quality on the held-out records, the first of equals."""
        tried = [
            (user_id, i, query)
            for user_id, plan in plans.items()
            if len(plan.sets) > 1
            for i in range(len(plan.sets))
            for query in plan.held_out
        ]
        requests = [
            ctx.request(self.messages(query, plans[user_id].sets[i], models[user_id], ctx), user_id=user_id)
            for user_id, i, query in tried
        ]
        answers = ctx.llm.sample(requests, stage="personas: demonstrations tried")
        totals: dict[tuple[str, int], float] = {}
        for (user_id, i, query), answer in zip(tried, answers, strict=True):
            quality = metrics.quality(ctx.task, ctx.task.normalise(answer.text), query.gold or "")
            totals[user_id, i] = totals.get((user_id, i), 0.0) + quality
        return {
            user_id: plan.sets[max(range(len(plan.sets)), key=lambda i: (round(totals.get((user_id, i), 0.0), 9), -i))]  # noqa: B023
            for user_id, plan in plans.items()
        }

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
    """What is read, what is shown, and what it is tried on.

    Attributes:
      read: records that the persona is made of.
      sets: of demonstrations; one alone needs no trial.
      held_out: records of neither, as queries.
    """

    read: tuple[Record, ...]
    sets: tuple[tuple[Record, ...], ...]
    held_out: tuple[Query, ...]

    @classmethod
    def of(cls, user: User, ctx: Context) -> "_Plan":
        """The newest records are held out, as many as there are trials, where enough others are left."""
        s = ctx.settings
        answered = [record for record in user.profile if ctx.task.record_answer(record).strip()]
        can_ask = bool(ctx.task.inputs) and ctx.task.kind != "reward"
        if not can_ask or len(answered) < s.trials + s.demonstrations + 1:
            return cls(
                read=user.profile[-s.summary_records :], sets=(tuple(answered[::-1][: s.demonstrations]),), held_out=()
            )
        held = answered[-s.trials :]
        rest = [record for record in user.profile if record not in held]
        usable = [record for record in answered if record not in held]
        sets = [
            tuple(draws.shuffled(usable, seed=ctx.seed + i, name=operator.attrgetter("id"))[: s.demonstrations])
            for i in range(s.trials)
        ]
        return cls(
            read=tuple(rest[-s.summary_records :]),
            sets=tuple(sets if len(usable) > s.demonstrations else sets[:1]),
            held_out=tuple(pseudo.from_record(ctx.task, user, record) for record in held),
        )

    def question(self, ctx: Context) -> str:
        """What is asked for the persona."""
        listed = templates.tagged("record", shorten.quoted(self.read, ctx))
        return templates.fill("persona.txt", {"records": listed})


STRATEGY = Persona()
