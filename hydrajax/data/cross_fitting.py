"""Halves of a profile: what is made for a pseudo-query is made of the half that does not hold its record.

Two user models a user are then enough for all pseudo-queries, where leaving one record out would need one each.
"""

import dataclasses

from hydrajax.data import draws
from hydrajax.types import Query, User

WHOLE, FIRST, SECOND = "whole", "first", "second"


def half(user: User, part: str) -> User:
    """The user with one part of the profile: `whole`, `first` or `second`; the halves differ by at most one record.

    Which record is in which half depends on the ids of the profile's records alone.
    """
    if part == WHOLE:
        return user
    inside = _first_ids(user)
    return dataclasses.replace(
        user, profile=tuple(record for record in user.profile if (record.id in inside) == (part == FIRST))
    )


def part_for(query: Query, user: User) -> str:
    """The part that may help to answer a query: the whole, or the half without a pseudo-query's record."""
    if query.record_id is None:
        return WHOLE
    return SECOND if query.record_id in _first_ids(user) else FIRST


def _first_ids(user: User) -> set[str]:
    order = draws.shuffled(user.profile, seed=draws.number("halves", user.id), name=lambda record: record.id)
    return {record.id for record in order[::2]}
