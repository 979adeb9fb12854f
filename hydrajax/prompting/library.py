"""User models on disk: what strategies have learned of users, to be read, edited and deleted by hand.

A file of JSON lines, one user model a line, written whole or not at all. Whole profiles and halves of them are kept
apart (`part`): what is asked of a pseudo-query must come from the half that does not hold its record.

What was made of other records, or by another LLM, prompt or setting, is learned anew. What a person has edited or
deleted stays as the person left it, also where that was done while a run was under way.
"""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import filelock

from hydrajax import files
from hydrajax.data.cross_fitting import WHOLE
from hydrajax.llm import request
from hydrajax.prompting import templates
from hydrajax.prompting.context import Context, UserModel
from hydrajax.types import DataError, User

FILE = "user_models.jsonl"  # in a run's folder
MOST_TOKENS = 3000  # of an edited text, which every prompt of the user then holds: about 2,000 words
_LOCK = "user_models.lock"  # beside it


class Key(NamedTuple):
    """Whose user model it is.

    Attributes:
      strategy: what it was made for.
      user_id: whom it describes.
      part: the records it was made of: `whole`, or a half, `first` or `second`.
    """

    strategy: str
    user_id: str
    part: str = WHOLE


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A user model and what it has cost.

    Attributes:
      model: None where nothing was learned of the user, or the model was deleted.
      calls, input_tokens, output_tokens: of the LLM, answers from the store included.
      fingerprint: of what it was made of (see `fingerprint`); empty in files that are older than fingerprints.
      deleted: where the model was deleted, all of it but the text.
      cut, faults: what was counted while it was learned (see `Context`); of users of whom it was learned at once, all
        of it stands with the first one.
    """

    model: UserModel | None
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    fingerprint: str = ""
    deleted: UserModel | None = None
    cut: Mapping[str, int] = dataclasses.field(default_factory=dict)
    faults: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def by_hand(self) -> bool:
        """Whether a person has edited or deleted the model."""
        return self.deleted is not None or (self.model is not None and self.model.edited)


def digest(users: Iterable[User]) -> str:
    """Twelve hexadecimal digits that change with users, with their records, and with the order of either."""
    hasher = hashlib.sha256()
    for user in users:
        records = [(record.id, dict(record.fields), record.date) for record in user.profile]
        hasher.update(json.dumps([user.id, records], sort_keys=True).encode())
    return hasher.hexdigest()[:12]


def fingerprint(user: User, ctx: Context, others: str = "") -> str:
    """Twelve hexadecimal digits that change with whatever a user model may depend on.

    That is more than most depend on: to learn anew what would be the same costs no call, its answers are in the store.

    Args:
      user: with the records that the model is made of.
      ctx: task, LLM, settings and seed.
      others: `digest` of whomever else the strategy looks at.
    """
    task, settings = dataclasses.asdict(ctx.task), dataclasses.asdict(ctx.settings)
    made_of = [digest([user]), others, task, settings, ctx.llm.model, ctx.seed, templates.version(*templates.names())]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:12]


class Library:
    """User models by key.

    Args:
      path: the file; None keeps them in memory alone.

    Raises:
      DataError: the file is no such file.
    """

    def __init__(self, path: pathlib.Path | None = None):
        self._path = path
        self._entries = self._on_disk()

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def __getitem__(self, key: Key) -> Entry:
        return self._entries[key]

    def fits(self, key: Key, made_of: str) -> bool:
        """Whether nothing has to be learned: what there is was made of the same, or is a person's.

        Args:
          key: whose model.
          made_of: the fingerprint of what it would be made of now.
        """
        entry = self._entries.get(key)
        return entry is not None and (entry.by_hand or entry.fingerprint in ("", made_of))

    def items(self) -> list[tuple[Key, UserModel]]:
        """What there is, by strategy, user and part."""
        models = ((key, self._entries[key].model) for key in sorted(self._entries))
        return [(key, model) for key, model in models if model is not None]

    def add(self, entries: Mapping[Key, Entry]) -> None:
        """Keeps what was learned, on the disk before anything uses it; what a person has left there stays."""
        before = [self._entries[key] for key in entries if key in self._entries]
        if not any(_worth_keeping(entry) for entry in (*entries.values(), *before)):
            self._entries = {**self._entries, **entries}
            return
        with self._changing() as there:
            there.update({key: entry for key, entry in entries.items() if key not in there or not there[key].by_hand})

    def edit(self, key: Key, text: str) -> UserModel:
        """Another text for a user model; from then on it is used instead.

        Raises:
          DataError: there is no such user model, or the text is empty or too long.
        """
        if not text.strip():
            raise DataError(f"the new text for {_name(key)} is empty; to have none, delete the user model")
        size = request.count_tokens(text)
        if size > MOST_TOKENS:
            raise DataError(
                f"the new text for {_name(key)} has about {size:,} tokens, expected at most {MOST_TOKENS:,} (about "
                "2,000 words)"
            )
        with self._changing() as there:
            if key not in there:
                raise DataError(f"there is no user model of {_name(key)}")
            old = there[key].model or there[key].deleted or UserModel(text="", records=())
            new = dataclasses.replace(old, text=text.strip(), edited=True)
            there[key] = dataclasses.replace(there[key], model=new, deleted=None)
        return new

    def delete(self, user_id: str, strategy: str | None = None) -> int:
        """Removes a user's models, halves included, of one strategy or of all.

        The user is answered without one from then on: nothing is learned anew where something was deleted. What stays
        is where the text came from (ids of records, the LLM), so that a text written in its place says so.

        Returns:
          how many texts there were.

        Raises:
          DataError: there is none.
        """
        with self._changing() as there:
            models = {
                key: entry.model
                for key, entry in there.items()
                if entry.model is not None and key.user_id == user_id and strategy in (None, key.strategy)
            }
            if not models:
                of = f" of strategy {strategy!r}" if strategy else ""
                raise DataError(f"there is no user model of user {user_id!r}{of}")
            for key, model in models.items():
                rest = dataclasses.replace(model, text="", edited=False)
                there[key] = dataclasses.replace(there[key], model=None, deleted=rest)
        return len(models)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[Key, Entry]]:
        """What there is now, to be changed and then written; after an error nothing has changed.

        Another process may have written since: the file is read again, and nobody else writes meanwhile.
        """
        with contextlib.ExitStack() as stack:
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(filelock.FileLock(self._path.with_name(_LOCK)))
            there = dict(self._entries) if self._path is None else self._on_disk()
            yield there
            if self._path is not None:
                lines = [
                    key._asdict() | dataclasses.asdict(there[key])
                    for key in sorted(there)
                    if _worth_keeping(there[key])
                ]
                files.write_lines(self._path, lines)
            self._entries = {**self._entries, **there}

    def _on_disk(self) -> dict[Key, Entry]:
        if self._path is None or not self._path.exists():
            return {}
        return dict(_read(line, f"{self._path}, line {n}") for n, line in files.numbered_lines(self._path))


def _worth_keeping(entry: Entry) -> bool:
    """Most strategies learn nothing of anybody."""
    return entry.model is not None or entry.by_hand or entry.calls > 0 or bool(entry.cut or entry.faults)


def _name(key: Key) -> str:
    part = "" if key.part == WHOLE else f", {key.part} half"
    return f"user {key.user_id!r} for strategy {key.strategy!r}{part}"


def _read(line: Mapping[str, Any], where: str) -> tuple[Key, Entry]:
    try:
        values = dict(line)
        key = Key(*(str(values.pop(name)) for name in Key._fields))
        kept = (values.pop("model"), values.pop("deleted", None))
        model, deleted = (None if of_line is None else read_model(of_line) for of_line in kept)
        return key, Entry(model=model, deleted=deleted, **values)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{where}: is no user model ({error})") from error


def read_model(values: Mapping[str, Any]) -> UserModel:
    """The user model of a line of the file."""
    lists = {name: tuple(values.get(name, ())) for name in ("records", "shown")}
    return UserModel(**{**values, **lists})
