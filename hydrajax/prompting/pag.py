"""`pag`: a summary of the profile, written once a user by the LLM, plus k records (Richardson et al. 2023)."""

import dataclasses
from collections.abc import Sequence

from hydrajax.llm import request
from hydrajax.prompting import shorten, texts, turns
from hydrajax.prompting.contract import Context, Strategy, UserModel
from hydrajax.types import Message, User


class ProfileAugmented(Strategy):
    """Puts a summary of the user before the query."""

    name = "pag"
    retriever = "bm25"
    alone = True

    def learn(self, users: Sequence[User], ctx: Context) -> dict[str, UserModel]:
        users = [user for user in users if user.profile]
        newest = ctx.settings.summary_records
        requests = []
        for user in users:
            records = shorten.shorten_records(user.profile[-newest:], ctx)
            listed = "\n".join(f"- {texts.inert(ctx.task.quoted(record))}" for record in records)
            text = texts.fill("summary.txt", {"records": listed})
            requests.append(
                request.Request(
                    messages=(Message(role="user", text=text),),
                    max_tokens=ctx.settings.max_summary_tokens,
                    temperature=0.0,
                    group=user.id,
                )
            )
        answers = ctx.llm.sample(requests, stage="summaries")
        return {
            user.id: UserModel(
                text=" ".join(answer.text.split()),
                records=tuple(record.id for record in user.profile[-newest:]),
                prompt=texts.version("summary.txt"),
                llm=ctx.llm.model,
            )
            for user, answer in zip(users, answers, strict=True)
            if answer.text.strip()
        }

    def messages(self, query, records, user_model: UserModel | None, ctx: Context, *, note="") -> tuple[Message, ...]:
        conversation = turns.conversation(query, records, ctx)
        if user_model is None:
            return conversation
        # The summary stands before the query, after the records: what varies least far from the answer is forgotten
        # first by small models, and a cached prefix of records stays valid.
        slots = {"summary": user_model.text, "question": conversation[-1].text}
        text = texts.fill("with_summary.txt", slots)
        return (*conversation[:-1], dataclasses.replace(conversation[-1], text=text))


STRATEGY = ProfileAugmented()
