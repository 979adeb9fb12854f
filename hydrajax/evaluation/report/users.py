"""The report's part on what strategies have learned of users."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from hydrajax.evaluation import markup
from hydrajax.evaluation.report import parts, tables
from hydrajax.prompting import library

element = markup.element
SHOWN = 3  # users of each strategy
NAMED = 20  # users whose models were changed by hand
MOST_CHARACTERS = 2000  # of a text


def section(user_models: Sequence[Mapping[str, Any]], faults: Mapping[str, int]) -> markup.Markup | None:
    """The whole-profile models of the first three users of each strategy, and what `learned` tells.

    Args:
      user_models: lines of `user_models.jsonl`.
      faults: what was done instead -> how often.
    """
    by_strategy: dict[str, list[Mapping[str, Any]]] = collections.defaultdict(list)
    for line in user_models:
        if line["part"] == "whole" and line["model"] is not None:
            by_strategy[line["strategy"]].append(line)
    models = [_strategy(name, lines) for name, lines in by_strategy.items()]
    return learned("What was learned of users", models, user_models, faults)


def learned(
    heading: str,
    models: Sequence[markup.Markup],
    user_models: Sequence[Mapping[str, Any]],
    faults: Mapping[str, int],
) -> markup.Markup | None:
    """Models with whose were changed by hand, and how often answers were not as asked; None where there is nothing."""
    changed = by_hand(user_models)
    if not models and not faults and changed is None:
        return None
    note = parts.note("Answers of the LLM that were not as asked, and what was done instead:")
    counts = element("ul", [element("li", f"{fault}: {count:,}") for fault, count in sorted(faults.items())])
    return parts.section(heading, changed, models, [note, counts] if faults else None)


def by_hand(user_models: Sequence[Mapping[str, Any]]) -> markup.Markup | None:
    """Which models a person has edited or deleted; None where there are none.

    Args:
      user_models: lines of `user_models.jsonl`, halves of profiles included.
    """
    users: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    for line in user_models:
        part = "" if line["part"] == "whole" else f" ({line['part']} half)"
        if line["model"] is not None and line["model"]["edited"]:
            users[line["strategy"], "edited"].append(line["user_id"] + part)
        elif line.get("deleted") is not None:
            users[line["strategy"], "deleted"].append(line["user_id"] + part)
    if not users:
        return None
    items = []
    for (strategy, change), names in sorted(users.items()):
        more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
        items.append(element("li", f"{strategy}, {change}: {', '.join(names[:NAMED])}{more}"))
    note = parts.note("User models that a person has edited or deleted by the time of this report:")
    return markup.join([note, element("ul", items)])


def shortened(text: str) -> str:
    """The text, or the beginning of a long one."""
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " ..."


def _strategy(name: str, lines: Sequence[Mapping[str, Any]]) -> markup.Markup:
    columns: list[tables.Column] = [("user", "name"), ("text", "answer"), ("made of", "soft")]
    rows = []
    for line in lines[:SHOWN]:
        model = library.read_model(line["model"])
        text = [element("div", paragraph) for paragraph in shortened(model.text).splitlines()]
        rows.append((line["user_id"], text, model.provenance))
    title = f"{name}: {min(SHOWN, len(lines))} of {len(lines)} users"
    return parts.details(title, tables.html(columns, rows))
