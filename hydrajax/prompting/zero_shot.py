"""`zero_shot`: the query alone."""

from hydrajax.prompting import turns
from hydrajax.prompting.contract import Context, Strategy
from hydrajax.types import Message


class ZeroShot(Strategy):
    """Shows nothing of the user."""

    name = "zero_shot"
    personal = False

    def messages(self, query, records, user_model, ctx: Context, *, note="") -> tuple[Message, ...]:
        return turns.conversation(query, (), ctx)


STRATEGY = ZeroShot()
