"""Texts and who wrote them: JSON lines of {author, file, text}, plain or gzipped, or a folder of folders.

A line may say what is known of its author, for prompts: `"attributes": {"age": 34, "occupation": "nurse"}`, short texts
or numbers. Once an author is enough.
"""

import collections
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence

from hydrajax.data import parsing
from hydrajax.types import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text:
    """A text.

    Attributes:
      author: who wrote it.
      file: its name, unique within the source and author.
      text: not empty.
      source: name of the file or folder that it was read from.
      attributes: what is known of the author, by all texts together.
    """

    author: str
    file: str
    text: str
    source: str
    attributes: Mapping[str, str] = dataclasses.field(default_factory=dict)


def read(paths: Sequence[pathlib.Path]) -> tuple[Text, ...]:
    """The texts of all files and folders, in their order.

    Raises:
      DataError: no path was given, or one twice; a path cannot be read; an entry is no text of an author; a file name
        occurs twice in a source. One sentence for each of these.
    """
    if not paths:
        raise DataError("no texts were given, expected JSONL files of {author, file, text} or a folder of folders")
    twice = [path for path, times in collections.Counter(path.resolve() for path in paths).items() if times > 1]
    if twice:
        raise DataError(f"{twice[0]}: is given twice, expected every source once")
    short = len({path.name for path in paths}) == len(paths)
    errors = parsing.Errors()
    texts: list[Text] = []
    attributes: dict[str, dict[str, str]] = {}
    for path in paths:
        source = path.name if short else str(path)
        entries = _folder(path, source, errors) if path.is_dir() else _lines(path, source, errors)
        seen: set[tuple[str, str]] = set()
        try:
            for text, where in entries:
                if (text.author, text.file) in seen:
                    errors.add(f"{where}: file {text.file!r} of author {text.author!r} occurs more than once")
                seen.add((text.author, text.file))
                parsing.join_attributes(attributes.setdefault(text.author, {}), text.attributes, where, errors)
                texts.append(text)
        except DataError as error:
            raise errors.stop(str(error)) from error
        if not seen:
            errors.add(f"{path}: holds no text")
    errors.settle()
    return tuple(dataclasses.replace(text, attributes=attributes[text.author]) for text in texts)


def _lines(path: pathlib.Path, source: str, errors: parsing.Errors) -> Iterator[tuple[Text, str]]:
    for where, row in parsing.read_lines(path, errors):
        wrong = [n for n in ("author", "text") if not isinstance(row.get(n), str) or not row[n].strip()]
        if wrong:
            errors.add(f"{where}: {wrong[0]} is {row.get(wrong[0])!r}, expected a text that is not empty")
            continue
        file = str(row.get("file") or where.rpartition(", ")[2])
        given = parsing.read_attributes(row.get("attributes", {}), where, errors) or {}
        yield Text(author=row["author"], file=file, text=row["text"], source=source, attributes=given), where


def _folder(path: pathlib.Path, source: str, errors: parsing.Errors) -> Iterator[tuple[Text, str]]:
    for file in sorted(path.glob("*/*.txt")):
        try:
            text = parsing.load_text(file)
        except DataError as error:
            errors.add(str(error))
            continue
        if not text.strip():
            errors.add(f"{file}: is empty, expected a text")
            continue
        name = f"{file.parent.name}/{file.name}"
        yield Text(author=file.parent.name, file=name, text=text, source=source), str(file)
