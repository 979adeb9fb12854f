"""The report of an authorship run: win rates with the judge's own accuracy beside them, as a page and as a table."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box, table

from hydrajax import files
from hydrajax.evaluation import markup, summary
from hydrajax.evaluation.authorship import results as results_lib
from hydrajax.evaluation.report import contents, parts, plots, tables, users
from hydrajax.methods import shuffled
from hydrajax.prompting import library

element = markup.element
Values = Mapping[str, Any]
EXAMPLES = 3
SHOWN_WORDS = 80
SHUFFLED = "its shuffled self"
_ENDS = ("accuracy", "floor", "ceiling")
_RATES = {...: {"value": float, "low": (float, None), "high": (float, None)}}
_JUDGE = {
    "kind": str,
    "words": int,
    **{name: float for name in _ENDS},
    **{f"{name}_{end}": (float, None) for name in _ENDS for end in ("low", "high")},
    **{f"accuracy_alike{end}?": (float, None) for end in ("", "_low", "_high")},
    "by_words": _RATES,
    "llm?": (str, None),
    "unreadable": int,
    "cross_validation?": float,
    "training_texts?": int,
}
_RESULTS = contents.COMMON | {
    "judge": _JUDGE,
    "judge_llm?": (None, contents.LLM),
    "win_rates": {...: _RATES},
    "personal": {...: (bool, None)},
    "copied": {...: {str(n): (float, None) for n in results_lib.COPIED}},
    "words": {...: float},
    "empty": {...: int},
    "user_models": {...: {...: str}},
    "notes": [str],
    "faults": {...: int},
}
_ROW = {"user": str, "input": str, "texts": {...: [str]}}
PERSONAL = {
    True: "it is personal",
    False: "it is not shown to be personal",
    None: "too few authors to say whether it is personal",
}
NAMES = {results_lib.THE_AUTHOR: "the author's real text", results_lib.ANOTHER_AUTHOR: "another author's real text"}


def write_report(folder: pathlib.Path) -> pathlib.Path:
    """Writes `report.html` into a run folder, whole or not at all, and returns its path.

    Raises:
      DataError: a file of the run is missing or broken.
    """
    config = contents.read_object(folder / "config.json", contents.COMMAND)
    results = contents.read_object(folder / "results.json", _RESULTS)
    rows = contents.read_predictions(folder / "predictions.jsonl", _ROW)
    user_models = contents.read_lines(folder / library.FILE, contents.USER_MODEL)
    path = folder / "report.html"
    files.write_text(path, render(config, results, rows, user_models))
    return path


def render(config: Values, results: Values, rows: Sequence[Values], user_models: Sequence[Values] = ()) -> str:
    """The report as HTML, from the contents of a run folder."""
    return parts.page(
        f"{results['experiment']}: {results['task']}",
        _what_was_run(config, results),
        parts.verdicts(verdicts(results)),
        _judge(results),
        _win_rates(results),
        _copied(results),
        _user_models(results, user_models),
        _examples(rows),
        parts.settings({name: value for name, value in config.items() if name != "command"}, results),
    )


def verdicts(results: Values) -> list[str]:
    """What the run shows, in sentences: how good the judge is, who beats whom, and what is personal."""
    judge, rates = results["judge"], results["win_rates"]
    sentences = [
        f"The judge ({judge['kind']}) prefers an author's real text to another author's in {_share(judge, 'accuracy')} "
        f"of pairs of {judge['words']} words (a guess: 50%). Against zero-shot, the author's real text wins "
        f"{_share(judge, 'ceiling')} (ceiling), another author's {_share(judge, 'floor')} (floor)."
    ]
    if "accuracy_alike" in judge:
        sentences.append(
            f"Where the other author's text is the one nearest in its subject, the judge is right in "
            f"{_share(judge, 'accuracy_alike')}. Texts that begin with the same sentence share theirs."
        )
    for strategy, against in rates.items():
        if strategy != results_lib.ZERO_SHOT:
            rate = against[results_lib.ZERO_SHOT]
            sentences.append(f"{strategy} wins {summary.share(**rate)} against zero_shot: {_verdict(rate)}.")
    for strategy, personal in results["personal"].items():
        rate = rates[strategy][shuffled.name(strategy)]
        words = f"{strategy} wins {summary.share(**rate)} against itself with another author's texts"
        sentences.append(f"{words}: {PERSONAL[personal]}.")
    return sentences


def text_table(results: Values) -> table.Table:
    """Win rates for the terminal: strategies in rows, against whom in columns."""
    names = [*results["win_rates"], SHUFFLED, results_lib.THE_AUTHOR, results_lib.ANOTHER_AUTHOR]
    rates = table.Table(box=box.SIMPLE, title=f"{results['task']}: win rates over {results['users']} authors")
    rates.add_column("strategy", no_wrap=True)
    for name in names:
        rates.add_column(f"against {name}", justify="right")
    for strategy, against in results["win_rates"].items():
        met = [against.get(shuffled.name(strategy) if name == SHUFFLED else name) for name in names]
        rates.add_row(strategy, *("–" if rate is None else summary.share(**rate) for rate in met))
    return rates


def _share(judge: Values, name: str) -> str:
    return summary.share(judge[name], judge[f"{name}_low"], judge[f"{name}_high"])


def _verdict(rate: Values) -> str:
    if rate["low"] is None:
        return "too few authors for an interval"
    verdict = summary.verdict(rate, than=0.5)
    return "no difference is shown" if verdict == "not shown" else f"it is {verdict}"


def _what_was_run(config: Values, results: Values) -> markup.Markup:
    judge, judge_llm = results["judge"], results.get("judge_llm")
    facts = {
        "authors": f"{results['users']:,}",
        "test texts": f"{results['queries']:,}",
        **parts.spent(results),
        "judge": judge.get("llm") or judge["kind"],
    }
    if judge_llm is not None:
        facts |= {
            "judge's calls sent": f"{judge_llm['calls']:,}",
            "judge's from the store": f"{judge_llm['cached']:,}",
            "judge's cost": parts.dollars(judge_llm["cost_usd"]),
        }
    about = "Articles that start with a given sentence, written in the style of an author."
    notes = [parts.note(f"Note: {note}.") for note in results["notes"]]
    return markup.join([parts.header("HyPerAlign: authorship", about, config, facts), notes])


def _judge(results: Values) -> markup.Markup:
    judge = results["judge"]
    rows = [
        ("real text of the author against one of another author (accuracy)", _share(judge, "accuracy")),
        ("the author's real text against zero_shot (ceiling)", _share(judge, "ceiling")),
        ("another author's real text against zero_shot (floor)", _share(judge, "floor")),
    ]
    if "accuracy_alike" in judge:
        rows.insert(1, ("the same, where the subject is as near as there is", _share(judge, "accuracy_alike")))
    rows += [(f"accuracy on the first {n} words", summary.share(**rate)) for n, rate in judge["by_words"].items()]
    if "cross_validation" in judge:
        rows.append(
            (f"authors found among its {judge['training_texts']} training texts", f"{judge['cross_validation']:.0%}")
        )
    if judge["kind"] == "llm":
        rows.append(("verdicts that could not be read, and count as half", str(judge["unreadable"])))
    words = (
        "It compares two texts after both are cut to the same number of words. Held-out real texts say how far it can "
        "be believed; since they differ in their subjects too, it knows less of style alone."
    )
    return parts.section("The judge", parts.note(words), tables.html((("pairs", None), ("right, or won", "n")), rows))


def _win_rates(results: Values) -> markup.Markup:
    note = parts.note(
        "How often the judge finds a strategy's text more likely by the author, averaged over authors; in brackets the "
        "95 % interval of a bootstrap over authors. The line is 50 %."
    )
    columns = (("against", "name"), ("wins", "n"), ("", None), ("verdict", None))
    of_strategies = []
    for strategy, against in results["win_rates"].items():
        rows = []
        for other, rate in against.items():
            verdict = summary.verdict(rate, than=0.5)
            kind = "open" if verdict == "not shown" else verdict
            drawn = plots.interval_row(**rate, scale=(0.0, 1.0), line=0.5, kind=f"zeroline {kind}")
            words = element("span", _verdict(rate), class_=kind)
            rows.append((NAMES.get(other, other), summary.share(**rate), drawn, words))
        of_strategies += [element("h3", strategy), tables.html(columns, rows)]
    return parts.section("Win rates", note, of_strategies)


def _copied(results: Values) -> markup.Markup:
    sizes = [str(n) for n in results_lib.COPIED]
    rows = []
    for name, shares in results["copied"].items():
        copied = ("–" if shares[n] is None else f"{shares[n]:.1%}" for n in sizes)
        words = f"{results['words'][name]:,.0f}"
        rows.append((NAMES.get(name, name), words, str(results["empty"][name]), *copied))
    numbers = ("mean words", "empty", *(f"{n}-grams copied" for n in sizes))
    note = parts.note("The share of a text's word sequences that the author's shown texts hold word for word.")
    copies = tables.html([("texts of", "name"), *((name, "n") for name in numbers)], rows)
    return parts.section("Lengths and copies", note, copies)


def _user_models(results: Values, user_models: Sequence[Values]) -> markup.Markup | None:
    models = []
    for author, by_strategy in results["user_models"].items():
        for strategy, text in by_strategy.items():
            paragraphs = [element("p", line) for line in users.shortened(text).splitlines() if line.strip()]
            models.append(parts.details([f"{author} ", parts.soft(strategy)], paragraphs))
    return users.learned("What was learned of authors", models, user_models, results["faults"])


def _examples(rows: Sequence[Values]) -> markup.Markup:
    examples = []
    for row in rows[:EXAMPLES]:
        pairs = []
        for name, texts in row["texts"].items():
            words = texts[0].split()
            text = " ".join(words[:SHOWN_WORDS]) + (" ..." if len(words) > SHOWN_WORDS else "")
            pairs.append((NAMES.get(name, name), text or "(empty)"))
        examples.append(parts.details([f"{row['user']}: ", parts.soft(row["input"])], parts.pairs(pairs)))
    return parts.section("Examples", examples)
