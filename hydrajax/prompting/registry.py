"""Prompt strategies by name. A strategy is one file of this folder that defines `STRATEGY`."""

import importlib
import pkgutil
from collections.abc import Sequence

import hydrajax.prompting
from hydrajax.prompting.contract import Strategy
from hydrajax.types import DataError

_PARTS = {"contract", "library", "registry", "shorten", "templates", "turns"}


def names() -> tuple[str, ...]:
    """The strategies that exist."""
    return tuple(
        m.name
        for m in pkgutil.iter_modules(hydrajax.prompting.__path__)
        if m.name not in _PARTS and not m.name.startswith("_")
    )


def permitted(chosen: Sequence[str], *, cross_user: bool) -> tuple[str, ...]:
    """The strategies of these names; those that look at other users' records are left out where that is switched off.

    Raises:
      DataError: one of them does not exist.
    """
    return tuple(name for name in chosen if not get(name).compares or cross_user)


def get(name: str) -> Strategy:
    """The strategy of a name.

    Raises:
      DataError: there is none.
    """
    if name not in names():
        raise DataError(f"unknown prompt strategy {name!r}; valid are {', '.join(names())}")
    return importlib.import_module(f"hydrajax.prompting.{name}").STRATEGY
