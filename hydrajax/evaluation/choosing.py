"""On how little or how much a run's choices rest: what validation users chose, in words."""

from collections.abc import Mapping
from typing import Any

FEW = 10  # questions of validation users; on fewer, luck chooses


def rests_on(questions: int, users: int) -> str:
    """`1 question of 1 user`."""
    of = f"{questions:,} question{'' if questions == 1 else 's'}"
    return f"{of} of {users:,} user{'' if users == 1 else 's'}"


def sentences(choices: Mapping[str, Any]) -> list[str]:
    """On whom what was chosen rests, choice by choice, and a warning where these are too few to choose by.

    Args:
      choices: of `choices.json`, of a run or, by name, of its parts.
    """
    if "validation_queries" not in choices:
        parts = [part for part in choices.values() if isinstance(part, Mapping) and "validation_queries" in part]
        if not parts:
            return []
        # Of several parts the one that has least says it.
        least = min(parts, key=lambda part: part["validation_queries"])
        return [f"Of {len(parts)} parts, each chose by itself; the one with the fewest:", *sentences(least)]
    questions, users = choices["validation_queries"], choices.get("validation_users", 0)
    chosen = _chosen(choices)
    if not chosen or not questions:
        return ["Nothing was chosen on validation users."]
    said = [
        f"Validation users, who are neither trained on nor reported, chose by {rests_on(questions, users)}: "
        f"{'; '.join(chosen)}."
    ]
    if questions < FEW:
        said.append(
            f"Warning: this is too little to choose by (expected {FEW} questions or more): what was chosen is mostly "
            "luck. More training users, or a larger --settings.validation, give more."
        )
    return said


def _chosen(choices: Mapping[str, Any]) -> list[str]:
    """What had alternatives, with how many there were."""
    found = []
    shown = [prompt["quality"] for prompt in choices.get("shown", {}).values() if len(prompt.get("quality", {})) > 1]
    if shown:
        strategies = "1 prompt strategy shows" if len(shown) == 1 else f"{len(shown)} prompt strategies show"
        found.append(f"the number of records that {strategies}")
    for name, scorer in choices.get("scorers", {}).items():
        if (alternatives := len(scorer.get("quality", {}))) > 1:
            # Judged by pools for validation users' own records, too.
            by = f" by {pools:,} pool{'' if pools == 1 else 's'}" if (pools := scorer.get("pools")) else ""
            found.append(f"loss and epochs of the {name} among {alternatives}{by}")
    for name, of in (("best_source", "single source"), ("best_prompt", "prompt baseline")):
        if choices.get(name):
            found.append(f"the best {of}")
    return found
