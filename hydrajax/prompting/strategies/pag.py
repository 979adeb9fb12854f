"""A summary of the profile, written once a user by the LLM, plus k records (Richardson et al. 2023)."""

from collections.abc import Sequence

from hydrajax.prompting import shorten, templates, turns
from hydrajax.prompting.contract import Context, UserModel
from hydrajax.prompting.strategy import Strategy
from hydrajax.types import Message, User


class ProfileAugmented(Strategy):
    """Puts a summary of the user before the query."""

    retriever = "bm25"
    alone = True

    def learn(self, users: Sequence[User], ctx: Context) -> dict[str, UserModel]:
        newest = ctx.settings.summary_records
        questions = {user.id: (user.id, _question(user, ctx)) for user in users if user.profile}
        said = ctx.ask(questions, max_tokens=ctx.settings.max_summary_tokens, stage="summaries")
        return {
            user.id: UserModel(
                text=" ".join(said[user.id].split()),
                records=tuple(record.id for record in user.profile[-newest:]),
                prompt=templates.version("summary.txt"),
                llm=ctx.llm.model,
            )
            for user in users
            if said.get(user.id)
        }

    def messages(self, query, records, user_model: UserModel | None, ctx: Context, *, note="") -> tuple[Message, ...]:
        plain = super().messages(query, records, user_model, ctx)
        if user_model is None:
            return plain
        return turns.introduced(plain, "with_summary.txt", summary=templates.inert(user_model.text))


def _question(user: User, ctx: Context) -> str:
    records = shorten.shorten_records(user.profile[-ctx.settings.summary_records :], ctx)
    listed = "\n".join(f"- {templates.inert(ctx.task.quoted(record))}" for record in records)
    return templates.fill("summary.txt", {"records": listed})


STRATEGY = ProfileAugmented()
