"""What strategies know of users: learned once of each, kept in the lab's library, booked in its ledger."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from hydrajax.data import cross_fitting
from hydrajax.methods import ledger, llm_stages
from hydrajax.methods.lab import Lab
from hydrajax.prompting import contract, library
from hydrajax.types import Query


def known(lab: Lab, strategy: str, queries: Sequence[Query]) -> dict[str, contract.UserModel]:
    """What a strategy knows of the user of each query, by query id, without those of whom it knows nothing.

    It is learned where the library has nothing that was made of the same records in the same way. A real query gets
    what was made of the whole profile, a pseudo-query what was made of the half of it that does not hold the query's
    record: learned from the whole, the answer might have been seen.
    """
    keys = {
        query.id: library.Key(strategy, query.user_id, cross_fitting.part_for(query, lab.users[query.user_id]))
        for query in queries
    }
    _learn(lab, [key for key in dict.fromkeys(keys.values()) if not lab.library.fits(key, _fingerprint(lab, key))])
    _book(lab, set(keys.values()))
    models = {query_id: lab.library[key].model for query_id, key in keys.items()}
    return {query_id: model for query_id, model in models.items() if model is not None and model.text}


def _learn(lab: Lab, keys: Sequence[library.Key]) -> None:
    """Learns user models of one strategy into the library, all users of a part together."""
    for part in dict.fromkeys(key.part for key in keys):
        of_part = {key: cross_fitting.half(lab.users[key.user_id], part) for key in keys if key.part == part}
        noting = ledger.Noting(lab.ctx.llm)
        entries: dict[library.Key, library.Entry] = {}
        # Kept with what is learned: an invocation that finds it learned counts the same.
        counted: dict[str, Any] = {"cut": collections.Counter(), "faults": collections.Counter()}
        (strategy,) = {key.strategy for key in of_part}
        learned = lab.strategy(strategy).learn(
            [user for user in of_part.values() if user.profile],
            dataclasses.replace(lab.ctx, llm=noting, whole=lab.users, **counted),
        )
        for key, user in of_part.items():
            spent: Mapping[str, Any] = noting.spent[user.id]
            own: dict[str, Any] = {} if entries else {name: dict(counts) for name, counts in counted.items()}
            entries[key] = library.Entry(model=learned.get(user.id), fingerprint=_fingerprint(lab, key), **spent, **own)
        lab.library.add(entries)


def _book(lab: Lab, keys: set[library.Key]) -> None:
    """Books what these user models have cost, what was cut for them, and their faults, once each."""
    for key in keys - lab.booked:
        entry = lab.library[key]
        lab.ctx.cut.update(entry.cut)
        lab.ctx.faults.update(entry.faults)
        if entry.calls:
            spent = ledger.Spent(calls=entry.calls, input_tokens=entry.input_tokens, output_tokens=entry.output_tokens)
            ledger.add(lab.ledger, llm_stages.learned(key.strategy, key.part), {key.user_id: spent})
        if entry.model is not None and entry.model.fault:
            lab.ctx.faults[f"{key.strategy}: {entry.model.fault}"] += 1
        lab.booked.add(key)


def _fingerprint(lab: Lab, key: library.Key) -> str:
    """Of what a user model is made of; empty for strategies that make none."""
    if key not in lab.fingerprints:
        strategy = lab.strategy(key.strategy)
        user = lab.users[key.user_id]
        # What others say of the user's other half is kept from it (`Context.whole`), so that half matters too.
        others = lab.population_digest + library.digest([user]) if strategy.learns and strategy.compares else ""
        half = cross_fitting.half(user, key.part)
        lab.fingerprints[key] = library.fingerprint(half, lab.ctx, others) if strategy.learns else ""
    return lab.fingerprints[key]
