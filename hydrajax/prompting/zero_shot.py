"""`zero_shot`: the query alone."""

from hydrajax.prompting import turns
from hydrajax.prompting.contract import Context, UserModel
from hydrajax.types import Message


class ZeroShot:
    """Shows nothing of the user."""

    name = "zero_shot"
    retriever = None

    def learn(self, users, ctx: Context) -> dict[str, UserModel]:
        return {}

    def messages(self, query, records, user_model, ctx: Context) -> tuple[Message, ...]:
        return turns.conversation(query, (), ctx)


STRATEGY = ZeroShot()
