"""The report's tables of methods: their values, their differences, and what a new user costs."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydrajax.evaluation import intervals, markup, roster, summary
from hydrajax.evaluation.report import parts, plots, tables

element = markup.element


def values(results: Mapping[str, Any]) -> markup.Markup | None:
    """Every method on every metric, with intervals; None where nothing was run."""
    names = summary.metric_names(results)
    if not names:
        return None
    methods, deciding = results["methods"], names[0]
    scale = plots.extent([methods[m][deciding][end] for m in methods for end in ("value", "low", "high")])
    reference = methods.get(roster.REFERENCE, next(iter(methods.values())))[deciding]["value"]
    best = {name: _best(methods, name) for name in names}
    columns: list[tables.Column] = [
        ("method", "name"),
        *((summary.title(name), "n") for name in names),
        (plots.interval_axis(scale, 1 if deciding == "bleu" else 2), None),
    ]
    cells = {}
    for method, of_metric in methods.items():
        kind = "ours" if method == roster.REFERENCE else ""
        drawn = plots.interval_row(**of_metric[deciding], scale=scale, line=reference, kind=kind)
        cells[method] = [_value(of_metric[name], name, best=method in best[name]) for name in names] + [drawn]
    words = (
        "In brackets the 95 % interval of a bootstrap over users, in which a user's questions stay together. The plot "
        f"shows {summary.TITLES[deciding]}; the dotted line is hydra. The best value of a column is bold, oracles "
        "left aside."
    )
    if "macro_f1" in names:
        words += (
            " Macro-F1 averages over all labels of the task; a draw of users may lack a rare one, which counts as 0, "
            "so its intervals reach far down."
        )
    signature = results.get("bleu_signature")
    explained = [(method, roster.EXPLAINED[method]) for method in roster.ordered(methods) if method in roster.EXPLAINED]
    return parts.section(
        "Methods",
        parts.note(words),
        tables.grouped(columns, cells, roster.REFERENCE),
        parts.note(f"BLEU is sacrebleu's corpus score, 0 to 100, signature {signature}.") if signature else None,
        _per_user(results, names),
        parts.details("What the methods are", parts.pairs(explained)),
    )


def _per_user(results: Mapping[str, Any], names: Sequence[str]) -> markup.Markup | None:
    averages = results.get("per_user") or {}
    names = [name for name in names if any(name in of_metric for of_metric in averages.values())]
    if not names:
        return None
    cells = {method: [_value(of_metric[name], name) for name in names] for method, of_metric in averages.items()}
    table = _ranked([("method", "name"), *((summary.title(name), "n") for name in names)], cells)
    return parts.details(["Averages per user ", parts.soft("every user counts the same")], table)


def comparisons(results: Mapping[str, Any]) -> markup.Markup | None:
    """hydra against every other method and control, on each metric."""
    if not results["comparisons"]:
        return None
    deciding, *others = (
        (summary.TITLES[metric], _comparisons([c for c in results["comparisons"] if c["metric"] == metric], metric))
        for metric in summary.metric_names(results)
    )
    words = (
        "Differences on the same resamples of users, turned so that positive means that hydra is better. The last "
        "column is the smallest true difference that this many users would show in four of five repetitions: a "
        "comparison without a result does not say that there is no difference below it."
    )
    title, table = deciding
    folded = [parts.details(other, hidden) for other, hidden in others]
    return parts.section("hydra against every other", parts.note(words), element("h3", title), table, folded)


def union(results: Mapping[str, Any]) -> markup.Markup | None:
    """The union against every other, and every strategy against itself with another user's records."""
    metric = next(iter(summary.metric_names(results)), "")
    sections = []
    against = results.get("union")
    if against:
        words = summary.captured(against["captured"], "the union's oracle", "it")
        table = _comparisons(against["comparisons"], metric)
        sections.append(parts.section("The union against every other", parts.note(words), table))
    if results.get("personal"):
        words = (
            "A strategy that does not beat itself with another user's records may show the LLM how an answer looks; it "
            "is not personal."
        )
        table = _comparisons(results["personal"], metric)
        sections.append(parts.section("Is the prompt personal?", parts.note(words), table))
    return markup.join(sections) if sections else None


