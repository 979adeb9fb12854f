"""What every report consists of: a page that needs no network, its head, its sections."""

import importlib.resources
import json
import shlex
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydrajax.evaluation import markup
from hydrajax.evaluation.report import tables

element = markup.element


def page(title: str, *sections: markup.Child) -> str:
    """The page with its style sheet, as one text."""
    folder = importlib.resources.files("hydrajax.evaluation.report")
    template, style = ((folder / name).read_text(encoding="utf-8") for name in ("page.html", "report.css"))
    return string.Template(template).substitute(title=markup.join(title), style=style, sections=markup.join(sections))


def header(heading: str, about: str, config: Mapping[str, Any], facts: Mapping[str, str]) -> markup.Markup:
    """What was run, with the exact command."""
    command = config.get("command", "")
    return element(
        "header",
        element("p", "hydrajax run report", class_="eyebrow"),
        element("h1", heading),
        element("p", about, class_="soft"),
        element("pre", command if isinstance(command, str) else shlex.join(command), class_="command"),
        element("dl", [element("div", element("dt", k), element("dd", v)) for k, v in facts.items()], class_="facts"),
    )


def spent(results: Mapping[str, Any]) -> dict[str, str]:
    """The facts of calls, money and time that every run has."""
    llm = results["llm"]
    return {
        "LLM": llm["model"],
        "calls sent": f"{llm['calls']:,}",
        "from the store": f"{llm['cached']:,}",
        "tokens in / out": f"{llm['input_tokens']:,} / {llm['output_tokens']:,}",
        "cost": dollars(llm["cost_usd"]),
        "time": duration(sum(results["seconds"].values())),
    }


def section(heading: str, *parts: markup.Child) -> markup.Markup:
    """A heading with what belongs to it."""
    return markup.join([element("h2", heading), *parts])


def verdicts(sentences: Iterable[str]) -> markup.Markup:
    """What the run shows, the first sentence large."""
    return section(
        "What it shows", element("div", [element("p", sentence) for sentence in sentences], class_="verdict")
    )


def note(text: str) -> markup.Markup:
    """A paragraph that explains."""
    return element("p", text, class_="note")


def details(title: markup.Child, *parts: markup.Child, opened: bool = False) -> markup.Markup:
    """What is shown when its title is clicked."""
    inside = element("div", parts, class_="inside")
    return element("details", element("summary", title), inside, open="open" if opened else None)


def soft(text: str) -> markup.Markup:
    """What stands behind a title."""
    return element("span", text, class_="soft")


def pairs(terms: Iterable[tuple[markup.Child, markup.Child]], *, wide: bool = True) -> markup.Markup:
    """Terms and what is said of them, beside each other."""
    items = [(element("dt", term), element("dd", text)) for term, text in terms]
    return element("dl", items, class_="pair wider" if wide else "pair")


def settings(config: Mapping[str, Any], results: Mapping[str, Any]) -> markup.Markup | None:
    """Time by stage, and every setting."""
    columns: list[tables.Column] = [(None, "name"), (None, "answer")]
    stages = [(stage, duration(seconds)) for stage, seconds in results["seconds"].items()]
    lists = [
        details(title, tables.html(columns, pairs))
        for title, pairs in (("Time by stage", stages), ("Settings", _flat(config)))
        if pairs
    ]
    return section("Settings and time", lists) if lists else None


def dollars(value: int | float | None) -> str:
    """US dollars with as many digits as they deserve; an en dash where no price is known."""
    if value is None:
        return "–"
    return f"${value:,.2f}" if value == 0 or value >= 0.1 else f"${value:.2g}"


def duration(seconds: int | float) -> str:
    """In hours, minutes or seconds."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def shortened(text: str, length: int) -> str:
    """A text on one line, or its beginning."""
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def _flat(value: Any, name: str = "") -> Sequence[tuple[str, str]]:
    """Names with dots, and values as JSON."""
    if isinstance(value, Mapping) and value:
        return [pair for key, item in value.items() for pair in _flat(item, f"{name}.{key}" if name else str(key))]
    return [(name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))]
