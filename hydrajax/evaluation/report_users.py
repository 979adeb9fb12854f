"""The report's part on what strategies have learned of users."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydrajax.evaluation import markup

element = markup.element
SHOWN = 3  # users of each strategy


def section(user_models: Sequence[Mapping[str, Any]], faults: Mapping[str, int]) -> markup.Markup | None:
    """The whole-profile models of the first three users of each strategy, and how often answers were not as asked.

    Args:
      user_models: lines of `user_models.jsonl`.
      faults: what was done instead -> how often.
    """
    whole = [line for line in user_models if line["part"] == "whole" and line["model"] is not None]
    strategies = dict.fromkeys(line["strategy"] for line in whole)
    if not whole and not faults:
        return None
    users: dict[str, list[Mapping[str, Any]]] = {name: [] for name in strategies}
    for line in whole:
        users[line["strategy"]].append(line)
    parts = [_strategy(name, own) for name, own in users.items()]
    counted = [element("li", f"{what}: {count:,}") for what, count in sorted(faults.items())]
    note = element("p", "Answers of the LLM that were not as asked, and what was done instead:", class_="note")
    told = [note, element("ul", counted)] if counted else []
    return markup.join([element("h2", "What was learned of users"), *parts, *told])


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
        texts = [element("div", text) for text in model["text"].splitlines()]
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
