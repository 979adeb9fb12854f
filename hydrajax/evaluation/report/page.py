"""`report.html`: a run as one file that needs no network and can be sent to anybody.

Reads the run folder's `config.json` (its `command` is the exact command: a text or a list of words), `results.json`,
`predictions.jsonl`; where they exist, `invocations.jsonl`, and for the learning curves `curves.json` or
`results["curves"]`; `choices.json`, what validation users chose; and `user_models.jsonl`:

    {PLOT: {SERIES: [[step, value], ...]}}

A prediction row may hold `record_texts`, {record id: text}, which are then shown with the ids.
"""

import importlib.resources
import json
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from hydrajax import files
from hydrajax.evaluation import markup, roster, summary
from hydrajax.evaluation import predictions as rows_lib
from hydrajax.evaluation.report import methods as report_methods
from hydrajax.evaluation.report import plots
from hydrajax.evaluation.report import queries as report_queries
from hydrajax.evaluation.report import users as report_users
from hydrajax.prompting import library

element = markup.element


def write_report(folder: pathlib.Path) -> pathlib.Path:
    """Writes `report.html` into a run folder, whole or not at all, and returns its path.

    Raises:
      DataError: a file of the run is missing or broken.
    """
    config, results = files.read_json(folder / "config.json"), files.read_json(folder / "results.json")
    curves_file = folder / "curves.json"
    curves = files.read_json(curves_file) if curves_file.is_file() else results.get("curves") or {}
    invocations = files.read_lines(folder / "invocations.jsonl")
    choices_file = folder / "choices.json"
    choices = files.read_json(choices_file) if choices_file.is_file() else {}
    rows = rows_lib.read(folder / "predictions.jsonl")
    learned = files.read_lines(folder / library.FILE)
    page = render(config, results, rows, curves, invocations, choices, learned)
    path = folder / "report.html"
    files.write_text(path, page)
    return path


