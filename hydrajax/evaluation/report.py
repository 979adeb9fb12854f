"""`report.html`: a run as one file that needs no network and can be sent to anybody.

Reads the run folder's `config.json` (its `command` is the exact command: a text or a list of words), `results.json`,
`predictions.jsonl`, and for the learning curves `curves.json` or `results["curves"]`:

    {PLOT: {SERIES: [[step, value], ...]}}

A prediction row may hold `record_texts`, {record id: text}, which are then shown with the ids.
"""

import importlib.resources
import json
import os
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from hydrajax import metrics
from hydrajax.evaluation import markup, plots, report_queries, roster, summary
from hydrajax.evaluation import rows as rows_lib
from hydrajax.types import DataError

element = markup.element


def write_report(folder: pathlib.Path) -> pathlib.Path:
    """Writes `report.html` into a run folder, whole or not at all, and returns its path.

    Raises:
      DataError: a file of the run is missing or broken.
    """
    config, results = _read(folder / "config.json"), _read(folder / "results.json")
    curves_file = folder / "curves.json"
    curves = _read(curves_file) if curves_file.is_file() else results.get("curves") or {}
    page = render(config, results, rows_lib.read(folder / "predictions.jsonl"), curves)
    path = folder / "report.html"
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    # A tweet may hold half a surrogate pair, which no encoding can write.
    temporary.write_text(page, encoding="utf-8", errors="replace")
    temporary.replace(path)
    return path


def render(
    config: Mapping[str, Any],
    results: Mapping[str, Any],
    rows: Sequence[rows_lib.Row],
    curves: Mapping[str, Mapping[str, Sequence[Sequence[plots.Number]]]],
) -> str:
    """The report as HTML, from the contents of a run folder."""
    title = f"{results['experiment']}: {results['task']}"
    style = importlib.resources.files("hydrajax.evaluation").joinpath("report.css").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", markup.Markup(style)),
    )
    body = element(
        "main",
        _what_was_run(config, results),
        _verdict(results),
        _methods(results),
        _comparisons(results),
        _gains(results),
        _choices(results),
        _curves(curves),
        _costs(results),
        report_queries.section(results, rows),
        _settings(config, results),
    )
    return "<!doctype html>\n" + element("html", head, element("body", body), lang="en") + "\n"


def _what_was_run(config: Mapping[str, Any], results: Mapping[str, Any]) -> markup.Markup:
    command = config.get("command", "")
    llm = results["llm"]
    facts = {
        "users": f"{results['users']:,}",
        "questions": f"{results['queries']:,}",
        "LLM": llm["model"],
        "calls sent": f"{llm['calls']:,}",
        "from the store": f"{llm['cached']:,}",
        "tokens in / out": f"{llm['input_tokens']:,} / {llm['output_tokens']:,}",
        "cost": _dollars(llm["cost_usd"]),
        "time": _duration(sum(results["seconds"].values())),
    }
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


def _methods(results: Mapping[str, Any]) -> markup.Markup | None:
    names = summary.metric_names(results)
    if not names:
        return None
    methods, deciding = results["methods"], names[0]
    ends = [methods[m][deciding][end] for m in methods for end in ("value", "low", "high")]
    scale = plots.extent(ends)
    reference = methods.get(roster.REFERENCE, next(iter(methods.values())))[deciding]["value"]
    best = {name: _best(methods, name) for name in names}
    body = []
    for group, members in roster.groups(tuple(methods)):
        body.append(element("tr", element("th", group, colspan=len(names) + 2, scope="colgroup"), class_="group"))
        for method in members:
            ours = method == roster.REFERENCE
            cells = [_value_cell(methods[method][name], name, best=method in best[name]) for name in names]
            drawn = plots.interval_row(
                **methods[method][deciding], scale=scale, line=reference, kind="ours" if ours else ""
            )
            label = element("td", method, class_="name", title=roster.EXPLAINED.get(method))
            body.append(element("tr", label, cells, element("td", drawn), class_="ours" if ours else None))
    head = element(
        "tr",
        element("th", "method"),
        [element("th", summary.title(name), class_="n") for name in names],
        element("th", plots.interval_axis(scale, 1 if deciding == "bleu" else 2)),
    )
    signature = results.get("bleu_signature")
    return markup.join(
        [
            element("h2", "Methods"),
            element("p", _methods_words(results, deciding), class_="note"),
            element("div", element("table", element("thead", head), element("tbody", body)), class_="wide"),
            element("p", f"BLEU is sacrebleu's corpus score, 0 to 100, signature {signature}.", class_="note")
            if signature
            else None,
            _per_user(results, names),
            _explained(tuple(methods)),
        ]
    )


