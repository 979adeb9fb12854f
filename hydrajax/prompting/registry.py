"""Prompt strategies by name. A strategy is one file of this folder that defines `STRATEGY`."""

import importlib
import pkgutil

import hydrajax.prompting
from hydrajax.prompting.contract import Strategy
from hydrajax.types import DataError

_PARTS = {"contract", "library", "registry", "shorten", "texts", "turns"}


def names() -> tuple[str, ...]:
    """The strategies that exist."""
    return tuple(
        m.name
        for m in pkgutil.iter_modules(hydrajax.prompting.__path__)
        if m.name not in _PARTS and not m.name.startswith("_")
    )


def get(name: str) -> Strategy:
    """The strategy of a name.

    Raises:
      DataError: there is none.
    """
    if name not in names():
        raise DataError(f"unknown prompt strategy {name!r}; valid are {', '.join(names())}")
    return importlib.import_module(f"hydrajax.prompting.{name}").STRATEGY