def render(
    config: Mapping[str, Any],
    results: Mapping[str, Any],
    rows: Sequence[rows_lib.Row],
    curves: Mapping[str, Mapping[str, Sequence[Sequence[plots.Number]]]],
    invocations: Sequence[Mapping[str, Any]] = (),
    choices: Mapping[str, Any] | None = None,
    user_models: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The report as HTML, from the contents of a run folder."""
    title = f"{results['experiment']}: {results['task']}"
    style = importlib.resources.files("hydrajax.evaluation.report").joinpath("report.css").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", markup.Markup(style)),
    )
    body = element(
        "main",
        _what_was_run(config, results, invocations),
        _verdict(results),
        report_methods.methods_table(results),
        report_methods.comparisons_table(results),
        report_methods.union_tables(results),
        _gains(results),
        _captured(results),
        _chosen(choices or {}),
        _curves(curves),
        report_methods.costs_table(results),
        report_users.section(user_models, (choices or {}).get("faults", {})),
        report_queries.section(results, rows),
        _settings(config, results),
    )
    return "<!doctype html>\n" + element("html", head, element("body", body), lang="en") + "\n"


def _what_was_run(
    config: Mapping[str, Any], results: Mapping[str, Any], invocations: Sequence[Mapping[str, Any]]
) -> markup.Markup:
    command = config.get("command", "")
    llm = results["llm"]
    facts = {
        "users": f"{results['users']:,}",
        "questions": f"{results['queries']:,}",
        "LLM": llm["model"],
        "calls sent": f"{llm['calls']:,}",
        "from the store": f"{llm['cached']:,}",
        "tokens in / out": f"{llm['input_tokens']:,} / {llm['output_tokens']:,}",
        "cost": report_methods.dollars(llm["cost_usd"]),
        "time": _duration(sum(results["seconds"].values())),
    }
    if len(invocations) > 1:
        calls, seconds = (sum(one[name] for one in invocations) for name in ("calls", "seconds"))
        facts["all invocations"] = f"{calls:,} calls, {_duration(seconds)}"
    return element(
        "header",
        element("p", "hydrajax run report", class_="eyebrow"),
        element("h1", f"{results['task']}, {results['split']} users"),
        element("p", f"Experiment {results['experiment']}.", class_="soft"),
        element("pre", command if isinstance(command, str) else shlex.join(command), class_="command"),
        element("dl", [element("div", element("dt", k), element("dd", v)) for k, v in facts.items()], class_="facts"),
    )


def _verdict(results: Mapping[str, Any]) -> markup.Markup:
    sentences = [element("p", sentence) for sentence in summary.verdicts(results)]
    return markup.join([element("h2", "What it shows"), element("div", sentences, class_="verdict")])


def _gains(results: Mapping[str, Any]) -> markup.Markup | None:
    gains = results.get("gains")
    if not gains:
        return None
    ranked = sorted(gains["users"].items(), key=lambda entry: (-entry[1], entry[0]))
    values = [value for _, value in ranked]
    better, worse = sum(v > 0 for v in values), sum(v < 0 for v in values)
    metric = summary.TITLES[gains["metric"]]
    words = (
        f"{gains['a']} minus {gains['b']} for every user ({metric}, positive is better for {gains['a']}): better for "
        f"{better}, worse for {worse}, equal for {len(values) - better - worse}. {gains['b']} is the prompt baseline "
        "that served the validation users best."
    )
    drawn = plots.bars(values, [user for user, _ in ranked], words)
    return markup.join(
        [
            element("h2", "Who gains"),
            element("figure", element("div", drawn, class_="card"), element("figcaption", words)),
        ]
    )


def _captured(results: Mapping[str, Any]) -> markup.Markup | None:
    captured, sources = results.get("captured") or {}, results.get("sources") or {}
    parts: list[markup.Markup] = []
    share, source = captured.get("from_best_source"), captured.get("source")
    if share is not None:
        low, high = captured.get("low"), captured.get("high")
        interval = f" [{low:.0%}, {high:.0%}]" if low is not None and high is not None else ""
        text = (
            f"Of the distance from {source}, the best single source by the validation users, to the oracle, hydra goes "
            f"{share:.0%}{interval} ({summary.TITLES[captured['metric']]})."
        )
        parts.append(element("p", text.replace("-", "−") if share < 0 else text))
    elif source is not None:
        text = f"The oracle is no better than {source}, the best single source: there is no share to capture."
        parts.append(element("p", text))
    if sources:
        columns = sorted({name for shares in sources.values() for name in shares})
        head = element("tr", element("th", "answers of"), [element("th", name, class_="n") for name in columns])
        body = [
            element(
                "tr",
                element("td", method, class_="name"),
                [element("td", f"{sources[method].get(name, 0.0):.0%}", class_="n") for name in columns],
                class_="ours" if method == roster.REFERENCE else None,
            )
            for method in roster.ordered(sources)
        ]
        table = element("table", element("thead", head), element("tbody", body))
        parts += [element("h3", "Answers by source"), element("div", table, class_="wide")]
    return markup.join([element("h2", "How far the choice goes"), *parts]) if parts else None


def _chosen(choices: Mapping[str, Any]) -> markup.Markup | None:
    """What validation users chose, and what should be known of the data; nothing of several folds together."""
    if "scorers" not in choices:
        return None
    said = [
        f"Settings were chosen on {choices['validation_queries']} questions of {choices['validation_users']} "
        "validation users, who are neither trained on nor reported."
    ]
    for name, scorer in choices["scorers"].items():
        epochs = scorer["epochs"]
        heads = f"{epochs} epochs of personalisation" if epochs else "no personalisation: everybody has the pooled head"
        family = f"family {scorer['family']}, " if "family" in scorer else ""
        said.append(f"{name}: {family}{scorer['loss'].replace('_', '-')} loss, {heads}.")
    union = choices.get("union")
    if union:
        spread = ", ".join(f"{name} {n:.1f}" for name, n in union["candidates"].items())
        said.append(f"union: {union['settings']['union']}; candidates of a question: {spread}.")
    shown = ", ".join(f"{name} {prompt['k']}" for name, prompt in choices["shown"].items())
    said += [f"Records shown: {shown}.", *(f"Note: {note}." for note in choices.get("notes", ()))]
    return markup.join([element("h2", "What was chosen"), *(element("p", sentence) for sentence in said)])


def _curves(curves: Mapping[str, Mapping[str, Sequence[Sequence[plots.Number]]]]) -> markup.Markup | None:
    drawn = []
    for name, series in curves.items():
        known = {label: curve for label, curve in series.items() if curve}
        if known:
            plot = plots.lines(known, f"learning curves of {name}: {', '.join(known)}")
            drawn.append(element("div", element("h3", name), plot, class_="card"))
    return markup.join([element("h2", "Learning"), element("div", drawn, class_="grid2")]) if drawn else None


def _settings(config: Mapping[str, Any], results: Mapping[str, Any]) -> markup.Markup:
    stages = [(stage, _duration(seconds)) for stage, seconds in results["seconds"].items()]
    parts = []
    for title, pairs in (("Time by stage", stages), ("Settings", list(_flat(config)))):
        if pairs:
            rows = [element("tr", element("td", k, class_="name"), element("td", v, class_="answer")) for k, v in pairs]
            inside = element("div", element("div", element("table", rows), class_="wide"), class_="inside")
            parts.append(element("details", element("summary", title), inside))
    return markup.join([element("h2", "Settings and time"), *parts]) if parts else markup.Markup("")


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [pair for key, item in value.items() for pair in _flat(item, f"{name}.{key}" if name else str(key))]
    if isinstance(value, str):
        return [(name, value)]
    return [(name, json.dumps(value, ensure_ascii=False))]


def _duration(seconds: plots.Number) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"
