"""The shuffled profile: everybody's question is put with somebody else's records.

A strategy that does no better with the user's own records may show the LLM how an answer looks; of the user it says
nothing.
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from hydrajax.methods import controls
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
      queries: what is asked.
      lender: user id -> whose records are shown instead.
    """
    return tuple(
        dataclasses.replace(query, id=f"{query.id} as {lender[query.user_id]}", user_id=lender[query.user_id])
        for query in queries
    )


def apart(strategy: str, lab: Lab, queries: Sequence[Query]) -> list[tuple[Lab, list[Query]]]:
    """Queries with the labs in which they are asked as somebody else's.

    A strategy that compares users finds the asker's own records among others' where the population holds the asker:
    each asker's queries are then asked in a lab whose population does not, and which keeps what it learns to itself.

    Args:
      strategy: whose prompts.
      lab: with everybody.
      queries: of the askers themselves, as they are before they are lent.
    """
    population = lab.ctx.population
    if population is None or not registry.get(strategy).compares:
        return [(lab, list(queries))]
    found = []
    for asker in dict.fromkeys(query.user_id for query in queries):
        others = {user_id: user for user_id, user in population.items() if user_id != asker}
        ctx = dataclasses.replace(lab.ctx, population=others)
        here = dataclasses.replace(lab, ctx=ctx, library=library.Library())
        found.append((here, [query for query in queries if query.user_id == asker]))
    return found


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
    found: dict[str, dict[str, str]] = {name(strategy): {} for strategy in personal(shown)}
    for strategy in personal(shown):
        for here, own in apart(strategy, lab, queries):
            asked = lent(own, lender)
            records = here.shown(strategy, asked, shown[strategy])
            said = here.answers(strategy, records, asked, stage=name(strategy))
            found[name(strategy)] |= {query.id: said[other.id].text for query, other in zip(own, asked, strict=True)}
    return found
