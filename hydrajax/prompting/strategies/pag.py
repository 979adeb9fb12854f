"""A summary of the profile, written once a user by the LLM, plus k records (Richardson et al. 2023)."""

from collections.abc import Sequence

from hydrajax.prompting import shorten, templates
from hydrajax.prompting.contract import Context, Strategy, UserModel
from hydrajax.types import User


class ProfileAugmented(Strategy):
    """Puts a summary of the user before the query."""

    retriever = "bm25"
    alone = True
    template = "with_summary.txt"

    def learn(self, users: Sequence[User], ctx: Context) -> dict[str, UserModel]:
        questions = {user.id: (user.id, _question(user, ctx)) for user in users if user.profile}
        summaries = ctx.ask(questions, max_tokens=ctx.settings.max_summary_tokens, stage="summaries")
        return {
            user.id: ctx.user_model(
                " ".join(summary.split()), user.profile[-ctx.settings.summary_records :], ["summary.txt"]
            )
            for user in users
            if (summary := summaries.get(user.id))
        }

    def slots(self, known: str) -> dict[str, str]:
        return {"summary": templates.inert(known)}


def _question(user: User, ctx: Context) -> str:
    records = shorten.quoted(user.profile[-ctx.settings.summary_records :], ctx)
    listed = "\n".join(f"- {templates.inert(record)}" for record in records)
    return templates.fill("summary.txt", {"records": listed})


STRATEGY = ProfileAugmented()
