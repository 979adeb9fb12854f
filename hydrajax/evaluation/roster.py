"""The methods and controls of a run: their order in every table, their groups, and what each one is."""

import importlib.resources
import tomllib
from collections.abc import Iterable, Mapping

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


def ordered(methods: Iterable[str]) -> list[str]:
    """Methods in the order of every table, those without a group last and by name."""
    return sorted(methods, key=lambda method: (_RANK.get(method, len(_RANK)), method))


def groups(methods: Iterable[str]) -> list[tuple[str, list[str]]]:
    """The methods of a table by group, those without a group as `Others`; empty groups are left out."""
    methods = ordered(methods)
    split = [(name, [m for m in methods if m in members]) for name, members in GROUPS.items()]
    split.append(("Others", [m for m in methods if m not in EXPLAINED]))
    return [(name, members) for name, members in split if members]
