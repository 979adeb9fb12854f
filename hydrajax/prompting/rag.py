"""`rag`: the k records most relevant to the query by BM25 (LaMP, Salemi et al. 2024)."""

from hydrajax.prompting import turns
from hydrajax.prompting.contract import Context, Strategy
from hydrajax.types import Message


class RetrievedRecords(Strategy):
    """Shows the records that a retriever ranks highest."""

    name = "rag"
    retriever = "bm25"

    def messages(self, query, records, user_model, ctx: Context, *, note="") -> tuple[Message, ...]:
        return turns.conversation(query, records, ctx)


STRATEGY = RetrievedRecords()