def _methods_words(results: Mapping[str, Any], deciding: str) -> str:
    return (
        "In brackets the 95 % interval of a bootstrap over users, in which a user's questions stay together. The plot "
        f"shows {summary.TITLES[deciding]}; the dotted line is hydra. The best value of a column is bold, the oracle "
        "left aside."
    ) + (
        " Macro-F1 averages over all labels of the task; a draw of users may lack a rare one, which counts as 0, so "
        "its intervals reach far down."
        if "macro_f1" in summary.metric_names(results)
        else ""
    )


def _explained(methods: Sequence[str]) -> markup.Markup:
    known = [method for method in roster.ordered(methods) if method in roster.EXPLAINED]
    pairs = [(element("dt", method), element("dd", roster.EXPLAINED[method])) for method in known]
    inside = element("div", element("dl", pairs, class_="pair wider"), class_="inside")
    return element("details", element("summary", "What the methods are"), inside)


def _per_user(results: Mapping[str, Any], names: Sequence[str]) -> markup.Markup | None:
    averages = results.get("per_user") or {}
    shown = [name for name in names if any(name in averages.get(method, {}) for method in averages)]
    if not shown:
        return None
    head = element("tr", element("th", "method"), [element("th", summary.title(name), class_="n") for name in shown])
    body = [
        element(
            "tr",
            element("td", method, class_="name"),
            [_value_cell(averages[method][name], name) for name in shown],
            class_="ours" if method == roster.REFERENCE else None,
        )
        for method in roster.ordered(averages)
    ]
    table = element("table", element("thead", head), element("tbody", body))
    return element(
        "details",
        element("summary", "Averages per user ", element("span", "every user counts the same", class_="soft")),
        element("div", element("div", table, class_="wide"), class_="inside"),
    )


def _comparisons(results: Mapping[str, Any]) -> markup.Markup | None:
    if not results["comparisons"]:
        return None
    parts: list[markup.Markup] = [
        element("h2", "hydra against every other"),
        element(
            "p",
            "Differences on the same resamples of users, turned so that positive means that hydra is better. The last "
            "column is the smallest true difference that this many users would show in four of five repetitions: a "
            "comparison without a result does not say that there is no difference below it.",
            class_="note",
        ),
    ]
    for i, metric in enumerate(summary.metric_names(results)):
        table = _comparison_table([c for c in results["comparisons"] if c["metric"] == metric], metric)
        if i == 0:
            parts += [element("h3", summary.TITLES[metric]), table]
        else:
            inside = element("div", table, class_="inside")
            parts.append(element("details", element("summary", summary.TITLES[metric]), inside))
    return markup.join(parts)


def _comparison_table(comparisons: Sequence[Mapping[str, Any]], metric: str) -> markup.Markup:
    scale = plots.extent([c[end] for c in comparisons for end in ("difference", "low", "high")], include=0.0)
    by_name = {c["b"]: c for c in comparisons}
    body = []
    for group, members in roster.groups(tuple(by_name)):
        body.append(element("tr", element("th", group, colspan=5, scope="colgroup"), class_="group"))
        for method in members:
            c = by_name[method]
            verdict = summary.verdict(c)
            kind = "open" if verdict == "not shown" else verdict
            words = verdict
            if method == roster.CEILING:
                kind, words = "open", "ceiling"
            drawn = plots.interval_row(c["difference"], c["low"], c["high"], scale, line=0.0, kind=f"zeroline {kind}")
            difference = {"value": c["difference"], "low": c["low"], "high": c["high"]}
            body.append(
                element(
                    "tr",
                    element("td", method, class_="name", title=roster.EXPLAINED.get(method)),
                    _value_cell(difference, metric, signed=True),
                    element("td", drawn),
                    element("td", words, class_=kind),
                    element("td", summary.number(c["detectable"], metric), class_="n"),
                )
            )
    head = element(
        "tr",
        element("th", "hydra minus"),
        element("th", "difference", class_="n"),
        element("th", plots.interval_axis(scale, 1 if metric == "bleu" else 2)),
        element("th", "hydra is"),
        element("th", "would be seen from", class_="n"),
    )
    return element("div", element("table", element("thead", head), element("tbody", body)), class_="wide")


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
        "with the best value on these very users, which favours it."
    )
    drawn = plots.bars(values, [user for user, _ in ranked], words)
    return markup.join(
        [
            element("h2", "Who gains"),
            element("figure", element("div", drawn, class_="card"), element("figcaption", words)),
        ]
    )


