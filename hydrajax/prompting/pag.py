"""`pag`: a summary of the profile, written once a user by the LLM, plus k records (Richardson et al. 2023)."""

import dataclasses
from collections.abc import Sequence

from hydrajax.prompting import shorten, templates, turns
from hydrajax.prompting.contract import Context, Strategy, UserModel
from hydrajax.types import Message, User


class ProfileAugmented(Strategy):
    """Puts a summary of the user before the query."""

    name = "pag"
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
        conversation = turns.conversation(query, records, ctx)
        if user_model is None:
            return conversation
        # The summary stands before the query, after the records: what varies least far from the answer is forgotten
        # first by small models, and a cached prefix of records stays valid.
        slots = {"summary": templates.inert(user_model.text), "question": conversation[-1].text}
        text = templates.fill("with_summary.txt", slots)
        return (*conversation[:-1], dataclasses.replace(conversation[-1], text=text))


def _question(user: User, ctx: Context) -> str:
    records = shorten.shorten_records(user.profile[-ctx.settings.summary_records :], ctx)
    listed = "\n".join(f"- {templates.inert(ctx.task.quoted(record))}" for record in records)
    return templates.fill("summary.txt", {"records": listed})


STRATEGY = ProfileAugmented()
