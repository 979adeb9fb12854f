"""The report's ten queries: what was asked, what was shown, the candidates with their scores, and who chose what."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from hydrajax.evaluation import markup, predictions, roster, summary
from hydrajax.evaluation.report import parts, tables

element = markup.element
SHOWN = 10
NUMBERS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")
EMPTY = element("em", "empty", class_="soft")


def section(results: Mapping[str, Any], rows: Sequence[predictions.Row]) -> markup.Markup | None:
    """Ten queries at even distances in the order of users and queries, so that nobody picked them."""
    if not rows:
        return None
    ordered = sorted(rows, key=lambda row: (row["user"], row["query"]))
    chosen = [ordered[i * len(ordered) // SHOWN] for i in range(SHOWN)] if len(ordered) > SHOWN else ordered
    methods = roster.ordered(results["methods"])
    words = (
        "Taken at even distances from the list of users, not picked. Candidates are in the order of the pool; quality "
        "is what the gold says of a candidate, scores are what a method thought of it."
    )
    queries = [_query(row, methods, opened=i == 0) for i, row in enumerate(chosen)]
    return parts.section(f"{NUMBERS[len(chosen)]} queries", parts.note(words), queries)


def _query(row: predictions.Row, methods: Sequence[str], *, opened: bool) -> markup.Markup:
    asked = [
        ("asked", element("div", row.get("input", ""), class_="text")),
        ("the user's answer", element("strong", "not known" if row["gold"] is None else row["gold"])),
        *_records(row),
    ]
    pools = [_pool(row, name, pool, methods) for name, pool in (row.get("pools") or {}).items() if pool]
    title = [f"{parts.shortened(row.get('input', ''), 90)} ", parts.soft(f"user {row['user']}")]
    answers = [element("h3", "Answers"), _answers(row, methods)]
    return parts.details(title, parts.pairs(asked, wide=False), pools, answers, opened=opened)


def _records(row: predictions.Row) -> list[tuple[str, list[markup.Markup]]]:
    """Terms and texts; methods that were shown the same records share a term."""
    shown, texts = row.get("records") or {}, row.get("record_texts") or {}
    by_records: dict[tuple[str, ...], list[str]] = {}
    for method in roster.ordered(shown):
        if shown[method]:
            by_records.setdefault(tuple(map(str, shown[method])), []).append(method)
    return [
        (
            f"records, {', '.join(methods)}",
            [element("div", _tag(r), parts.shortened(texts.get(r, ""), 180)) for r in records],
        )
        for records, methods in by_records.items()
    ]


def _pool(row: predictions.Row, name: str, pool: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> markup.Markup:
    scorers = roster.ordered({scorer for candidate in pool for scorer in candidate.get("scores") or {}})
    chosen_by: dict[int, list[str]] = collections.defaultdict(list)
    for method in methods:
        choice = (row["answers"].get(method) or {}).get("candidate")
        if choice and choice[0] == name:
            chosen_by[choice[1]].append(method)
    columns: list[tables.Column] = [
        ("candidate", "answer"),
        ("source", None),
        ("votes", "n"),
        ("quality", "n"),
        *((f"score, {scorer}", "n") for scorer in scorers),
        ("chosen by", None),
    ]
    rows = []
    for i, candidate in enumerate(pool):
        reason = candidate.get("stop_reason", "end_turn")
        odd = _tag(reason) if reason not in ("end_turn", "stop_sequence", "proposal") else None
        scores = candidate.get("scores") or {}
        cells = [
            [candidate["prediction"] or EMPTY, " ", odd],
            candidate["source"],
            candidate["votes"],
            summary.number(candidate.get("quality")),
            *(summary.number(scores.get(scorer)) for scorer in scorers),
            [_tag(method) for method in chosen_by[i]],
        ]
        rows.append(tables.row(columns, *cells, ours=roster.REFERENCE in chosen_by[i]))
    return markup.join([element("h3", f"Candidates, {name}"), tables.html(columns, rows)])


def _answers(row: predictions.Row, methods: Sequence[str]) -> markup.Markup:
    """Methods that answered the same share a line."""
    by_answer: dict[tuple[str, ...], list[str]] = {}
    for method in methods:
        if method in row["answers"]:
            by_answer.setdefault(tuple(row["answers"][method]["predictions"]), []).append(method)
    columns: list[tables.Column] = [(None, "answer"), (None, None)]
    rows = []
    for drawn, names in by_answer.items():
        distinct = list(dict.fromkeys(drawn))
        more = f" (and {len(distinct) - 3} other)" if len(distinct) > 3 else ""
        draws = f"{len(drawn)} draws: " if len(drawn) > 1 else ""
        text = draws + " / ".join(parts.shortened(p, 160) if len(distinct) > 1 else p for p in distinct[:3]) + more
        tags = [_tag(name) for name in names]
        rows.append(tables.row(columns, text or EMPTY, tags, ours=roster.REFERENCE in names))
    return tables.html(columns, rows)


def _tag(name: str) -> markup.Markup:
    return element("span", name, class_="tag ours" if name == roster.REFERENCE else "tag")