def _choices(results: Mapping[str, Any]) -> markup.Markup | None:
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


def _curves(curves: Mapping[str, Mapping[str, Sequence[Sequence[plots.Number]]]]) -> markup.Markup | None:
    drawn = []
    for name, series in curves.items():
        known = {label: curve for label, curve in series.items() if curve}
        if known:
            plot = plots.lines(known, f"learning curves of {name}: {', '.join(known)}")
            drawn.append(element("div", element("h3", name), plot, class_="card"))
    return markup.join([element("h2", "Learning"), element("div", drawn, class_="grid2")]) if drawn else None


def _costs(results: Mapping[str, Any]) -> markup.Markup | None:
    if not results["new_user"]:
        return None
    head = element(
        "tr",
        element("th", "method"),
        [element("th", name, class_="n") for name in ("LLM calls", "input tokens", "output tokens", "dollars")],
    )
    body = [
        element(
            "tr",
            element("td", method, class_="name"),
            element("td", _amount(cost["calls"]), class_="n"),
            element("td", _amount(cost["input_tokens"]), class_="n"),
            element("td", _amount(cost["output_tokens"]), class_="n"),
            element("td", _dollars(cost["cost_usd"]), class_="n"),
            class_="ours" if method == roster.REFERENCE else None,
        )
        for method, cost in results["new_user"].items()
    ]
    return markup.join(
        [
            element("h2", "What a new user costs"),
            element(
                "p",
                "Everything that a method asks of the LLM for one more user: the labels that its head is fitted on, "
                "summaries, and the answers. Fitting a head is cheap; making its labels is not.",
                class_="note",
            ),
            element("div", element("table", element("thead", head), element("tbody", body)), class_="wide"),
        ]
    )


def _settings(config: Mapping[str, Any], results: Mapping[str, Any]) -> markup.Markup:
    stages = [(stage, _duration(seconds)) for stage, seconds in results["seconds"].items()]
    parts = []
    for title, pairs in (("Time by stage", stages), ("Settings", list(_flat(config)))):
        if pairs:
            rows = [element("tr", element("td", k, class_="name"), element("td", v, class_="answer")) for k, v in pairs]
            inside = element("div", element("div", element("table", rows), class_="wide"), class_="inside")
            parts.append(element("details", element("summary", title), inside))
    return markup.join([element("h2", "Settings and time"), *parts]) if parts else markup.Markup("")


def _value_cell(cell: Mapping[str, Any], metric: str, *, signed: bool = False, best: bool = False) -> markup.Markup:
    interval = summary.span(cell["low"], cell["high"], metric, signed=signed)
    value = element("span", summary.number(cell["value"], metric, signed=signed), class_="best" if best else None)
    return element("td", value, element("span", interval, class_="span") if interval else None, class_="n")


def _best(methods: Mapping[str, Any], metric: str) -> set[str]:
    sign = 1.0 if metrics.STATISTICS[metric].higher_is_better else -1.0
    values = {method: sign * methods[method][metric]["value"] for method in methods if method != roster.CEILING}
    return {method for method, value in values.items() if value == max(values.values())}


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [pair for key, item in value.items() for pair in _flat(item, f"{name}.{key}" if name else str(key))]
    if isinstance(value, str):
        return [(name, value)]
    return [(name, json.dumps(value, ensure_ascii=False))]


def _amount(value: plots.Number) -> str:
    return f"{value:,.0f}" if value >= 100 or float(value).is_integer() else f"{value:,.1f}"


def _dollars(value: plots.Number | None) -> str:
    if value is None:
        return "–"
    return f"${value:,.2f}" if value == 0 or value >= 0.1 else f"${value:.2g}"


def _duration(seconds: plots.Number) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def _read(path: pathlib.Path) -> Any:
    if not path.is_file():
        raise DataError(f"{path} is missing, expected the folder of a finished run")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: is no JSON ({error.msg}, line {error.lineno})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: is {type(content).__name__}, expected a JSON object")
    return content
