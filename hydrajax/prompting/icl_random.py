"""`icl_random`: k records of the user drawn at random, as earlier turns."""

from hydrajax.prompting import turns
from hydrajax.prompting.contract import Context, Strategy
from hydrajax.types import Message


class RandomRecords(Strategy):
    """Shows records that are the user's, without regard to the query: what retrieval has to beat."""

    name = "icl_random"
    retriever = "random"

    def messages(self, query, records, user_model, ctx: Context, *, note="") -> tuple[Message, ...]:
        return turns.conversation(query, records, ctx)


STRATEGY = RandomRecords()
