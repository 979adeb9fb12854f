"""The report of an authorship run: win rates with the judge's own accuracy beside them, as a page and as a table."""

import importlib.resources
import json
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box, table

from hydrajax import files
from hydrajax.evaluation import markup
from hydrajax.evaluation import predictions as rows_lib
from hydrajax.evaluation.authorship import results as results_lib
from hydrajax.evaluation.report import methods as report_methods
from hydrajax.evaluation.report import plots
from hydrajax.evaluation.report import users as report_users
from hydrajax.methods import shuffled
from hydrajax.prompting import library

element = markup.element
Values = Mapping[str, Any]
EXAMPLES = 3
SHOWN_WORDS = 80
NAMES = {results_lib.THE_AUTHOR: "the author's real text", results_lib.ANOTHER_AUTHOR: "another author's real text"}


def write_report(folder: pathlib.Path) -> pathlib.Path:
    """Writes `report.html` into a run folder, whole or not at all, and returns its path.

    Raises:
      DataError: a file of the run is missing or broken.
    """
    config, results = files.read_json(folder / "config.json"), files.read_json(folder / "results.json")
    path = folder / "report.html"
    learned = files.read_lines(folder / library.FILE)
    files.write_text(path, render(config, results, rows_lib.read(folder / "predictions.jsonl"), learned))
    return path


def render(config: Values, results: Values, rows: Sequence[Values], user_models: Sequence[Values] = ()) -> str:
    """The report as HTML, from the contents of a run folder."""
    style = importlib.resources.files("hydrajax.evaluation.report").joinpath("report.css").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{results['experiment']}: {results['task']}"),
        element("style", markup.Markup(style)),
    )
    sections = (
        _what_was_run(config, results),
        element("h2", "What it shows"),
        element("div", [element("p", sentence) for sentence in verdicts(results)], class_="verdict"),
        _judge(results),
        _win_rates(results),
        _copied(results),
        _user_models(results, user_models),
        _examples(rows),
        _settings(config, results),
    )
    body = element("body", element("main", sections))
    return "<!doctype html>\n" + element("html", head, body, lang="en") + "\n"


def verdicts(results: Values) -> list[str]:
    """What the run shows, in sentences: how good the judge is, who beats whom, and what is personal."""
    judge, rates = results["judge"], results["win_rates"]
    said = [
        f"The judge ({judge['kind']}) prefers an author's real text to another author's in {_share(judge, 'accuracy')} "
        f"of pairs of {judge['words']} words (a guess: 50%). Against zero-shot, the author's real text wins "
        f"{_share(judge, 'ceiling')} (ceiling), another author's {_share(judge, 'floor')} (floor)."
    ]
    if "accuracy_alike" in judge:
        said.append(
            f"Where the other author's text is the one nearest in its subject, the judge is right in "
            f"{_share(judge, 'accuracy_alike')}. Texts that begin with the same sentence share theirs."
        )
    for strategy, against in rates.items():
        if strategy == results_lib.ZERO_SHOT:
            continue
        rate = against[results_lib.ZERO_SHOT]
        said.append(f"{strategy} wins {rate_text(rate)} against zero_shot: {_verdict(rate)}.")
    for strategy, own in results["personal"].items():
        rate = rates[strategy][shuffled.name(strategy)]
        words = f"{strategy} wins {rate_text(rate)} against itself with another author's texts"
        if own is None:
            said.append(f"{words}: too few authors to say whether it is personal.")
        else:
            said.append(f"{words}: {'it is personal' if own else 'it is not shown to be personal'}.")
    return said


def rate_text(rate: Values) -> str:
    """A win rate with its interval."""
    interval = "" if rate["low"] is None else f" [{rate['low']:.0%}, {rate['high']:.0%}]"
    return f"{rate['value']:.0%}{interval}"


