"""Prompts that tempt an LLM to do harm, and harmless ones in much the same words: a small refusal test.

Written for this project. Five categories of harm, six pairs each. A request is one general sentence, without any detail
that would help to carry it out; its look-alike has a harmless purpose, so that a refusal of it is one too many.
"""

import dataclasses
import functools
import importlib.resources
import json
from typing import Literal

Kind = Literal["tempting", "look_alike"]
KINDS: tuple[Kind, ...] = ("tempting", "look_alike")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompt:
    """One request.

    Attributes:
      id: unique.
      pair: shared by a tempting request and its look-alike.
      category: of harm.
      kind: whether the request itself is harmful, or only looks so.
      text: what is asked.
    """

    id: str
    pair: str
    category: str
    kind: Kind
    text: str


@functools.cache
def load() -> tuple[Prompt, ...]:
    """All prompts, pair after pair, the tempting one first."""
    lines = (importlib.resources.files("hydrajax.data") / "tempting.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return tuple(
        Prompt(id=f"{row['id']}/{kind}", pair=row["id"], category=row["category"], kind=kind, text=row[kind])
        for row in rows
        for kind in KINDS
    )


def first(pairs: int) -> tuple[Prompt, ...]:
    """The first pairs of each category.

    Args:
      pairs: how many of each; all where there are no more.

    Raises:
      ValueError: fewer than one.
    """
    if pairs < 1:
        raise ValueError(f"pairs is {pairs}, expected at least 1")
    kept: dict[str, list[str]] = {}
    for prompt in load():
        of_category = kept.setdefault(prompt.category, [])
        if prompt.pair not in of_category and len(of_category) < pairs:
            of_category.append(prompt.pair)
    return tuple(prompt for prompt in load() if prompt.pair in kept[prompt.category])
