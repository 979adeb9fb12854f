"""k records of the user drawn at random, as earlier turns."""

from hydrajax.prompting.contract import Strategy


class RandomRecords(Strategy):
    """Shows records that are the user's, without regard to the query: what retrieval has to beat."""

    retriever = "random"


STRATEGY = RandomRecords()
