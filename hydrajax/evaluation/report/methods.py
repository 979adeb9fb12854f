"""The tables of the report: methods, comparisons, and what a new user costs."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydrajax import metrics
from hydrajax.evaluation import markup, roster, summary
from hydrajax.evaluation.report import plots

element = markup.element


def methods_table(results: Mapping[str, Any]) -> markup.Markup | None:
    """Every method on every metric, with intervals; None where nothing was run."""
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
        f"shows {summary.TITLES[deciding]}; the dotted line is hydra. The best value of a column is bold, oracles "
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


def union_tables(results: Mapping[str, Any]) -> markup.Markup | None:
    """The union against every other, and every strategy against itself with another user's records."""
    parts: list[markup.Markup] = []
    metric = next(iter(summary.metric_names(results)), "")
    union = results.get("union")
    if union:
        parts += [element("h2", "The union against every other"), element("p", _union_words(results), class_="note")]
        parts.append(_comparison_table(union["comparisons"], metric))
    if results.get("personal"):
        note = (
            "A strategy that does not beat itself with another user's records may show the LLM how an answer looks; it "
            "is not personal."
        )
        parts += [element("h2", "Is the prompt personal?"), element("p", note, class_="note")]
        parts.append(_comparison_table(results["personal"], metric))
    return markup.join(parts) if parts else None


def _union_words(results: Mapping[str, Any]) -> str:
    found = results["union"]["captured"]
    source = found["source"]
    if found["from_best_source"] is None:
        return f"Of the distance from {source} to the union's oracle no share can be told."
    ends = "" if found["low"] is None else f" [{found['low']:.0%}, {found['high']:.0%}]"
    return (
        f"Of the distance from {source}, the best single source by the validation users, to the union's oracle, "
        f"it goes {found['from_best_source']:.0%}{ends}."
    ).replace("-", "−")


def comparisons_table(results: Mapping[str, Any]) -> markup.Markup | None:
    """hydra against every other method and control, on each metric."""
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
    several = len({c["a"] for c in comparisons}) > 1
    by_name = {c["a"] if several else c["b"]: c for c in comparisons}
    name = "strategy" if several else comparisons[0]["a"]
    body = []
    for group, members in roster.groups(tuple(by_name)):
        body.append(element("tr", element("th", group, colspan=5, scope="colgroup"), class_="group"))
        for method in members:
            c = by_name[method]
            verdict = summary.verdict(c)
            kind = "open" if verdict == "not shown" else verdict
            words = verdict
            if c["b"] in roster.CEILINGS:
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
        element("th", "own records minus another user's" if several else f"{name} minus"),
        element("th", "difference", class_="n"),
        element("th", plots.interval_axis(scale, 1 if metric == "bleu" else 2)),
        element("th", f"{name} is"),
        element("th", "would be seen from", class_="n"),
    )
    return element("div", element("table", element("thead", head), element("tbody", body)), class_="wide")


def costs_table(results: Mapping[str, Any]) -> markup.Markup | None:
    """What one more user asks of the LLM, by method."""
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
            element("td", dollars(cost["cost_usd"]), class_="n"),
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


def _amount(value: plots.Number) -> str:
    return f"{value:,.0f}" if value >= 100 or float(value).is_integer() else f"{value:,.1f}"


def dollars(value: plots.Number | None) -> str:
    """US dollars with as many digits as they deserve; an en dash where no price is known."""
    if value is None:
        return "–"
    return f"${value:,.2f}" if value == 0 or value >= 0.1 else f"${value:.2g}"


def _value_cell(cell: Mapping[str, Any], metric: str, *, signed: bool = False, best: bool = False) -> markup.Markup:
    interval = summary.span(cell["low"], cell["high"], metric, signed=signed)
    value = element("span", summary.number(cell["value"], metric, signed=signed), class_="best" if best else None)
    return element("td", value, element("span", interval, class_="span") if interval else None, class_="n")


def _best(methods: Mapping[str, Any], metric: str) -> set[str]:
    sign = 1.0 if metrics.STATISTICS[metric].higher_is_better else -1.0
    values = {method: sign * methods[method][metric]["value"] for method in methods if method not in roster.CEILINGS}
    return {method for method, value in values.items() if value == max(values.values())}
