"""The shuffled profile: everybody's question is put with somebody else's records.

A strategy that does no better with the user's own records may show the LLM how an answer looks; of the user it says
nothing.
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from hydrajax.methods import controls
from hydrajax.methods.lab import Lab
from hydrajax.prompting import registry
from hydrajax.types import Query

_ENDING = "_shuffled"


def name(strategy: str) -> str:
    """The control that is a strategy with somebody else's records."""
    return strategy + _ENDING


def personal(strategies: Iterable[str]) -> list[str]:
    """Those of the strategies whose prompts depend on the user at all."""
    return [strategy for strategy in strategies if registry.get(strategy).personal]


def lent(queries: Sequence[Query], lender: Mapping[str, str]) -> tuple[Query, ...]:
    """The queries as somebody else's: whose records and user model the prompt is then made of.

    Args:
      queries: what is asked.
      lender: user id -> whose records are shown instead.
    """
    return tuple(
        dataclasses.replace(query, id=f"{query.id} as {lender[query.user_id]}", user_id=lender[query.user_id])
        for query in queries
    )


def answers(lab: Lab, shown: Mapping[str, int], queries: Sequence[Query]) -> dict[str, dict[str, str]]:
    """The greedy answers of strategies with somebody else's records, by control and query id.

    Users are dealt among those who ask; of what was learned of them for themselves nothing is learned anew.

    Args:
      lab: task, LLM, users, seed.
      shown: strategy -> records in its prompt; strategies that are not personal are left out.
      queries: what is asked, by two users or more; of fewer there is no control.
    """
    users = sorted({query.user_id for query in queries})
    if len(users) < 2:
        return {}
    # A control costs no user anything, and its faults are not the run's.
    ctx = dataclasses.replace(lab.ctx, cut=collections.Counter(), faults=collections.Counter())
    lab = dataclasses.replace(lab, ctx=ctx, ledger={})
    (lender,) = controls.derangements(users, seed=lab.seed, n=1)
    asked = lent(queries, lender)
    found = {}
    for strategy in personal(shown):
        records = lab.shown(strategy, asked, shown[strategy])
        said = lab.answers(strategy, records, asked, stage=name(strategy))
        found[name(strategy)] = {own.id: said[other.id].text for own, other in zip(queries, asked, strict=True)}
    return found
