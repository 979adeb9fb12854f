"""The k records most relevant to the query by BM25 (LaMP, Salemi et al. 2024)."""

from hydrajax.prompting.contract import Strategy


class RetrievedRecords(Strategy):
    """Shows the records that a retriever ranks highest."""

    retriever = "bm25"


STRATEGY = RetrievedRecords()
