"""`results.json` of an authorship run: win rates of strategies, and what the judge and the controls say of them.

    {experiment, task, split, users, queries, llm: {model, calls, ...}, judge_llm: the same of another LLM, or null,
     judge: {kind, llm, accuracy, accuracy_low, accuracy_high, floor, floor_low, floor_high, ceiling, ceiling_low,
             ceiling_high, alike..., words, unreadable, by_words: {WORDS: {value, low, high}}, cross_validation},
     win_rates: {STRATEGY: {AGAINST: {value, low, high}}}, personal: {STRATEGY: true, false or null},
     copied: {CONTESTANT: {"5": share, "8": share}}, words: {CONTESTANT: mean}, empty: {CONTESTANT: texts},
     user_models: {AUTHOR: {STRATEGY: text}}, near_duplicates, notes, faults, cut, seconds}

A row (a line of `predictions.jsonl`) is a query: {query, user, input, gold, shown: {texts that may be shown}, texts:
{CONTESTANT: [text, ...]}, wins: {STRATEGY: {AGAINST: share}}}. Texts are without the sentence that they were to start
with. Contestants are the strategies, each personal one with another author's texts (`methods.shuffled`), and two real
texts: the author's own, the ceiling, and another author's, the floor; both are reported against zero-shot.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hydrajax.data import authorship
from hydrajax.evaluation.authorship import judges
from hydrajax.methods import shuffled

THE_AUTHOR, ANOTHER_AUTHOR, ZERO_SHOT = "the_author", "another_author", "zero_shot"
REAL = (THE_AUTHOR, ANOTHER_AUTHOR)
COPIED = (5, 8)
WORDS = (25, 50, 100, 200)
Row = dict[str, Any]
Rate = Mapping[str, float | None]  # value, low, high


def pairs(strategies: Sequence[str], contestants: Sequence[str]) -> list[tuple[str, str]]:
    """Who meets whom: strategies each other, their shuffled selves and the real texts."""
    controls = [(strategy, shuffled.name(strategy)) for strategy in strategies]
    real = itertools.product(strategies, REAL)
    return [*itertools.combinations(strategies, 2), *(pair for pair in controls if pair[1] in contestants), *real]


def judge_rows(
    judge: judges.Judge, rows: Sequence[Row], strategies: Sequence[str], *, limit: int | None = None
) -> None:
    """Puts `wins` into the rows, all duels in one batch."""
    met = [(row, a, b) for row in rows for a, b in pairs(strategies, tuple(row["texts"]))]
    sides = [(row["user"], row["texts"][a], row["texts"][b]) for row, a, b in met]
    for (row, a, b), share in zip(met, judges.contest(judge, sides, limit=limit), strict=True):
        row.setdefault("wins", {}).setdefault(a, {})[b] = share
        if b in strategies:
            row["wins"].setdefault(b, {})[a] = 1 - share


def win_rates(rows: Sequence[Row], *, seed: int = 0) -> dict[str, dict[str, Rate]]:
    """Win rates of every strategy against everybody it met, averaged over authors."""
    return {
        strategy: {other: _rate(rows, strategy, other, seed) for other in against}
        for strategy, against in rows[0]["wins"].items()
    }


def judge_facts(
    judge: judges.Judge,
    rows: Sequence[Row],
    *,
    real: Sequence[tuple[str, str]],
    others: int | None = None,
    features: np.ndarray | None = None,
    by_words: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """What is known of the judge; without it no win rate means anything.

    Args:
      judge: as it judged the rows.
      rows: judged.
      real: (author, text) of held-out real texts.
      others: real texts of others that each of them meets, None for all.
      features: of the real texts, [N, D] of length 1: the nearest text of another author is then a harder question.
      by_words: also how the accuracy depends on the number of words that are compared.
    """

    def accuracy(pairs: Sequence[tuple[str, str, str]], limit: int) -> Rate:
        return vars(judges.real_accuracy(judge, pairs, limit=limit, seed=seed))

    words, rivals = typical_words(rows), judges.rivals(real, others)
    facts: dict[str, Any] = {"kind": judge.kind, "words": words, **_ends("accuracy", accuracy(rivals, words))}
    if features is not None:
        facts |= _ends("accuracy_alike", accuracy(judges.alike(real, features), words))
    for name, contestant in (("floor", ANOTHER_AUTHOR), ("ceiling", THE_AUTHOR)):
        facts |= _ends(name, _rate(rows, ZERO_SHOT, contestant, seed, lost=True))
    by = {str(n): accuracy(rivals, n) for n in WORDS} if by_words else {}
    return facts | {"by_words": by, "unreadable": judge.unreadable}


def typical_words(rows: Sequence[Row]) -> int:
    """The median number of words of what strategies wrote, one at least: the length at which real texts are judged."""
    written = [texts for row in rows for name, texts in row["texts"].items() if name not in REAL]
    return max(1, int(np.median([len(text.split()) for texts in written for text in texts])))


def personal(rates: Mapping[str, Mapping[str, Rate]]) -> dict[str, bool | None]:
    """Whether a strategy beats itself with another author's texts; None where there are too few authors to say."""
    lows = {
        strategy: against[shuffled.name(strategy)]["low"]
        for strategy, against in rates.items()
        if shuffled.name(strategy) in against
    }
    return {strategy: None if low is None else low > 0.5 for strategy, low in lows.items()}


def lengths_and_copies(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Mean words, numbers of empty texts, and shares of n-grams copied from the author's shown texts, by contestant."""
    facts: dict[str, dict[str, Any]] = {"copied": {}, "words": {}, "empty": {}}
    for name in rows[0]["texts"]:
        texts = [(text, row["shown"]) for row in rows for text in row["texts"][name]]
        facts["words"][name] = round(float(np.mean([len(text.split()) for text, _ in texts])), 1)
        facts["empty"][name] = sum(not text.strip() for text, _ in texts)
        facts["copied"][name] = {str(n): _mean_copied(texts, n) for n in COPIED}
    return facts


def _mean_copied(texts: Sequence[tuple[str, Sequence[str]]], n: int) -> float | None:
    shares = [authorship.copied(text, shown, n) for text, shown in texts]
    known = [share for share in shares if share is not None]
    return float(np.mean(known)) if known else None


def _rate(rows: Sequence[Row], a: str, b: str, seed: int, *, lost: bool = False) -> Rate:
    wins = [row["wins"][a][b] for row in rows]
    rate = judges.win_rate([row["user"] for row in rows], [1 - win for win in wins] if lost else wins, seed=seed)
    return vars(rate)


def _ends(name: str, rate: Rate) -> dict[str, float | None]:
    return {name: rate["value"], f"{name}_low": rate["low"], f"{name}_high": rate["high"]}