def _comparisons(comparisons: Sequence[Mapping[str, Any]], metric: str) -> markup.Markup:
    """Of one method with all others, or of several with their controls."""
    scale = plots.extent([c[end] for c in comparisons for end in ("difference", "low", "high")], include=0.0)
    several = len({c["a"] for c in comparisons}) > 1
    name = "strategy" if several else comparisons[0]["a"]
    columns: list[tables.Column] = [
        ("own records minus another user's" if several else f"{name} minus", "name"),
        ("difference", "n"),
        (plots.interval_axis(scale, 1 if metric == "bleu" else 2), None),
        (f"{name} is", None),
        ("would be seen from", "n"),
    ]
    cells = {}
    for c in comparisons:
        verdict = "ceiling" if c["b"] in roster.CEILINGS else summary.verdict(c)
        kind = verdict if verdict in ("better", "worse") else "open"
        interval = {"value": c["difference"], "low": c["low"], "high": c["high"]}
        cells[c["a"] if several else c["b"]] = (
            _value(interval, metric, signed=True),
            plots.interval_row(**interval, scale=scale, line=0.0, kind=f"zeroline {kind}"),
            element("span", verdict, class_=kind),
            summary.number(c["detectable"], metric),
        )
    return tables.grouped(columns, cells, None, among=[c[side] for c in comparisons for side in ("a", "b")])


def sources(shares: Mapping[str, Mapping[str, float]]) -> markup.Markup:
    """Whose answers each method gives."""
    names = sorted({name for of_source in shares.values() for name in of_source})
    cells = {method: [f"{of_source.get(name, 0.0):.0%}" for name in names] for method, of_source in shares.items()}
    return _ranked([("answers of", "name"), *((name, "n") for name in names)], cells)


def costs(results: Mapping[str, Any]) -> markup.Markup | None:
    """What one more user asks of the LLM, by method."""
    if not results["new_user"]:
        return None
    columns = ("LLM calls", "input tokens", "output tokens", "dollars")
    cells = {
        method: [
            _amount(cost["calls"]),
            _amount(cost["input_tokens"]),
            _amount(cost["output_tokens"]),
            parts.dollars(cost["cost_usd"]),
        ]
        for method, cost in results["new_user"].items()
    }
    words = (
        "Everything that a method asks of the LLM for one more user: the labels that its head is fitted on, "
        "summaries, and the answers. Fitting a head is cheap; making its labels is not."
    )
    table = _ranked([("method", "name"), *((name, "n") for name in columns)], cells)
    return parts.section("What a new user costs", parts.note(words), table)


def _ranked(columns: Sequence[tables.Column], cells: Mapping[str, Sequence[markup.Child]]) -> markup.Markup:
    """A table of methods without groups."""
    rows = (
        tables.row(columns, method, *cells[method], ours=method == roster.REFERENCE) for method in roster.ordered(cells)
    )
    return tables.html(columns, rows)


def _amount(value: plots.Number) -> str:
    return f"{value:,.0f}" if value >= 100 or float(value).is_integer() else f"{value:,.1f}"


def _value(interval: Mapping[str, Any], metric: str, *, signed: bool = False, best: bool = False) -> markup.Markup:
    number = summary.number(interval["value"], metric, signed=signed)
    span = summary.span(interval["low"], interval["high"], metric, signed=signed)
    shown = element("span", number, class_="best" if best else None)
    return markup.join([shown, element("span", span, class_="span") if span else None])


def _best(methods: Mapping[str, Any], metric: str) -> set[str]:
    signed = {
        method: intervals.sign(metric) * values[metric]["value"]
        for method, values in methods.items()
        if method not in roster.CEILINGS
    }
    return {method for method, value in signed.items() if value == max(signed.values())}
