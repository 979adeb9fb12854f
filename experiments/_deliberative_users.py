"""Who asks in `deliberative`: authors of texts from files, or simulated users."""

import gzip
import pathlib
import zlib
from collections.abc import Sequence

from hydrajax.data import draws, faults, rows, simulated, tasks
from hydrajax.types import DataError, Record, User

TEXTS = tasks.Task(
    name="texts",
    kind="generation",
    template="{text}",
    inputs={},
    answer="text",
    corpus=("text",),
    record_line='"{text}" ',
    demonstration="Write a text.",
    pseudo_query="paraphrase",
)


def authors(paths: Sequence[pathlib.Path], *, users: int, records: int, seed: int) -> dict[str, User]:
    """Authors drawn from files of JSON lines {author, file, text}, plain or .gz, with texts drawn of each.

    Raises:
      DataError: one sentence a fault, with file and line.
    """
    found: dict[str, dict[str, Record]] = {}
    wrong = faults.Faults()
    for path in paths:
        for number, line in enumerate(_text(path).split("\n"), start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                row = rows.parse_json(line, where)
            except DataError as error:
                wrong.add(str(error))
                continue
            names = ("author", "file", "text")
            given = [rows.text_of(row.get(name)) for name in names] if isinstance(row, dict) else [None]
            author, file, text = given if all(given) else (None, None, None)
            if author is None or file is None or text is None:
                wrong.add(f"{where}: has no {', '.join(names)}, expected a text or number each")
            elif file in found.setdefault(author, {}):
                wrong.add(f"{where}: file {file!r} of author {author!r} occurs twice")
            else:
                found[author][file] = Record(id=file, fields={"text": text})
    wrong.settle()
    if len(found) < users:
        raise DataError(f"the files hold {len(found)} authors, expected {users} at least (--users)")
    chosen = draws.shuffled(found, seed=seed, name=str)[:users]
    return {name: User(id=name, profile=_drawn(name, found[name], records, seed)) for name in chosen}


def simulate(*, users: int, records: int, seed: int) -> dict[str, User]:
    """Users of the demo, who chose among texts on everyday topics."""
    return dict(simulated.simulate(train_users=0, dev_users=users, records=records, seed=seed).dev.users)


def _drawn(author: str, texts: dict[str, Record], records: int, seed: int) -> tuple[Record, ...]:
    order = draws.shuffled(texts.values(), seed=draws.number(seed, author), name=lambda record: record.id)
    return tuple(order[:records])


def _text(path: pathlib.Path) -> str:
    if path.suffix != ".gz":
        return rows.load_text(path)
    try:
        return gzip.decompress(path.read_bytes()).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
