"""Seeded draws that depend on nothing but the seed and the drawn thing's own name.

An item's place in a draw is the hash of seed and name: the same in every process, whoever else is there. So a smaller
draw is the beginning of a larger one, and one user's draw does not depend on other users.
"""

import hashlib
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def number(*names: object) -> int:
    """A 64-bit number made of the names alone."""
    text = "\x1f".join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def shuffled(items: Iterable[T], *, seed: int, name: Callable[[T], str]) -> list[T]:
    """The items in a random order; items are told apart by `name`."""
    return sorted(items, key=lambda item: (number(seed, name(item)), name(item)))
