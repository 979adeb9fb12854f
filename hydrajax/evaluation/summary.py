"""A run in words and in a table for the terminal: who is better than whom, and what these users cannot tell."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box, table
from rich import text as rich_text

from hydrajax import metrics
from hydrajax.evaluation import intervals, roster

TITLES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "mae": "MAE",
    "rmse": "RMSE",
    "rouge1": "ROUGE-1",
    "rougeL": "ROUGE-L",
    "bleu": "BLEU",
    "reward": "reward",
}
Values = Mapping[str, Any]
Number = int | float | None
MOST_NAMED = 8  # methods in a sentence


def metric_names(results: Values) -> tuple[str, ...]:
    """The metrics of a run; the first decides."""
    return tuple(next(iter(results["methods"].values()), {}))


def title(metric: str) -> str:
    """The metric's name with the direction in which it is better."""
    return f"{TITLES[metric]} {'↑' if metrics.STATISTICS[metric].higher_is_better else '↓'}"


def number(value: Number, metric: str = "", *, signed: bool = False) -> str:
    """A value with as many digits as the metric deserves; an en dash for what is not known."""
    if value is None:
        return "–"
    digits = 2 if metric == "bleu" else 3
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    # A difference that rounds to zero has no sign.
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def span(low: Number, high: Number, metric: str = "", *, signed: bool = False) -> str:
    """An interval in brackets, empty where there is none."""
    if low is None or high is None:
        return ""
    return f"[{number(low, metric, signed=signed)}, {number(high, metric, signed=signed)}]"


def with_interval(value: Number, low: Number, high: Number, metric: str = "", *, signed: bool = False) -> str:
    """`value [low, high]`, the value alone where there is no interval."""
    return f"{number(value, metric, signed=signed)} {span(low, high, metric, signed=signed)}".rstrip()


def share(value: float, low: float | None, high: float | None) -> str:
    """`with_interval` in per cent."""
    interval = "" if low is None or high is None else f" [{low:.0%}, {high:.0%}]"
    return f"{value:.0%}{interval}".replace("-", "−")


def verdict(estimate: Values, than: float = 0.0) -> str:
    """`better` or `worse` than that (the interval excludes it), or `not shown`.

    Args:
      estimate: a difference or a rate, its ends are `low` and `high`.
      than: what an equal method would have.
    """
    if estimate["low"] is None or estimate["low"] <= than <= estimate["high"]:
        return "not shown"
    return "better" if estimate["low"] > than else "worse"


def verdicts(results: Values) -> list[str]:
    """What the run shows, in sentences: where hydra wins, where it loses, what stays open, how sharp the test was."""
    names = metric_names(results)
    rivals = [c for c in results["comparisons"] if c["b"] not in roster.CEILINGS]
    if not names or not rivals:
        return ["There is no comparison: hydra, or everything that it could be compared with, was not run."]
    metric = names[0]
    deciding = [c for c in rivals if c["metric"] == metric]
    reference = deciding[0]["a"]
    reached = with_interval(**results["methods"][reference][metric], metric=metric)
    sentences = [
        f"On {TITLES[metric]}, which decides, {reference} reaches {reached} over {results['queries']} questions of "
        f"{results['users']} users."
    ]
    by_verdict = _by_verdict(deciding)
    sentences += [_won(by_verdict["better"], metric), _lost(by_verdict["worse"], metric, reference)]
    sentences += [_open(by_verdict["not shown"], metric), _elsewhere(rivals, names[1:], reference)]
    # Without any spread between users (the same answers throughout) nothing is known of what could be detected.
    detectable = [c["detectable"] for c in deciding if c["detectable"]]
    if detectable:
        least, most = number(min(detectable), metric), number(max(detectable), metric)
        between = least if least == most else f"{least} to {most}"
        sentences.append(
            f"The smallest difference that this many users would show, four times out of five, is {between}, depending "
            "on the comparison. Where nothing differs, one interval in twenty excludes zero by chance."
        )
    elif results["users"] < intervals.FEWEST_USERS:
        sentences.append(
            f"Fewer than {intervals.FEWEST_USERS} users tell too little about others: there are no intervals."
        )
    sentences += [_union(results, metric), _personal(results)]
    return [sentence for sentence in sentences if sentence]