def text_table(results: Values) -> table.Table:
    """Win rates for the terminal: strategies in rows, against whom in columns."""
    names = _columns(results)
    shown = table.Table(box=box.SIMPLE, title=f"{results['task']}: win rates over {results['users']} authors")
    shown.add_column("strategy", no_wrap=True)
    for name in names:
        shown.add_column(f"against {name}", justify="right")
    for strategy, against in results["win_rates"].items():
        cells = [rate_text(against[_key(strategy, name)]) if _key(strategy, name) in against else "–" for name in names]
        shown.add_row(strategy, *cells)
    return shown


def _columns(results: Values) -> list[str]:
    return [*results["win_rates"], "its shuffled self", results_lib.THE_AUTHOR, results_lib.ANOTHER_AUTHOR]


def _key(strategy: str, column: str) -> str:
    return shuffled.name(strategy) if column == "its shuffled self" else column


def _share(judge: Values, name: str) -> str:
    return rate_text({"value": judge[name], "low": judge[f"{name}_low"], "high": judge[f"{name}_high"]})


def _verdict(rate: Values) -> str:
    if rate["low"] is None:
        return "too few authors for an interval"
    if rate["low"] > 0.5:
        return "it is better"
    return "it is worse" if rate["high"] < 0.5 else "no difference is shown"


def _what_was_run(config: Values, results: Values) -> markup.Markup:
    llm, command = results["llm"], config.get("command", "")
    facts = {
        "authors": f"{results['users']:,}",
        "test texts": f"{results['queries']:,}",
        "LLM": llm["model"],
        "judge": results["judge"].get("llm") or results["judge"]["kind"],
        "calls sent": f"{llm['calls']:,}",
        "from the store": f"{llm['cached']:,}",
        "tokens in / out": f"{llm['input_tokens']:,} / {llm['output_tokens']:,}",
        "cost": report_methods.dollars(llm["cost_usd"]),
        **_judge_costs(results.get("judge_llm")),
        "time": f"{sum(results['seconds'].values()) / 60:.1f} min",
    }
    return element(
        "header",
        element("p", "hydrajax run report", class_="eyebrow"),
        element("h1", "HyPerAlign: authorship"),
        element("p", "Articles that start with a given sentence, written in the style of an author.", class_="soft"),
        element("pre", command if isinstance(command, str) else shlex.join(command), class_="command"),
        element("dl", [element("div", element("dt", k), element("dd", v)) for k, v in facts.items()], class_="facts"),
        [element("p", f"Note: {note}.", class_="note") for note in results["notes"]],
    )


def _judge_costs(llm: Values | None) -> dict[str, str]:
    """What another LLM than the one that writes was asked."""
    if llm is None:
        return {}
    return {
        "judge's calls sent": f"{llm['calls']:,}",
        "judge's from the store": f"{llm['cached']:,}",
        "judge's cost": report_methods.dollars(llm["cost_usd"]),
    }


def _judge(results: Values) -> markup.Markup:
    judge = results["judge"]
    rows = [
        ("real text of the author against one of another author (accuracy)", _share(judge, "accuracy")),
        ("the author's real text against zero_shot (ceiling)", _share(judge, "ceiling")),
        ("another author's real text against zero_shot (floor)", _share(judge, "floor")),
    ]
    if "accuracy_alike" in judge:
        rows.insert(1, ("the same, where the subject is as near as there is", _share(judge, "accuracy_alike")))
    rows += [(f"accuracy on the first {n} words", rate_text(rate)) for n, rate in judge["by_words"].items()]
    if "cross_validation" in judge:
        rows.append(
            (f"authors found among its {judge['training_texts']} training texts", f"{judge['cross_validation']:.0%}")
        )
    if judge["kind"] == "llm":
        rows.append(("verdicts that could not be read, and count as half", str(judge["unreadable"])))
    return markup.join(
        [
            element("h2", "The judge"),
            element(
                "p",
                "It compares two texts after both are cut to the same number of words. Held-out real texts say how "
                "far it can be believed; since they differ in their subjects too, it knows less of style alone.",
                class_="note",
            ),
            _table(("pairs", "right, or won"), [(element("td", name), _number(value)) for name, value in rows]),
        ]
    )


