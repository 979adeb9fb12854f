"""The report's ten queries: what was asked, what was shown, the candidates with their scores, and who chose what."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydrajax.evaluation import markup, roster
from hydrajax.evaluation import predictions as rows_lib

element = markup.element
SHOWN = 10


def section(results: Mapping[str, Any], rows: Sequence[rows_lib.Row]) -> markup.Markup | None:
    """Ten queries at even distances in the order of users and queries, so that nobody picked them."""
    if not rows:
        return None
    ordered = sorted(rows, key=lambda row: (row["user"], row["query"]))
    chosen = [ordered[i * len(ordered) // SHOWN] for i in range(SHOWN)] if len(ordered) > SHOWN else ordered
    methods = roster.ordered(results["methods"])
    return markup.join(
        [
            element("h2", f"{_count(len(chosen))} queries"),
            element(
                "p",
                "Taken at even distances from the list of users, not picked. Candidates are in the order of the pool; "
                "quality is what the gold says of a candidate, scores are what a method thought of it.",
                class_="note",
            ),
            [_query(row, methods, opened=i == 0) for i, row in enumerate(chosen)],
        ]
    )


def _query(row: rows_lib.Row, methods: Sequence[str], *, opened: bool) -> markup.Markup:
    asked = element(
        "dl",
        element("dt", "asked"),
        element("dd", element("div", row.get("input", ""), class_="text")),
        element("dt", "the user's answer"),
        element("dd", element("strong", "not known" if row["gold"] is None else row["gold"])),
        _records(row, methods),
        class_="pair",
    )
    pools = [_pool(row, name, pool, methods) for name, pool in (row.get("pools") or {}).items() if pool]
    head = element("summary", f"{_short(row.get('input', ''))} ", element("span", f"user {row['user']}", class_="soft"))
    inside = element("div", asked, pools, element("h3", "Answers"), _answers(row, methods), class_="inside")
    return element("details", head, inside, open="open" if opened else None)


def _records(row: rows_lib.Row, methods: Sequence[str]) -> list[markup.Markup] | None:
    shown, texts = row.get("records") or {}, row.get("record_texts") or {}
    # Methods that were shown the same records share a line.
    by_records: dict[tuple[str, ...], list[str]] = {}
    for method in roster.ordered(shown):
        if shown[method]:
            by_records.setdefault(tuple(map(str, shown[method])), []).append(method)
    if not by_records:
        return None
    found = []
    for records, users in by_records.items():
        items = [element("div", element("span", r, class_="tag"), _short(texts.get(r, ""), 180)) for r in records]
        found += [element("dt", f"records, {', '.join(users)}"), element("dd", items)]
    return found


def _pool(row: rows_lib.Row, name: str, pool: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> markup.Markup:
    scorers = roster.ordered({scorer for candidate in pool for scorer in candidate.get("scores") or {}})
    choices: dict[int, list[str]] = {}
    for method in methods:
        candidate = (row["answers"].get(method) or {}).get("candidate")
        if candidate and candidate[0] == name:
            choices.setdefault(candidate[1], []).append(method)
    head = element(
        "tr",
        element("th", "candidate"),
        element("th", "source"),
        element("th", "votes", class_="n"),
        element("th", "quality", class_="n"),
        [element("th", f"score, {scorer}", class_="n") for scorer in scorers],
        element("th", "chosen by"),
    )
    body = []
    for i, candidate in enumerate(pool):
        by = choices.get(i, [])
        reason = candidate.get("stop_reason", "end_turn")
        odd = element("span", reason, class_="tag") if reason not in ("end_turn", "stop_sequence", "proposal") else None
        scores = candidate.get("scores") or {}
        body.append(
            element(
                "tr",
                element(
                    "td", candidate["prediction"] or element("em", "empty", class_="soft"), " ", odd, class_="answer"
                ),
                element("td", candidate["source"]),
                element("td", candidate["votes"], class_="n"),
                element("td", _number(candidate.get("quality")), class_="n"),
                [element("td", _number(scores.get(scorer)), class_="n") for scorer in scorers],
                element("td", [_tag(method) for method in by]),
                class_="ours" if roster.REFERENCE in by else None,
            )
        )
    table = element("table", element("thead", head), element("tbody", body))
    return markup.join([element("h3", f"Candidates, {name}"), element("div", table, class_="wide")])


def _answers(row: rows_lib.Row, methods: Sequence[str]) -> markup.Markup:
    # Methods that answered the same share a line.
    by_answer: dict[tuple[str, ...], list[str]] = {}
    for method in methods:
        if method in row["answers"]:
            by_answer.setdefault(tuple(row["answers"][method]["predictions"]), []).append(method)
    body = []
    for predictions, names in by_answer.items():
        distinct = list(dict.fromkeys(predictions))
        more = f" (and {len(distinct) - 3} other)" if len(distinct) > 3 else ""
        draws = f"{len(predictions)} draws: " if len(predictions) > 1 else ""
        text = draws + " / ".join(_short(p, 160) if len(distinct) > 1 else p for p in distinct[:3]) + more
        body.append(
            element(
                "tr",
                element("td", text or element("em", "empty", class_="soft"), class_="answer"),
                element("td", [_tag(name) for name in names]),
                class_="ours" if roster.REFERENCE in names else None,
            )
        )
    return element("div", element("table", element("tbody", body)), class_="wide")


def _tag(method: str) -> markup.Markup:
    return element("span", method, class_="tag ours" if method == roster.REFERENCE else "tag")


def _number(value: int | float | None) -> str:
    return "–" if value is None else f"{value:.3f}".replace("-", "−")


def _short(text: str, length: int = 90) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def _count(n: int) -> str:
    words = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")
    return words[n]
