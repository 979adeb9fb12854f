"""The shuffled profile: everybody's question is put with somebody else's records.

A strategy that does no better with the user's own records may show the LLM how an answer looks; of the user it says
nothing.
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from hydrajax.methods import controls, sampling
from hydrajax.methods.answers import Answer
from hydrajax.methods.lab import Lab
from hydrajax.prompting import library, registry
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
      lender: user id -> whose records are shown instead.
    """
    return tuple(
        dataclasses.replace(query, user_id=lender[query.user_id], drawn_as=f"{query.id} as {lender[query.user_id]}")
        for query in queries
    )


def apart(strategy: str, lab: Lab, queries: Sequence[Query]) -> list[tuple[Lab, list[Query]]]:
    """Queries with the labs in which they are asked as somebody else's.

    A strategy that compares users finds the asker's own records among others' where the population holds the asker:
    each asker's queries are then asked in a lab whose population does not, and which keeps what it learns to itself.

    Args:
      queries: of the askers themselves, as they are before they are lent.
    """
    population = lab.ctx.population
    if population is None or not lab.strategy(strategy).compares:
        return [(lab, list(queries))]
    parts = []
    for asker in dict.fromkeys(query.user_id for query in queries):
        others = {user_id: user for user_id, user in population.items() if user_id != asker}
        ctx = dataclasses.replace(lab.ctx, population=others)
        without = dataclasses.replace(lab, ctx=ctx, library=library.Library())
        parts.append((without, [query for query in queries if query.user_id == asker]))
    return parts


def answers(lab: Lab, ks: Mapping[str, int], queries: Sequence[Query]) -> dict[str, list[Answer]]:
    """The greedy answers of strategies with somebody else's records, by control, in the order of the queries.

    Users are dealt among those who ask; of what was learned of them for themselves nothing is learned anew.

    Args:
      ks: strategy -> records in its prompt; strategies that are not personal are left out.
      queries: what is asked, by two users or more; of fewer there is no control.
    """
    users = sorted({query.user_id for query in queries})
    if len(users) < 2:
        return {}
    # A control costs no user anything, and its faults are not the run's.
    ctx = dataclasses.replace(lab.ctx, cut=collections.Counter(), faults=collections.Counter())
    lab = dataclasses.replace(lab, ctx=ctx, ledger={})
    (lender,) = controls.derangements(users, seed=lab.seed, n=1)
    by_control = {}
    for strategy in personal(ks):
        by_query = {}
        for without, asked in apart(strategy, lab, queries):
            prompts = sampling.prompts(without, strategy, lent(asked, lender), ks[strategy])
            for answer in sampling.answer(without, strategy, prompts, stage=name(strategy)):
                by_query[answer.query.id] = answer
        by_control[name(strategy)] = [by_query[query.id] for query in queries]
    return by_control
