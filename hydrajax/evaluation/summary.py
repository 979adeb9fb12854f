"""A run in words and in a table for the terminal: who is better than whom, and what these users cannot tell."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box, table, text

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


MOST_NAMED = 8  # methods in a sentence


def metric_names(results: Mapping[str, Any]) -> tuple[str, ...]:
    """The metrics of a run; the first decides."""
    return tuple(next(iter(results["methods"].values()), {}))


def title(metric: str) -> str:
    """The metric's name with the direction in which it is better."""
    return f"{TITLES[metric]} {'↑' if metrics.STATISTICS[metric].higher_is_better else '↓'}"


def number(value: int | float | None, metric: str, *, signed: bool = False) -> str:
    """A value with as many digits as the metric deserves; an en dash for what is not known."""
    if value is None:
        return "–"
    digits = 2 if metric == "bleu" else 3
    shown = f"{value:{'+' if signed else ''}.{digits}f}"
    # A difference that rounds to zero has no sign.
    return shown.lstrip("+-") if float(shown) == 0 else shown.replace("-", "−")


def span(low: int | float | None, high: int | float | None, metric: str, *, signed: bool = False) -> str:
    """An interval in brackets, empty where there is none."""
    if low is None or high is None:
        return ""
    return f"[{number(low, metric, signed=signed)}, {number(high, metric, signed=signed)}]"


def with_interval(
    value: int | float | None, low: int | float | None, high: int | float | None, metric: str, *, signed: bool = False
) -> str:
    """`value [low, high]`, the value alone where there is no interval."""
    return f"{number(value, metric, signed=signed)} {span(low, high, metric, signed=signed)}".rstrip()


def verdict(comparison: Mapping[str, Any]) -> str:
    """`better`, `worse` (the interval excludes zero), or `not shown`."""
    if comparison["low"] is None:
        return "not shown"
    if comparison["low"] > 0:
        return "better"
    return "worse" if comparison["high"] < 0 else "not shown"


def verdicts(results: Mapping[str, Any]) -> list[str]:
    """What the run shows, in sentences: where hydra wins, where it loses, what stays open, how sharp the test was."""
    names = metric_names(results)
    rivals = [c for c in results["comparisons"] if c["b"] not in roster.CEILINGS]
    if not names or not rivals:
        return ["There is no comparison: hydra, or everything that it could be compared with, was not run."]
    metric = names[0]
    deciding = [c for c in rivals if c["metric"] == metric]
    reference = deciding[0]["a"]
    own = results["methods"][reference][metric]
    sentences = [
        f"On {TITLES[metric]}, which decides, {reference} reaches {number(own['value'], metric)} "
        f"{span(own['low'], own['high'], metric)}".rstrip()
        + f" over {results['queries']} questions of "
        f"{results['users']} users."
    ]
    sentences += [_won(deciding, metric), _lost(deciding, metric, reference), _open(deciding, metric)]
    sentences += [_elsewhere(rivals, names[1:], reference)]
    # Without any spread between users (the same answers throughout) nothing is known of what could be detected.
    sharp = [c["detectable"] for c in deciding if c["detectable"]]
    if sharp:
        least, most = number(min(sharp), metric), number(max(sharp), metric)
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


def text_table(results: Mapping[str, Any]) -> table.Table:
    """The methods with their metrics and 95 % intervals, grouped as in the report, for the terminal."""
    names = metric_names(results)
    shown = table.Table(box=box.SIMPLE_HEAD, title=f"{results['task']}, {results['split']}: {results['users']} users")
    shown.add_column("method")
    for metric in names:
        shown.add_column(title(metric), justify="right", no_wrap=True)
    for name, methods in roster.groups(tuple(results["methods"])):
        shown.add_row(text.Text(name, style="dim italic"))
        for method in methods:
            style = "bold" if method == roster.REFERENCE else ""
            cells = []
            for metric in names:
                cell = results["methods"][method][metric]
                value = text.Text(number(cell["value"], metric))
                value.append(f" {span(cell['low'], cell['high'], metric)}".rstrip(), style="dim")
                cells.append(value)
            shown.add_row(text.Text(f"  {method}"), *cells, style=style)
    return shown


