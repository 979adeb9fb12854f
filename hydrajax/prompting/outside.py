"""A strategy of one's own: what it raises, and what it gives that is none of the contract, is one sentence."""

import inspect
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hydrajax import plugins, retrieval
from hydrajax.data import tasks
from hydrajax.llm import request
from hydrajax.prompting import contract, templates
from hydrajax.types import DataError, Message, Query, Record, User

# What a strategy says of itself, and what that is.
_ATTRIBUTES: Mapping[str, tuple[Any, str]] = {
    "name": (str, "a text"),
    "retriever": ((str, type(None)), "the name of a retriever, or None"),
    "alone": (bool, "True or False"),
    "compares": (bool, "True or False"),
    "personal": (bool, "True or False"),
    "template": (str, "a text"),
}
# With what its methods are called.
_ARGUMENTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "lacking": (("task", "population", "settings"), ()),
    "learn": (("users", "ctx"), ()),
    "choose": (("asked", "k", "ctx"), ()),
    "prepare": (("asked", "ctx"), ()),
    "messages": (("query", "records", "user_model", "ctx"), ("note",)),
    "slots": (("known",), ()),
}
_KNOWN = {name: kind for name, (kind, _) in _ATTRIBUTES.items()} | dict.fromkeys((*_ARGUMENTS, "learns"), Callable)


class Outside(contract.Strategy):
    """The strategy `inner`, each of whose results is looked at.

    Args:
      inner: somebody's strategy.
      name: by which it was asked for, for messages.

    Raises:
      DataError: what it says of itself is of another type, its retriever or its template is none, a method takes
        other arguments, or a name is misspelt: all of this at once.
    """

    def __init__(self, inner: contract.Strategy, name: str):
        self.inner = inner
        self._what = f"prompt strategy {name!r}"
        if faults := [*_faults(inner)]:
            raise DataError(f"{self._what}: {'; '.join(faults)}")
        for attribute in _ATTRIBUTES:
            setattr(self, attribute, getattr(inner, attribute))

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "inner":  # of a copy that is not made yet
            raise AttributeError(attribute)
        return getattr(self.inner, attribute)

    @property
    def learns(self) -> bool:
        return self.inner.learns

    def lacking(self, task: tasks.Task, population: Mapping[str, User], settings: contract.PromptSettings) -> str:
        found = self._called("lacking", task, population, settings)
        if not isinstance(found, str):
            raise DataError(f"{self._what}: lacking gives {found!r:.80}, expected a text")
        return found

    def learn(self, users: Sequence[User], ctx: contract.Context) -> Mapping[str, contract.UserModel]:
        return self._by_id("learn", contract.UserModel, [user.id for user in users], users, ctx)

    def choose(self, asked: Sequence[contract.Asked], k: int, ctx: contract.Context) -> Mapping[str, Sequence[Record]]:
        found = self._by_id("choose", (list, tuple), [one.query.id for one in asked], asked, k, ctx)
        for query_id, records in found.items():
            self._refuse(not all(isinstance(record, Record) for record in records), "choose", records, query_id)
        return found

    def prepare(self, asked: Sequence[contract.Asked], ctx: contract.Context) -> Mapping[str, str]:
        return self._by_id("prepare", str, [one.query.id for one in asked], asked, ctx)

    def messages(
        self,
        query: Query,
        records: Sequence[Record],
        user_model: contract.UserModel | None,
        ctx: contract.Context,
        *,
        note: str = "",
    ) -> tuple[Message, ...]:
        found = self._called("messages", query, records, user_model, ctx, note=note)
        turns = isinstance(found, (list, tuple)) and all(
            isinstance(turn, Message) and isinstance(turn.text, str) for turn in found
        )
        if not (turns and found and found[-1].role == "user"):
            raise DataError(
                f"{self._what}: messages gives {found!r:.80} for query {query.id!r}, expected a tuple of Messages that "
                "ends with the user's turn"
            )
        return tuple(found)

    def _by_id(self, method: str, kind: Any, ids: Sequence[str], *args: Any) -> Any:
        """What a method gives: a mapping of some of these ids to something of this kind."""
        found = self._called(method, *args)
        self._refuse(not isinstance(found, Mapping), method, found)
        unknown = {*found} - {*ids}
        for key, value in found.items():
            self._refuse(not isinstance(value, kind), method, value, key)
            if key in unknown:
                raise DataError(f"{self._what}: {method} gives something for {key!r:.80}, which it was not asked about")
        return found

    def _called(self, method: str, *args: Any, **options: Any) -> Any:
        with plugins.blamed(f"{self._what}: {method}", but=(request.LLMError, sqlite3.Error)):
            return getattr(self.inner, method)(*args, **options)

    def _refuse(self, wrong: bool, method: str, got: Any, key: Any = None) -> None:
        expected = {
            "learn": "user ids to UserModels",
            "choose": "query ids to lists of Records",
            "prepare": "query ids to texts",
        }[method]
        if wrong:
            of = "" if key is None else f" for {key!r}"
            raise DataError(f"{self._what}: {method} gives {got!r:.80}{of}, expected a dictionary of {expected}")


def _faults(inner: contract.Strategy) -> Iterator[str]:
    """All that is wrong with a strategy before it is called, each as what follows its name and a colon."""
    for attribute, (kind, expected) in _ATTRIBUTES.items():
        if not isinstance(value := getattr(inner, attribute), kind):
            yield f"{attribute} is {value!r:.80}, expected {expected}"
    if isinstance(inner.retriever, str):
        try:
            retrieval.retriever(inner.retriever)
        except DataError as error:
            yield str(error)
    if isinstance(inner.template, str) and inner.template not in ("", *templates.names()):
        yield f"unknown template {inner.template!r}, expected one of {', '.join(templates.names())}, or none"
    for method, (positional, named) in _ARGUMENTS.items():
        called = getattr(inner, method)
        if not callable(called):
            yield f"{method} is {called!r:.80}, expected a method"
            continue
        try:
            inspect.signature(called).bind(*positional, **dict.fromkeys(named))
        except TypeError as error:
            wanted = ", ".join((*positional, *(f"{argument}=..." for argument in named)))
            yield f"{method} is called as {method}({wanted}), but: {error}"
        except ValueError:  # of what has no signature
            continue
    for name, likely in plugins.misspelt(inner, _KNOWN).items():
        yield f"a strategy has no {name}, and nothing reads it: expected {likely}"
