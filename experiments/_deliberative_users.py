"""Who asks in `deliberative`: authors of texts from files, or simulated users."""

import pathlib
from collections.abc import Sequence

from hydrajax.data import draws, simulated, tasks, texts_by_author
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
    """Authors drawn from files or folders (`data.texts_by_author`), with texts drawn of each.

    Raises:
      DataError: faulty texts, or fewer authors than asked for.
    """
    found: dict[str, list[Record]] = {}
    for text in texts_by_author.read(paths):
        record = Record(id=f"{text.source}/{text.file}", fields={"text": text.text})
        found.setdefault(text.author, []).append(record)
    if len(found) < users:
        raise DataError(f"the files hold {len(found)} authors, expected {users} at least (--users)")
    chosen = draws.shuffled(found, seed=seed, name=str)[:users]
    return {name: User(id=name, profile=_drawn(name, found[name], records, seed)) for name in chosen}


def simulate(*, users: int, records: int, seed: int) -> dict[str, User]:
    """Users of the demo, who chose among texts on everyday topics."""
    return dict(simulated.simulate(train_users=0, dev_users=users, records=records, seed=seed).dev.users)


def _drawn(author: str, texts: Sequence[Record], records: int, seed: int) -> tuple[Record, ...]:
    order = draws.shuffled(texts, seed=draws.number(seed, author), name=lambda record: record.id)
    return tuple(order[:records])
