"""What is made of a judge's verdicts: who meets whom, win rates, lengths and copies."""

import dataclasses

import numpy as np
import pytest

from hydrajax.evaluation.authorship import results

STRATEGIES = ("zero_shot", "icl_random")


@dataclasses.dataclass
class Longer:
    """A judge that prefers the text whose first word is the longer one."""

    kind: str = "classifier"
    unreadable: int = 0

    def decide(self, duels):
        sizes = [(len(duel.first.split()[0]), len(duel.second.split()[0])) for duel in duels]
        return [float(np.sign(a - b) + 1) / 2 for a, b in sizes]


def a_row(author, **texts):
    filled = {
        "zero_shot": ["a a"], "icl_random": ["aa a"], "icl_random_shuffled": ["a a"],
        "the_author": ["aaaa a"], "another_author": ["a a"],
    }  # fmt: skip
    return {"query": author, "user": author, "shown": ["a b c d e f g h i"], "texts": filled | texts}


def judged(rows):
    results.judge_rows(Longer(), rows, STRATEGIES)
    return rows


def test_who_meets_whom():
    assert results.pairs(STRATEGIES, tuple(a_row("x")["texts"])) == [
        ("zero_shot", "icl_random"),
        ("icl_random", "icl_random_shuffled"),
        ("zero_shot", "the_author"),
        ("zero_shot", "another_author"),
        ("icl_random", "the_author"),
        ("icl_random", "another_author"),
    ]


def test_win_rates_say_who_won():
    rows = judged([a_row(f"author{i}") for i in range(6)])
    rates = results.win_rates(rows)
    assert {a: {b: rate["value"] for b, rate in own.items()} for a, own in rates.items()} == {
        "zero_shot": {"icl_random": 0.0, "the_author": 0.0, "another_author": 0.5},
        "icl_random": {"zero_shot": 1.0, "icl_random_shuffled": 1.0, "the_author": 0.0, "another_author": 1.0},
    }
    assert results.personal(rates) == {"icl_random": True}


def test_who_does_no_better_than_with_another_authors_texts_is_not_personal():
    alike = judged([a_row(f"author{i}", icl_random_shuffled=["aa a"]) for i in range(6)])
    assert results.personal(results.win_rates(alike)) == {"icl_random": False}
    few = judged([a_row(f"author{i}") for i in range(3)])
    assert results.personal(results.win_rates(few)) == {"icl_random": None}


def test_the_judge_is_known_by_real_texts():
    rows = judged([a_row(f"author{i}", zero_shot=["aa a a a"]) for i in range(6)])
    real = [(f"author{i}", "a" * (i + 1)) for i in range(6)]
    found = results.judge_facts(Longer(), rows, real=real)
    assert found["accuracy"] == pytest.approx(0.5)  # everybody meets everybody, one of two is longer
    assert (found["ceiling"], found["floor"]) == (1.0, 0.0)
    assert found["words"] == 2 and found["by_words"] == {} and "accuracy_alike" not in found
    near = results.judge_facts(Longer(), rows, real=real, features=np.eye(6), by_words=True)
    assert set(near["by_words"]) == {"25", "50", "100", "200"} and 0 <= near["accuracy_alike"] <= 1


def test_lengths_and_copies():
    rows = [a_row("x", zero_shot=["a b c d e", ""], icl_random=["a b c d e f g h"])]
    found = results.lengths_and_copies(rows)
    assert found["words"]["zero_shot"] == 2.5 and found["empty"]["zero_shot"] == 1
    assert found["copied"]["zero_shot"] == {"5": 1.0, "8": None}
    assert found["copied"]["icl_random"] == {"5": 1.0, "8": 1.0}
    assert found["copied"]["the_author"] == {"5": None, "8": None}


def test_the_usual_length_is_that_of_what_strategies_wrote():
    rows = [a_row("x", zero_shot=["a a a"], icl_random=["a a a"], the_author=["a " * 500])]
    assert results.typical_words(rows) == 3
    assert results.typical_words([a_row("x", zero_shot=[""], icl_random=[""], icl_random_shuffled=[""])]) == 1
