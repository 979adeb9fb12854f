"""The prompts: text files with named slots, versioned by their contents; and how somebody's words are put into them.

What users wrote, and what an LLM wrote of them, is data. In a prompt it stands between tags, on a line of its own and
without `<`: it can close no tag, open none, begin no turn and continue no list, whatever it says.
"""

import functools
import hashlib
import importlib.resources
from collections.abc import Iterable, Mapping

from hydrajax.data import tasks


@functools.cache
def names() -> tuple[str, ...]:
    """The prompts that there are."""
    folder = importlib.resources.files("hydrajax.prompting") / "prompts"
    return tuple(sorted(file.name for file in folder.iterdir() if file.name.endswith(".txt")))


@functools.cache
def load(name: str) -> str:
    """The prompt of a file of the folder `prompts`, for example `summary.txt`."""
    return (importlib.resources.files("hydrajax.prompting") / "prompts" / name).read_text(encoding="utf-8").strip()


def version(*names: str) -> str:
    """Twelve hexadecimal digits that change whenever one of the prompts does."""
    return hashlib.sha256("\n\n".join(load(name) for name in names).encode()).hexdigest()[:12]


def fill(name: str, slots: Mapping[str, str]) -> str:
    """The prompt of a file with its slots filled; slots inside the texts stay as they are."""
    return tasks.fill(load(name), slots)


def inert(text: str) -> str:
    """The text as data: one line, and `&lt;` for `<`."""
    return " ".join(text.split()).replace("<", "&lt;")


def tagged(tag: str, texts: Iterable[str]) -> str:
    """Each text as data between tags, one a line: `<tag>text</tag>`."""
    return "\n".join(f"<{tag}>{inert(text)}</{tag}>" for text in texts)
