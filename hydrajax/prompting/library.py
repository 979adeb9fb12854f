"""User models on disk: what strategies have learned of users, to be read, edited and deleted by hand.

A file of JSON lines, one user model a line, written whole or not at all. Whole profiles and halves of them are kept
apart (`part`): what is asked of a pseudo-query must come from the half that does not hold its record.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from hydrajax import files
from hydrajax.data.halves import WHOLE
from hydrajax.prompting.contract import UserModel
from hydrajax.types import DataError

FILE = "user_models.jsonl"  # in a run's folder


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
    """

    model: UserModel | None
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class Library:
    """User models by key.

    Args:
      path: the file; None keeps them in memory alone.

    Raises:
      DataError: the file is no such file.
    """

    def __init__(self, path: pathlib.Path | None = None):
        self._path = path
        self._entries: dict[Key, Entry] = {}
        if path is not None and path.exists():
            for number, line in files.numbered_lines(path):
                key, entry = _read(line, f"{path}, line {number}")
                self._entries[key] = entry

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def __getitem__(self, key: Key) -> Entry:
        return self._entries[key]

    def items(self) -> list[tuple[Key, UserModel]]:
        """What there is, by strategy, user and part."""
        found = ((key, self._entries[key].model) for key in sorted(self._entries))
        return [(key, model) for key, model in found if model is not None]

    def add(self, entries: Mapping[Key, Entry]) -> None:
        """Keeps them, on the disk before anything uses them."""
        together = {**self._entries, **entries}
        if self._path is not None and any(_worth_keeping(entry) for entry in entries.values()):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lines = [_line(key, together[key]) for key in sorted(together) if _worth_keeping(together[key])]
            files.write_lines(self._path, lines)
        self._entries = together

    def edit(self, key: Key, text: str) -> UserModel:
        """Another text for a user model; from then on it is used instead.

        Raises:
          DataError: there is no such user model, or the text is empty.
        """
        if not text.strip():
            raise DataError(f"the new text for {_name(key)} is empty; to have none, delete the user model")
        if key not in self._entries:
            raise DataError(f"there is no user model of {_name(key)}")
        old = self._entries[key]
        model = old.model or UserModel(text="", records=())
        new = dataclasses.replace(model, text=text.strip(), edited=True)
        self.add({key: dataclasses.replace(old, model=new)})
        return new

    def delete(self, user_id: str, strategy: str | None = None) -> int:
        """Removes a user's models, halves included, of one strategy or of all.

        The user is answered without one from then on: nothing is learned anew where something was deleted.

        Returns:
          how many texts there were.

        Raises:
          DataError: there is none.
        """
        keys = [key for key, _ in self.items() if key.user_id == user_id and strategy in (None, key.strategy)]
        if not keys:
            of = f" of strategy {strategy!r}" if strategy else ""
            raise DataError(f"there is no user model of user {user_id!r}{of}")
        self.add({key: dataclasses.replace(self._entries[key], model=None) for key in keys})
        return len(keys)


def _worth_keeping(entry: Entry) -> bool:
    """Most strategies learn nothing of anybody."""
    return entry.model is not None or entry.calls > 0


def _name(key: Key) -> str:
    part = "" if key.part == WHOLE else f", {key.part} half"
    return f"user {key.user_id!r} for strategy {key.strategy!r}{part}"


def _line(key: Key, entry: Entry) -> dict[str, object]:
    return key._asdict() | dataclasses.asdict(entry)


def _read(line: Mapping[str, Any], where: str) -> tuple[Key, Entry]:
    try:
        values = dict(line)
        key = Key(*(str(values.pop(name)) for name in Key._fields))
        model = values.pop("model")
        if model is not None:
            lists = {name: tuple(model.get(name, ())) for name in ("records", "shown")}
            model = UserModel(**{**model, **lists})
        return key, Entry(model=model, **values)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{where}: is no user model ({error})") from error
