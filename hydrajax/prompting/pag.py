"""`pag`: a summary of the profile, written once a user by the LLM, plus k records (Richardson et al. 2023)."""

import dataclasses
import importlib.resources
from collections.abc import Sequence

from hydrajax.data import tasks
from hydrajax.llm import request
from hydrajax.prompting import shorten, turns
from hydrajax.prompting.contract import Context, UserModel
from hydrajax.types import Message, User


def _prompt(name: str) -> str:
    return (importlib.resources.files("hydrajax.prompting") / "prompts" / name).read_text(encoding="utf-8").strip()


class ProfileAugmented:
    """Puts a summary of the user before the query.

    The summary is written from the whole profile, so it serves real queries only; a pseudo-query would need one
    written without its own record.
    """

    name = "pag"
    retriever = "bm25"

    def learn(self, users: Sequence[User], ctx: Context) -> dict[str, UserModel]:
        users = [user for user in users if user.profile]
        template, newest = _prompt("summary.txt"), ctx.settings.summary_records
        requests = []
        for user in users:
            records = shorten.shorten_records(user.profile[-newest:], ctx)
            listed = "\n".join(f"- {ctx.task.quoted(record).strip()}" for record in records)
            text = tasks.fill(template, {"records": listed})
            requests.append(
                request.Request(
                    messages=(Message(role="user", text=text),),
                    max_tokens=ctx.settings.max_summary_tokens,
                    temperature=0.0,
                )
            )
        answers = ctx.llm.sample(requests, stage="summaries")
        return {
            user.id: UserModel(
                text=" ".join(answer.text.split()),
                records=tuple(record.id for record in user.profile[-newest:]),
            )
            for user, answer in zip(users, answers, strict=True)
            if answer.text.strip()
        }

    def messages(self, query, records, user_model: UserModel | None, ctx: Context) -> tuple[Message, ...]:
        conversation = turns.conversation(query, records, ctx)
        if user_model is None:
            return conversation
        # The summary stands before the query, after the records: what varies least far from the answer is forgotten
        # first by small models, and a cached prefix of records stays valid.
        slots = {"summary": user_model.text, "question": conversation[-1].text}
        text = tasks.fill(_prompt("with_summary.txt"), slots)
        return (*conversation[:-1], dataclasses.replace(conversation[-1], text=text))


STRATEGY = ProfileAugmented()
