"""The report's part on what strategies have learned of users."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from hydrajax.evaluation import markup

element = markup.element
SHOWN = 3  # users of each strategy
NAMED = 20  # users whose models were changed by hand
MOST_CHARACTERS = 2000  # of a text


def section(user_models: Sequence[Mapping[str, Any]], faults: Mapping[str, int]) -> markup.Markup | None:
    """The whole-profile models of the first three users of each strategy, whose were changed by hand, and how often
    answers were not as asked.

    Args:
      user_models: lines of `user_models.jsonl`.
      faults: what was done instead -> how often.
    """
    whole = [line for line in user_models if line["part"] == "whole" and line["model"] is not None]
    strategies = dict.fromkeys(line["strategy"] for line in whole)
    changed = by_hand(user_models)
    if not whole and not faults and changed is None:
        return None
    users: dict[str, list[Mapping[str, Any]]] = {name: [] for name in strategies}
    for line in whole:
        users[line["strategy"]].append(line)
    parts = [_strategy(name, own) for name, own in users.items()]
    counted = [element("li", f"{what}: {count:,}") for what, count in sorted(faults.items())]
    note = element("p", "Answers of the LLM that were not as asked, and what was done instead:", class_="note")
    told = [note, element("ul", counted)] if counted else []
    return markup.join([element("h2", "What was learned of users"), changed, *parts, *told])


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
    told = []
    for (strategy, what), names in sorted(users.items()):
        more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
        told.append(element("li", f"{strategy}, {what}: {', '.join(names[:NAMED])}{more}"))
    note = "User models that a person has edited or deleted by the time of this report:"
    return markup.join([element("p", note, class_="note"), element("ul", told)])


def shortened(text: str) -> str:
    """The text, or the beginning of a long one."""
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " ..."


def _strategy(name: str, own: Sequence[Mapping[str, Any]]) -> markup.Markup:
    rows = []
    for line in own[:SHOWN]:
        model = line["model"]
        made = ", ".join(
            filter(
                None,
                [
                    f"{len(model['records'])} records",
                    model["llm"],
                    model["prompt"] and f"prompt {model['prompt']}",
                    model["fault"],
                    "edited by hand" if model["edited"] else "",
                ],
            )
        )
        texts = [element("div", text) for text in shortened(model["text"]).splitlines()]
        rows.append(
            element(
                "tr",
                element("td", line["user_id"], class_="name"),
                element("td", texts, class_="answer"),
                element("td", made, class_="soft"),
            )
        )
    head = element("tr", [element("th", title) for title in ("user", "text", "made of")])
    inside = element("div", element("div", element("table", head, rows), class_="wide"), class_="inside")
    title = f"{name}: {min(SHOWN, len(own))} of {len(own)} users"
    return element("details", element("summary", title), inside)
