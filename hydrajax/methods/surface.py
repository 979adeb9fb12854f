"""Surface features of a candidate: what a reader sees at a glance and a sentence encoder mostly forgets.

HYDRA's adapter reads base features alone. Length, punctuation and repetition are much of what users differ in (see
stylometry), cost nothing, and say at once that a small LLM has lost the thread.
"""

import math
import re


def features(query: str, candidate: str) -> tuple[float, ...]:
    """Numbers, each of the order of one.

    Args:
      query: bare text of the query.
      candidate: the answer.

    Returns:
      log(1 + words); log((1 + words) / (1 + the query's words)); mean letters a word / 5; shares of words that begin
      with a capital and that hold a digit; log(1 + exclamation marks); log(1 + question marks); share of words that
      occurred before; share of different words that the query holds as well.
    """
    words, asked = _words(candidate), _words(query)
    lower = [word.lower() for word in words]
    n = max(1, len(words))
    different = set(lower)
    return (
        math.log1p(len(words)),
        math.log((1 + len(words)) / (1 + len(asked))),
        sum(map(len, words)) / n / 5,
        sum(word[0].isupper() for word in words) / n,
        sum(any(letter.isdigit() for letter in word) for word in words) / n,
        math.log1p(candidate.count("!")),
        math.log1p(candidate.count("?")),
        1 - len(different) / n if words else 0.0,
        len(different & {word.lower() for word in asked}) / max(1, len(different)),
    )


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)