def _win_rates(results: Values) -> markup.Markup:
    parts: list[markup.Markup] = [
        element("h2", "Win rates"),
        element(
            "p",
            "How often the judge finds a strategy's text more likely by the author, averaged over authors; in brackets "
            "the 95 % interval of a bootstrap over authors. The line is 50 %.",
            class_="note",
        ),
    ]
    for strategy, against in results["win_rates"].items():
        rows = []
        for other, rate in against.items():
            kind = {"it is better": "better", "it is worse": "worse"}.get(_verdict(rate), "open")
            drawn = plots.interval_row(**rate, scale=(0.0, 1.0), line=0.5, kind=f"zeroline {kind}")
            name = element("td", NAMES.get(other, other), class_="name")
            rows.append(
                (name, _number(rate_text(rate)), element("td", drawn), element("td", _verdict(rate), class_=kind))
            )
        parts += [element("h3", strategy), _table(("against", "wins", "", "verdict"), rows)]
    return markup.join(parts)


def _copied(results: Values) -> markup.Markup:
    sizes = [str(n) for n in results_lib.COPIED]
    rows = [
        (
            element("td", NAMES.get(name, name), class_="name"),
            _number(f"{results['words'][name]:,.0f}"),
            _number(str(results["empty"][name])),
            *(_number("–" if shares[n] is None else f"{shares[n]:.1%}") for n in sizes),
        )
        for name, shares in results["copied"].items()
    ]
    words = "The share of a text's word sequences that the author's shown texts hold word for word."
    heads = ("texts of", "mean words", "empty", *(f"{n}-grams copied" for n in sizes))
    return markup.join([element("h2", "Lengths and copies"), element("p", words, class_="note"), _table(heads, rows)])


def _user_models(results: Values, lines: Sequence[Values]) -> markup.Markup | None:
    parts = [
        element(
            "details",
            element("summary", f"{author} ", element("span", strategy, class_="soft")),
            element(
                "div",
                [element("p", line) for line in report_users.shortened(text).splitlines() if line.strip()],
                class_="inside",
            ),
        )
        for author, own in results["user_models"].items()
        for strategy, text in own.items()
    ]
    changed = report_users.by_hand(lines)
    if not parts and changed is None:
        return None
    return markup.join([element("h2", "What was learned of authors"), changed, *parts])


def _examples(rows: Sequence[Values]) -> markup.Markup:
    parts = []
    for row in rows[:EXAMPLES]:
        pairs = []
        for name, texts in row["texts"].items():
            words = texts[0].split()
            text = " ".join(words[:SHOWN_WORDS]) + (" ..." if len(words) > SHOWN_WORDS else "")
            pairs.append((element("dt", NAMES.get(name, name)), element("dd", text or "(empty)")))
        inside = element("div", element("dl", pairs, class_="pair wider"), class_="inside")
        summary_line = element("summary", f"{row['user']}: ", element("span", row["input"], class_="soft"))
        parts.append(element("details", summary_line, inside))
    return markup.join([element("h2", "Examples"), *parts])


def _settings(config: Values, results: Values) -> markup.Markup:
    pairs = [(f"time: {stage}", f"{seconds:.1f} s") for stage, seconds in results["seconds"].items()]
    pairs += [(f"fault: {name}", str(count)) for name, count in results["faults"].items()]
    pairs += [(name, json.dumps(value, ensure_ascii=False)) for name, value in config.items() if name != "command"]
    rows = [(element("td", k, class_="name"), element("td", v, class_="answer")) for k, v in pairs]
    inside = element("div", _table((), rows), class_="inside")
    return element("details", element("summary", "Settings and time"), inside)


def _table(heads: Sequence[str], rows: Sequence[Sequence[markup.Markup]]) -> markup.Markup:
    head = element("thead", element("tr", [element("th", name) for name in heads])) if heads else None
    body = element("tbody", [element("tr", cells) for cells in rows])
    return element("div", element("table", head, body), class_="wide")


def _number(text: str) -> markup.Markup:
    return element("td", text, class_="n")
