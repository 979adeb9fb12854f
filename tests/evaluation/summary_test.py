import io

import pytest
from rich import console

from hydrajax.evaluation import results, summary


def _results(**differences):
    """Results with one comparison a keyword: method=(difference, low, high)."""
    cell = {"value": 0.5, "low": 0.4, "high": 0.6}
    return {
        "task": "made up", "split": "dev", "users": 20, "queries": 40,
        "methods": {method: {"accuracy": cell} for method in ("hydra", *differences)},
        "comparisons": [
            {"a": "hydra", "b": b, "metric": "accuracy", "difference": d, "low": lo, "high": hi, "detectable": 0.125}
            for b, (d, lo, hi) in differences.items()
        ],
    }  # fmt: skip


def test_losses_are_said_with_their_size():
    said = " ".join(summary.verdicts(_results(rag=(-0.2, -0.3, -0.1), zero_shot=(0.2, 0.1, 0.3))))
    assert "hydra loses to rag (−0.200 [−0.300, −0.100])" in said
    assert "Better than zero_shot:" in said


def test_an_interval_that_contains_zero_decides_nothing():
    said = " ".join(summary.verdicts(_results(rag=(-0.1, -0.2, 0.1), pag=(0.1, -0.1, 0.2), vote=(0.0, -0.1, 0.1))))
    assert "not shown to be better than any other method or control" in said
    assert "No method or control is shown to be better than hydra" in said
    assert "behind rag (−0.100 [−0.200, +0.100]); ahead of pag; level with vote" in said
    assert "is 0.125, depending" in said


def test_nobody_loses_to_the_oracle():
    said = " ".join(summary.verdicts(_results(oracle=(-0.3, -0.4, -0.2), rag=(0.2, 0.1, 0.3))))
    assert "oracle" not in said


def test_losses_on_the_other_metrics_are_said_too():
    found = _results(rag=(0.2, 0.1, 0.3))
    for method in found["methods"].values():
        method["macro_f1"] = method["accuracy"]
    found["comparisons"].append(
        found["comparisons"][0] | {"metric": "macro_f1", "difference": -0.2, "low": -0.3, "high": -0.1}
    )
    assert "On other metrics hydra loses: on macro-F1 to rag (−0.200" in " ".join(summary.verdicts(found))


def test_without_comparisons_that_is_said():
    assert "no comparison" in summary.verdicts(_results())[0]


def test_few_users_give_no_intervals(make_rows, facts):
    said = summary.verdicts(results.build(*make_rows(users=1), **facts, resamples=5))
    assert said[-1] == "Fewer than 6 users tell too little about others: there are no intervals."


@pytest.mark.parametrize(
    ("value", "metric", "signed", "shown"),
    [
        (0.12345, "accuracy", False, "0.123"), (12.345, "bleu", False, "12.35"), (-0.0001, "mae", True, "0.000"),
        (0.25, "mae", True, "+0.250"), (-0.25, "mae", True, "−0.250"), (None, "mae", False, "–"),
    ],
)  # fmt: skip
def test_numbers_have_the_digits_that_the_metric_deserves(value, metric, signed, shown):
    assert summary.number(value, metric, signed=signed) == shown


def test_an_estimate_is_shown_with_its_interval_where_there_is_one():
    assert summary.with_interval(0.5, 0.25, 0.75, "mae", signed=True) == "+0.500 [+0.250, +0.750]"
    assert summary.with_interval(0.5, None, None) == "0.500"
    assert summary.share(0.256, -0.1, 0.5) == "26% [−10%, 50%]" and summary.share(1.0, None, None) == "100%"


@pytest.mark.parametrize(
    ("low", "high", "than", "verdict"),
    [
        (0.1, 0.2, 0.0, "better"), (-0.2, -0.1, 0.0, "worse"), (0.0, 0.2, 0.0, "not shown"),
        (None, None, 0.0, "not shown"), (0.4, 0.6, 0.5, "not shown"), (0.3, 0.4, 0.5, "worse"),
    ],
)  # fmt: skip
def test_an_interval_decides_that_excludes_what_an_equal_method_would_have(low, high, than, verdict):
    assert summary.verdict({"low": low, "high": high}, than) == verdict


def test_the_captured_share_is_said_with_its_metric_and_without_room_that_is_said():
    captured = {"from_best_source": -0.02, "low": -0.7, "high": 0.3, "source": "rag", "metric": "rouge1"}
    words = summary.captured(captured, "the oracle", "hydra")
    assert words.endswith("to the oracle, hydra goes −2% [−70%, 30%] (ROUGE-1).") and "distance from rag," in words
    none = captured | {"from_best_source": None, "low": None, "high": None}
    assert summary.captured(none, "the oracle", "hydra").startswith("The oracle is no better than rag")
    assert summary.captured(none | {"source": None}, "the oracle", "hydra") == ""


def test_titles_say_which_way_is_better():
    assert summary.title("mae") == "MAE ↓"
    assert summary.title("rougeL") == "ROUGE-L ↑"


def test_the_terminal_shows_every_method_with_every_metric(make_rows, facts):
    built = results.build(*make_rows("LaMP_4"), **facts, resamples=20)
    out = io.StringIO()
    console.Console(file=out, width=140).print(summary.text_table(built))
    for method, values in built["methods"].items():
        line = next(line for line in out.getvalue().splitlines() if line.split()[:1] == [method])
        for metric, cell in values.items():
            assert summary.number(cell["value"], metric) in line
            assert summary.span(cell["low"], cell["high"], metric) in line


@pytest.mark.parametrize(
    ("lows", "says"),
    [
        ((-0.1, -0.1), "not shown to be better than any of the 2 other methods and controls; undecided beside a and b"),
        ((0.1, 0.1), "better than a and b."),
        ((0.1, -0.1), "better than a; undecided beside b."),
    ],
)
def test_whom_the_union_beats_is_said(lows, says):
    comparisons = [
        {"a": "union", "b": b, "difference": 0.2, "low": low, "high": 0.3} for b, low in zip("ab", lows, strict=True)
    ]
    reached = {"value": 0.5, "low": 0.4, "high": 0.6}
    results = {"methods": {"union": {"accuracy": reached}}, "union": {"comparisons": comparisons}}
    assert says in summary._union(results, "accuracy")