def _union(results: Mapping[str, Any], metric: str) -> str:
    union = results.get("union")
    if not union:
        return ""
    rivals = [c for c in union["comparisons"] if c["b"] not in roster.CEILINGS]
    value = results["methods"]["union"][metric]
    said = [f"The union reaches {number(value['value'], metric)} {span(value['low'], value['high'], metric)}".rstrip()]
    better = sum(verdict(c) == "better" for c in rivals)
    said.append(f"better than {better} of the {len(rivals)} other methods")
    for words, kind in (("worse than", "worse"), ("undecided beside", "not shown")):
        names = [c["b"] for c in rivals if verdict(c) == kind]
        named = _and(names) if 0 < len(names) <= MOST_NAMED else f"{len(names)} that its table names"
        said += [f"{words} {named}"] if names else []
    return "; ".join(said) + "."


def _personal(results: Mapping[str, Any]) -> str:
    tried = results.get("personal")
    if not tried:
        return ""
    shown = [c["a"] for c in tried if verdict(c) == "better"]
    rest = [c["a"] for c in tried if verdict(c) != "better"]
    yes = f"Beats itself with another user's records, and so is personal: {_and(shown)}." if shown else ""
    no = f"Not shown to be personal: {_and(rest)}." if rest else ""
    return f"{yes} {no}".strip()


def _won(comparisons: Sequence[Mapping[str, Any]], metric: str) -> str:
    won = [c["b"] for c in comparisons if verdict(c) == "better"]
    if not won:
        return f"It is not shown to be better than any other method or control on {TITLES[metric]}."
    return f"Better than {_and(won)}: there the interval of the difference excludes zero."


def _lost(comparisons: Sequence[Mapping[str, Any]], metric: str, reference: str) -> str:
    lost = [c for c in comparisons if verdict(c) == "worse"]
    if not lost:
        return f"No method or control is shown to be better than {reference} on {TITLES[metric]}."
    return f"{reference} loses to {_list(lost, metric)}: there the interval of the difference excludes zero."


def _open(comparisons: Sequence[Mapping[str, Any]], metric: str) -> str:
    undecided = [c for c in comparisons if verdict(c) == "not shown"]
    parts = {
        "behind": [c for c in undecided if c["difference"] < 0],
        "ahead of": [c for c in undecided if c["difference"] > 0],
        "level with": [c for c in undecided if c["difference"] == 0],
    }
    said = [
        f"{where} {_list(cs, metric) if where == 'behind' else _and([c['b'] for c in cs])}"
        for where, cs in parts.items()
        if cs
    ]
    why = "because the interval contains zero" if any(c["low"] is not None for c in undecided) else "without intervals"
    return f"Undecided, {why}: {'; '.join(said)}." if said else ""


def _elsewhere(comparisons: Sequence[Mapping[str, Any]], names: Sequence[str], reference: str) -> str:
    parts = []
    for metric in names:
        lost = [c for c in comparisons if c["metric"] == metric and verdict(c) == "worse"]
        if lost:
            parts.append(f"on {TITLES[metric]} to {_list(lost, metric)}")
    return f"On other metrics {reference} loses: {'; '.join(parts)}." if parts else ""


def _list(comparisons: Sequence[Mapping[str, Any]], metric: str) -> str:
    return _and([f"{c['b']} ({_difference(c, metric)})" for c in comparisons])


def _difference(comparison: Mapping[str, Any], metric: str) -> str:
    interval = span(comparison["low"], comparison["high"], metric, signed=True)
    return f"{number(comparison['difference'], metric, signed=True)} {interval}".rstrip()


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
