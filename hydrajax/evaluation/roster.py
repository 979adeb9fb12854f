"""The methods and controls of a run: their order in every table, their groups, and what each one is."""

import importlib.resources
import itertools
import tomllib
from collections.abc import Collection, Iterable, Mapping

from hydrajax.methods import shuffled

REFERENCE = "hydra"
# Oracles look at the golds: each is the ceiling of a pool, and no method loses to it.
CEILINGS = ("oracle", "zero_shot_oracle", "union_oracle")

_TABLE = tomllib.loads((importlib.resources.files("hydrajax.evaluation") / "methods.toml").read_text(encoding="utf-8"))
PROMPTS = tuple(_TABLE["Prompt baselines"])
_SHUFFLED = {shuffled.name(strategy): f"{strategy} with another user's records" for strategy in PROMPTS}
# By group, what each method is; groups and methods in the order of every table.
GROUPS: Mapping[str, Mapping[str, str]] = {
    "Prompt baselines": _TABLE.pop("Prompt baselines"),
    "Prompts with another user's records": _SHUFFLED,
    **_TABLE,
}
EXPLAINED = {method: words for members in GROUPS.values() for method, words in members.items()}
_RANK = {method: i for i, method in enumerate(EXPLAINED)}


def ordered(methods: Iterable[str], among: Iterable[str] = ()) -> list[str]:
    """Methods in the order of every table, those without a group last and by name.

    Args:
      methods: to be ordered.
      among: all that were run, where these are not all: a strategy of one's own is known by its control.
    """
    methods = list(methods)
    known = {*methods, *among}
    return sorted(methods, key=lambda method: (_group(method, known)[0], _RANK.get(method, len(_RANK)), method))


def groups(methods: Iterable[str], among: Iterable[str] = ()) -> list[tuple[str, list[str]]]:
    """The methods of a table by group, those without a group as `Others`; empty groups are left out."""
    methods = list(methods)
    known = {*methods, *among}
    by_group = itertools.groupby(ordered(methods, among), key=lambda method: _group(method, known))
    return [(name, list(members)) for (_, name), members in by_group]


def _group(method: str, known: Collection[str]) -> tuple[int, str]:
    """Number and name of a method's group."""
    own = {name: control for name in known if name not in EXPLAINED and (control := shuffled.name(name)) in known}
    of_own = {0: [*own], 1: [*own.values()]}  # strategies of one's own, and they with another user's records
    for number, (group, members) in enumerate(GROUPS.items()):
        if method in members or method in of_own.get(number, ()):
            return number, group
    return len(GROUPS), "Others"
