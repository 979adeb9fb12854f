"""The report of an authorship run: what it says, and that texts stay text."""

import pytest

from hydrajax.evaluation.authorship import report

RATE = {"value": 0.6, "low": 0.52, "high": 0.7}


@pytest.fixture
def results():
    values = {"": 0.75, "_low": 0.6, "_high": 0.9}
    ends = {f"{name}{end}": value for name in ("accuracy", "floor", "ceiling") for end, value in values.items()}
    real = {"the_author": dict(RATE), "another_author": dict(RATE)}
    rates = {
        "zero_shot": {"rag": {"value": 0.4, "low": 0.3, "high": 0.48}, **real},
        "rag": {"zero_shot": dict(RATE), "rag_shuffled": {"value": 0.5, "low": 0.4, "high": 0.6}, **real},
    }
    names = ("zero_shot", "rag", "rag_shuffled", "the_author", "another_author")
    return {
        "experiment": "hyperalign", "task": "authorship", "users": 10, "queries": 20,
        "llm": {"model": "m", "calls": 1, "cached": 0, "input_tokens": 5, "output_tokens": 6, "cost_usd": None},
        "judge": {"kind": "llm", "words": 90, "unreadable": 7, "by_words": {}, **ends},
        "win_rates": rates, "personal": {"rag": False},
        "copied": {name: {"5": 0.25, "8": None} for name in names},
        "words": dict.fromkeys(names, 90.0), "empty": dict.fromkeys(names, 0),
        "user_models": {"ann": {"pag": "likes <b>tags</b>"}}, "near_duplicates": 3, "notes": ["a note"],
        "faults": {"hypotheses: none": 2}, "seconds": {"texts": 1.5},
    }  # fmt: skip


ROWS = [{"user": "<i>ann</i>", "input": "It & so on.", "texts": {"zero_shot": [""], "the_author": ["word " * 100]}}]


def test_it_says_how_good_the_judge_is_and_who_is_better(results):
    said = " ".join(report.verdicts(results))
    assert "75% [60%, 90%] of pairs of 90 words" in said and "(ceiling)" in said and "(floor)" in said
    assert "rag wins 60% [52%, 70%] against zero_shot: it is better." in said
    assert "it is not shown to be personal" in said


def test_too_few_authors_are_said(results):
    results["personal"]["rag"] = None
    for against in results["win_rates"].values():
        for rate in against.values():
            rate.update(low=None, high=None)
    said = report.verdicts(results)
    assert said[-2].endswith("too few authors for an interval.") and said[-1].endswith("whether it is personal.")


def test_the_page_holds_everything_and_escapes_texts(results):
    page = report.render({"command": "hydrajax run hyperalign", "authors": 10}, results, ROWS)
    for words in (
        "a note",
        "hypotheses: none",
        "25.0%",
        "(empty)",
        "&lt;b&gt;tags",
        "&lt;i&gt;ann",
        "It &amp; so on.",
        "7",
    ):
        assert words in page
    assert "<b>" not in page and "<i>" not in page and "http://" not in page and "https://" not in page
    assert page.count("word") < 200


def test_what_was_changed_by_hand_is_said_and_long_texts_are_cut(results):
    results["user_models"]["ann"]["pag"] = "long " * 5000
    line = {"strategy": "pag", "user_id": "<i>ann</i>", "part": "whole", "model": {"edited": True}}
    page = report.render({}, results, ROWS, [line])
    assert "pag, edited: &lt;i&gt;ann" in page and page.count("long") < 500
    assert "edited" not in report.render({}, results, ROWS)


def test_the_table_has_a_row_a_strategy(results):
    table = report.text_table(results)
    assert table.row_count == 2
    assert [column.header for column in table.columns][-3:] == [
        "against its shuffled self", "against the_author", "against another_author",
    ]  # fmt: skip
