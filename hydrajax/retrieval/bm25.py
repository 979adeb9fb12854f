"""Okapi BM25 as `rank_bm25.BM25Okapi` computes it, the formula behind LaMP's and HYDRA's numbers.

Its floor on negative IDF decides the order on small profiles: libraries without it rank them differently.
"""

import collections
import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from hydrajax.types import Record

K1 = 1.5  # saturation of a term's frequency
B = 0.75  # strength of the normalisation by length, 0 to 1
EPSILON = 0.25  # the floor of a negative IDF in units of the mean IDF


def scores(query_text: str, corpus: Sequence[str]) -> Float64[np.ndarray, " N"]:
    """BM25 of every text of the corpus for the query.

        score(q, d) = sum_{t in q} idf(t) f(t, d) (k1 + 1) / (f(t, d) + k1 (1 - b + b |d| / mean|d|))
        idf(t)      = log(N - n(t) + 1/2) - log(n(t) + 1/2), and where that is negative: epsilon mean_t idf(t)

    f(t, d) = occurrences of the term in the text, |d| = terms of the text, n(t) = texts that hold the term; the mean of
    idf runs over the corpus' distinct terms, before the floor. A term that stands in the query twice counts twice.
    Terms are what `str.split` leaves, with case and punctuation. In a very small corpus the mean is negative too, and
    then so are scores; that is the formula, and it is kept.

    Args:
      query_text: any text, also an empty one.
      corpus: N texts, also empty ones.

    Returns:
      N scores, 0 where query and text share nothing; never NaN.

    Source: Robertson et al., Okapi at TREC-3; the floor is that of the package rank_bm25 0.2.
    """
    terms = [text.split() for text in corpus]
    lengths = np.array([len(words) for words in terms], dtype=np.float64)
    result = np.zeros(len(corpus))
    if not lengths.any():
        return result
    counts = [collections.Counter(words) for words in terms]
    holders = collections.Counter(itertools.chain.from_iterable(counts))
    number = np.fromiter(holders.values(), dtype=np.float64)
    raw = np.log(len(corpus) - number + 0.5) - np.log(number + 0.5)
    idf = dict(zip(holders, np.where(raw < 0, EPSILON * raw.mean(), raw), strict=True))
    saturation = K1 * (1 - B + B * lengths / lengths.mean())
    for term, times in collections.Counter(query_text.split()).items():
        if term in idf:
            frequency = np.array([count[term] for count in counts], dtype=np.float64)
            result += times * idf[term] * frequency * (K1 + 1) / (frequency + saturation)
    return result


def rank(query_text: str, records: Sequence[Record], corpus: Sequence[str], *, query_id: str, seed: int) -> list[int]:
    """The records by BM25, highest first; among equals the one that stands later in the profile, the newer one.

    So a query that shares no word with the profile gets its newest records.
    """
    del records, query_id, seed
    # Rounded, or the last bit of a logarithm would decide between records that tie, machine by machine.
    relevance = np.round(scores(query_text, corpus), 9)
    newest_first = np.arange(len(corpus))[::-1]
    return newest_first[np.argsort(-relevance[newest_first], kind="stable")].tolist()
