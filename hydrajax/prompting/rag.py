"""`rag`: the k records most relevant to the query by BM25 (LaMP, Salemi et al. 2024)."""

from hydrajax.prompting import turns
from hydrajax.prompting.contract import Context, UserModel
from hydrajax.types import Message


class RetrievedRecords:
    """Shows the records that a retriever ranks highest."""

    name = "rag"
    retriever = "bm25"

    def learn(self, users, ctx: Context) -> dict[str, UserModel]:
        return {}

    def messages(self, query, records, user_model, ctx: Context) -> tuple[Message, ...]:
        return turns.conversation(query, records, ctx)


STRATEGY = RetrievedRecords()