def text_table(results: Values) -> table.Table:
    """The methods with their metrics and 95 % intervals, grouped as in the report, for the terminal."""
    names = metric_names(results)
    heading = f"{results['task']}, {results['split']}: {results['users']} users"
    columns = [table.Column(title(metric), justify="right", no_wrap=True) for metric in names]
    rows = table.Table("method", *columns, box=box.SIMPLE_HEAD, title=heading)
    for group, methods in roster.groups(results["methods"]):
        rows.add_row(rich_text.Text(group, style="dim italic"))
        for method in methods:
            cells = [_cell(results["methods"][method][metric], metric) for metric in names]
            rows.add_row(rich_text.Text(f"  {method}"), *cells, style="bold" if method == roster.REFERENCE else "")
    return rows


def _cell(interval: Values, metric: str) -> rich_text.Text:
    ends = span(interval["low"], interval["high"], metric)
    return rich_text.Text.assemble(number(interval["value"], metric), (f" {ends}".rstrip(), "dim"))


def captured(share_of: Values, oracle: str, method: str) -> str:
    """How far `method` goes from the best single source to `oracle`; nothing where there is no such source."""
    source = share_of["source"]
    if source is None:
        return ""
    if share_of["from_best_source"] is None:
        return (
            f"{oracle.capitalize()} is no better than {source}, the best single source: there is no share to capture."
        )
    reached = share(share_of["from_best_source"], share_of["low"], share_of["high"])
    return (
        f"Of the distance from {source}, the best single source by the validation users, to {oracle}, {method} goes "
        f"{reached} ({TITLES[share_of['metric']]})."
    )


def _union(results: Values, metric: str) -> str:
    union = results.get("union")
    if not union:
        return ""
    rivals = [c for c in union["comparisons"] if c["b"] not in roster.CEILINGS]
    by_verdict = _by_verdict(rivals)
    parts = [f"The union reaches {with_interval(**results['methods']['union'][metric], metric=metric)}"]
    for words, kind in (("better than", "better"), ("worse than", "worse"), ("undecided beside", "not shown")):
        names = [c["b"] for c in by_verdict[kind]]
        if names:
            parts.append(f"{words} {_and(names) if len(names) <= MOST_NAMED else f'{len(names)} that its table names'}")
        elif kind == "better":
            parts.append(f"not shown to be better than any of the {len(rivals)} other methods and controls")
    return "; ".join(parts) + "."


def _personal(results: Values) -> str:
    comparisons = results.get("personal") or []
    better = [c["a"] for c in comparisons if verdict(c) == "better"]
    rest = [c["a"] for c in comparisons if verdict(c) != "better"]
    yes = f"Beats itself with another user's records, and so is personal: {_and(better)}." if better else ""
    no = f"Not shown to be personal: {_and(rest)}." if rest else ""
    return f"{yes} {no}".strip()


def _by_verdict(comparisons: Iterable[Values]) -> dict[str, list[Values]]:
    by_verdict: dict[str, list[Values]] = {"better": [], "worse": [], "not shown": []}
    for comparison in comparisons:
        by_verdict[verdict(comparison)].append(comparison)
    return by_verdict


def _won(better: Sequence[Values], metric: str) -> str:
    if not better:
        return f"It is not shown to be better than any other method or control on {TITLES[metric]}."
    return f"Better than {_and([c['b'] for c in better])}: there the interval of the difference excludes zero."


def _lost(worse: Sequence[Values], metric: str, reference: str) -> str:
    if not worse:
        return f"No method or control is shown to be better than {reference} on {TITLES[metric]}."
    return f"{reference} loses to {_list(worse, metric)}: there the interval of the difference excludes zero."


def _open(undecided: Sequence[Values], metric: str) -> str:
    behind = [c for c in undecided if c["difference"] < 0]
    ahead = [c["b"] for c in undecided if c["difference"] > 0]
    level = [c["b"] for c in undecided if c["difference"] == 0]
    parts = [f"behind {_list(behind, metric)}"] if behind else []
    parts += [f"{where} {_and(names)}" for where, names in (("ahead of", ahead), ("level with", level)) if names]
    why = "because the interval contains zero" if any(c["low"] is not None for c in undecided) else "without intervals"
    return f"Undecided, {why}: {'; '.join(parts)}." if parts else ""


def _elsewhere(comparisons: Sequence[Values], names: Sequence[str], reference: str) -> str:
    worse = [c for c in comparisons if verdict(c) == "worse"]
    by_metric = {metric: [c for c in worse if c["metric"] == metric] for metric in names}
    parts = [f"on {TITLES[metric]} to {_list(lost, metric)}" for metric, lost in by_metric.items() if lost]
    return f"On other metrics {reference} loses: {'; '.join(parts)}." if parts else ""


def _list(comparisons: Sequence[Values], metric: str) -> str:
    return _and(
        [f"{c['b']} ({with_interval(c['difference'], c['low'], c['high'], metric, signed=True)})" for c in comparisons]
    )


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
