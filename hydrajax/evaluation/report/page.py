"""`report.html`: a run as one file that needs no network and can be sent to anybody.

Reads the run folder's `config.json` (its `command` is the exact command: a text or a list of words), `results.json`,
`predictions.jsonl`; where they exist, `invocations.jsonl`, `user_models.jsonl`, `choices.json` (what validation users
chose), and the learning curves, `curves.json` or `results["curves"]`:

    {PLOT: {SERIES: [[step, value], ...]}}

A prediction row may hold `record_texts`, {record id: text}, which are then shown with the ids.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from hydrajax import files
from hydrajax.evaluation import choosing, markup, summary
from hydrajax.evaluation.report import contents, methods, parts, plots, queries, users
from hydrajax.prompting import library

element = markup.element


def write_report(folder: pathlib.Path) -> pathlib.Path:
    """Writes `report.html` into a run folder, whole or not at all, and returns its path.

    Raises:
      DataError: a file of the run is missing or broken.
    """
    config = contents.read_object(folder / "config.json", contents.COMMAND)
    results = contents.read_results(folder / "results.json")
    rows = contents.read_predictions(folder / "predictions.jsonl")
    choices = _optional(folder / "choices.json", contents.CHOICES)
    curves = _optional(folder / "curves.json", contents.RESULTS["curves?"])
    invocations = contents.read_lines(folder / "invocations.jsonl", contents.INVOCATION)
    user_models = contents.read_lines(folder / library.FILE, contents.USER_MODEL)
    page = parts.page(
        f"{results['experiment']}: {results['task']}",
        _what_was_run(config, results, invocations),
        parts.verdicts(summary.verdicts(results)),
        methods.values(results),
        methods.comparisons(results),
        methods.union(results),
        _gains(results),
        _captured(results),
        _chosen(choices),
        _curves(curves or results.get("curves") or {}),
        methods.costs(results),
        users.section(user_models, choices.get("faults", {})),
        queries.section(results, rows),
        parts.settings(config, results),
    )
    path = folder / "report.html"
    files.write_text(path, page)
    return path


def _optional(path: pathlib.Path, form: Any) -> Mapping[str, Any]:
    return contents.read_object(path, form) if path.is_file() else {}


def _what_was_run(
    config: Mapping[str, Any], results: Mapping[str, Any], invocations: Sequence[Mapping[str, Any]]
) -> markup.Markup:
    facts = {"users": f"{results['users']:,}", "questions": f"{results['queries']:,}", **parts.spent(results)}
    if len(invocations) > 1:
        calls, seconds = (sum(invocation[name] for invocation in invocations) for name in ("calls", "seconds"))
        costs: list[Any] = [invocation.get("cost_usd") for invocation in invocations]
        paid = f", {parts.dollars(sum(costs))}" if None not in costs and sum(costs) else ""
        facts[f"all {len(invocations)} invocations"] = f"{calls:,} calls, {parts.duration(seconds)}{paid}"
    heading = f"{results['task']}, {results['split']} users"
    return parts.header(heading, f"Experiment {results['experiment']}.", config, facts)


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
    figure = element("figure", element("div", drawn, class_="card"), element("figcaption", words))
    return parts.section("Who gains", figure)


def _captured(results: Mapping[str, Any]) -> markup.Markup | None:
    captured, sources = results.get("captured"), results.get("sources")
    words = summary.captured(captured, "the oracle", "hydra") if captured else ""
    if not words and not sources:
        return None
    table = [element("h3", "Answers by source"), methods.sources(sources)] if sources else None
    return parts.section("How far the choice goes", element("p", words) if words else None, table)


def _chosen(choices: Mapping[str, Any]) -> markup.Markup | None:
    """What validation users chose, and what should be known of the data; of several folds, on how many of them."""
    sentences = choosing.sentences(choices)
    if "scorers" not in choices:
        return (
            parts.section("What was chosen", *(element("p", sentence) for sentence in sentences)) if sentences else None
        )
    for name, scorer in choices["scorers"].items():
        epochs = scorer["epochs"]
        heads = f"{epochs} epochs of personalisation" if epochs else "no personalisation: everybody has the pooled head"
        family = f"family {scorer['family']}, " if "family" in scorer else ""
        sentences.append(f"{name}: {family}{scorer['loss'].replace('_', '-')} loss, {heads}.")
    union = choices.get("union")
    if union:
        spread = ", ".join(f"{name} {n:.1f}" for name, n in union["candidates"].items())
        sentences.append(f"union: {union['settings']['union']}; candidates of a question: {spread}.")
    k = ", ".join(f"{name} {prompt['k']}" for name, prompt in choices["shown"].items())
    sentences += [f"Records shown: {k}.", *(f"Note: {note}." for note in choices.get("notes", ()))]
    return parts.section("What was chosen", *(element("p", sentence) for sentence in sentences))


def _curves(curves: Mapping[str, Mapping[str, plots.Curve]]) -> markup.Markup | None:
    drawn = []
    for name, series in curves.items():
        known = {label: curve for label, curve in series.items() if curve}
        if known:
            plot = plots.lines(known, f"learning curves of {name}: {', '.join(known)}")
            drawn.append(element("div", element("h3", name), plot, class_="card"))
    return parts.section("Learning", element("div", drawn, class_="grid2")) if drawn else None
