"""The nouns: what a user, a record, a query, a candidate and a piece of feedback are.

Axis letters, used in every shape annotation of the package:

    U users in a batch      C rows of a head bank (its capacity)   E examples of one user in a batch
    N examples, rows        D features of the base                 X extra features (source, votes)
    T tokens                B texts or pairs in a batch            K mixture components
    H attention heads       h width of an attention head           I inputs of a head family, D + X
    S texts in one row      G tokens of global attention           F facets
"""

import dataclasses
import numbers
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

Role = Literal["user", "assistant"]


class DataError(ValueError):
    """Input that cannot be used. Its message is one clear sentence per fault, with file and id."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One past item of a user: an input (article, review, ...) and what the user made of it.

    Attributes:
      id: unique within the profile.
      fields: the record's texts by field name, for example `{"description": ..., "tag": ...}`.
      date: ISO date (or any text that sorts by time), None where the data has none.
    """

    id: str
    fields: Mapping[str, str]
    date: str | None = None

    def __post_init__(self):
        object.__setattr__(self, "fields", types.MappingProxyType(dict(self.fields)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class User:
    """One person.

    Attributes:
      id: unique within the data.
      profile: oldest record first where dates exist.
      attributes: what the data say of the person, short texts by name, for example `{"age": "34"}`; empty where they
        say nothing.
    """

    id: str
    profile: tuple[Record, ...] = ()
    attributes: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "attributes", types.MappingProxyType(dict(self.attributes)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Query:
    """What is asked now.

    Attributes:
      id: unique within the split.
      user_id: who asks.
      inputs: the bare input by template slot, without the template's words, for example `{"text": ...}`.
      gold: what the user made of it; None where it is unknown.
      record_id: for a pseudo-query, the record of the user's own profile that it was made of. That record must not
        help to answer it: `profile_for` leaves it out.
      drawn_as: what seeded draws know the query by where that is not its id: a query that is put as somebody else's
        has draws of its own.
    """

    id: str
    user_id: str
    inputs: Mapping[str, str]
    gold: str | None = None
    record_id: str | None = None
    drawn_as: str | None = None

    def __post_init__(self):
        object.__setattr__(self, "inputs", types.MappingProxyType(dict(self.inputs)))

    @property
    def draw_name(self) -> str:
        """With the seed, what draws for this query depend on."""
        return self.drawn_as or self.id


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """One possible answer.

    Attributes:
      text: the answer as the LLM (or another source) gave it.
      source: who proposed it, for example `zero_shot` or `reranked`.
      votes: how many samples gave this same text.
      stop_reason: why the LLM stopped (`end_turn`, `max_tokens`, `refusal`, ...), `proposal` without an LLM.
      greedy: whether it is the LLM's most likely answer, or stands in for it, and not one of its samples.
    """

    text: str
    source: str
    votes: int = 1
    stop_reason: str = "end_turn"
    greedy: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Feedback:
    """What a user said of candidates for a query: exactly one of a gold, scores, or a preferred candidate.

    Attributes:
      query: what was asked.
      gold: the answer that the user gave. Profiles yield this kind.
      scores: one score per answer text, higher is better. Ratings yield this kind.
      preferred: (better, worse) answer texts. Comparisons yield this kind.

    Raises:
      DataError: none or more than one of the three is given.
    """

    query: Query
    gold: str | None = None
    scores: Mapping[str, float] | None = None
    preferred: tuple[str, str] | None = None

    def __post_init__(self):
        given = [name for name in ("gold", "scores", "preferred") if getattr(self, name) is not None]
        if len(given) != 1:
            raise DataError(
                f"feedback for query {self.query.id!r} has {given or 'nothing'}, expected exactly one of gold, "
                "scores, preferred"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """Users and the queries asked of them.

    Attributes:
      name: `train`, `dev`, ...
      users: every user by id, also those without a query.
      queries: in the order of the file.
    """

    name: str
    users: Mapping[str, User]
    queries: tuple[Query, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Message:
    """One turn of a conversation with the LLM."""

    role: Role
    text: str


def profile_for(query: Query, user: User) -> tuple[Record, ...]:
    """The records that may help to answer `query`: the whole profile without the record the query was made of."""
    return tuple(record for record in user.profile if record.id != query.record_id)


def check_types(checked: Any) -> None:
    """Refuses values that are not of the types of a dataclass's fields, defaults aside; lists become tuples.

    Raises:
      DataError: naming the first field at fault.
    """
    hints = typing.get_type_hints(type(checked))
    for field in dataclasses.fields(checked):
        value, hint = getattr(checked, field.name), hints[field.name]
        if isinstance(value, list) and typing.get_origin(hint) is tuple:
            value = tuple(value)
            object.__setattr__(checked, field.name, value)
        if value is not field.default and not is_of(value, hint):
            raise DataError(f"{field.name} is {value!r:.80}, expected {in_words(hint)}")


def check_values(form: type, values: Mapping[str, Any], place: str = "") -> None:
    """Refuses values as JSON has them that are not of the types of a dataclass's fields, by their names.

    Fields without a value, values without a field, and defaults are let be.

    Args:
      form: the dataclass.
      values: by field; of a field that is a dataclass itself, values by its fields.
      place: of the values in a larger one, for messages, with a dot at its end.

    Raises:
      DataError: naming the first field at fault.
    """
    hints = typing.get_type_hints(form)
    for field in dataclasses.fields(form):
        value, hint = values.get(field.name, field.default), hints[field.name]
        if value is field.default or (value is None and field.default is None):
            continue
        if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
            check_values(typing.cast(type, hint), value, f"{place}{field.name}.")
        elif not is_of(tuple(value) if isinstance(value, list) else value, hint):
            raise DataError(f"{place}{field.name} is {value!r:.80}, expected {in_words(hint)}")


def is_of(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type; of what a type says besides, nothing is looked at."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(is_of(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if origin is tuple:
        if isinstance(value, tuple) and parts[-1:] == (...,):
            return all(is_of(part, parts[0]) for part in value)
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(is_of, value, parts))
    if hint in (int, float):
        kind = numbers.Integral if hint is int else numbers.Real
        return isinstance(value, kind) and not isinstance(value, bool)
    return not isinstance(hint, type) or isinstance(value, hint)


def in_words(hint: Any) -> str:
    """An annotated type as a sentence has it: `a number or nothing`."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(in_words, parts))
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin is tuple:
        return f"a tuple of {', '.join('...' if part is ... else in_words(part) for part in parts)}"
    words = {str: "a text", int: "a whole number", float: "a number", bool: "True or False", type(None): "None"}
    return words.get(hint, f"a {getattr(hint, '__name__', hint)}")


def check_once(checked: object, *names: str) -> None:
    """Refuses attributes that list anything twice; what it does not have, and None, lists nothing.

    Raises:
      DataError: one does.
    """
    for name in names:
        values = getattr(checked, name, None) or ()
        if len(set(values)) < len(values):
            raise DataError(f"{name} is {', '.join(map(str, values))}, expected each of them once")


def check_least(checked: object, **lowest: int) -> None:
    """Refuses attributes below their lowest values; None, and what it does not have, is below nothing.

    Raises:
      DataError: one is too low.
    """
    for name, least in lowest.items():
        value = getattr(checked, name, None)
        if value is not None and value < least:
            raise DataError(f"{name} is {value}, expected at least {least}")
