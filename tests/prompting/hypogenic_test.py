"""The arithmetic of HypoGeniC's bank."""

import dataclasses
import math

import pytest

from hydrajax.prompting import hypogenic as bank

NONE = bank.BankSettings(wrong=10**6)


def refine(hypotheses, examples, *, predict, propose, settings=bank.BankSettings()):  # noqa: B008 (frozen)
    """One bank, out of what is said of one example at a time."""

    def tried(asked):
        ((texts, these),) = asked.values()
        return {"": [predict(texts, example) for example in these]}

    def more(failed):
        return {"": propose(failed[""])}

    return bank.refine({"": hypotheses}, {"": examples}, tried, more, settings)[""]


def never(examples):
    raise AssertionError("nothing was to be proposed")


def test_the_reward():
    assert bank.reward(bank.Hypothesis(text="h", right=3, tried=4), 10) == 3 / 4 + 0.5 * math.sqrt(math.log(10) / 4)
    assert bank.reward(bank.Hypothesis(text="h", right=3, tried=4), 10, alpha=0.0) == 3 / 4
    assert bank.reward(bank.Hypothesis(text="h", right=1, tried=1), 1) == 1.0
    assert bank.reward(bank.Hypothesis(text="h"), 5) == math.inf


def test_each_example_is_tried_with_the_k_best():
    asked = []

    def predict(texts, example):
        asked.append(tuple(texts))
        return [text == "good" for text in texts]

    found = refine(
        ["a", "b", "good"], range(12), predict=predict, propose=never, settings=dataclasses.replace(NONE, tried=1)
    )
    assert all(len(texts) == 1 for texts in asked)
    # Everything is tried once; the one that is right has the others' chances but for their exploration.
    assert {texts[0] for texts in asked[:3]} == {"a", "b", "good"}
    assert sum(h.tried for h in found) == 12
    assert found[0].text == "good" and found[0].right == found[0].tried > 12 / 2


def test_first_hypotheses_are_scored_on_what_they_were_made_of():
    """reward = accuracy + alpha sqrt(log t / n) with t = n = 4 before the first of the other examples is seen."""
    asked = []

    def tried(questions):
        ((texts, examples),) = questions.values()
        asked.append((tuple(texts), tuple(examples)))
        return {"": [[int(text) > example for text in texts] for example in examples]}

    made_of = [1, 1, 3, 3]
    settings = dataclasses.replace(NONE, tried=1)
    (bank_of,) = bank.refine({"": ["1", "4", "2"]}, {"": [9]}, tried, never, settings, {"": made_of}).values()
    assert asked == [(("1", "4", "2"), (1, 1, 3, 3)), (("4",), (9,))]
    assert {h.text: (h.right, h.tried) for h in bank_of} == {"4": (4, 5), "2": (2, 4), "1": (0, 4)}
    # At the end t is 5: examples that hypotheses were made of count as seen.
    rewards = {"4": 4 / 5 + 0.5 * math.sqrt(math.log(5) / 5), "2": 2 / 4 + 0.5 * math.sqrt(math.log(5) / 4)}
    assert [bank.reward(h, 5) for h in bank_of[:2]] == [rewards["4"], rewards["2"]]


def test_examples_that_hypotheses_were_made_of_count_in_how_many_must_be_wrong():
    # .8 k i / N of k = 5: with 8 of 10 seen before, 3.6 at the next one and 4 at the last one.
    for misses, listed in ((3, []), (4, [0, 1]), (5, [0, 1])):
        went = []
        bank.refine(
            {"": [str(i) for i in range(5)]},
            {"": [0, 1]},
            lambda asked, misses=misses: {"": [[p >= misses for p in range(5)] for _ in asked[""][1]]},
            lambda failed, went=went: went.extend(failed[""]) or {"": ()},
            bank.BankSettings(wrong=1),
            {"": list(range(8))},
        )
        assert went == listed


def test_counts_are_those_of_the_answers():
    found = refine(
        ["even", "all"],
        range(10),
        predict=lambda texts, i: [t == "all" or i % 2 == 0 for t in texts],
        propose=never,
        settings=NONE,
    )
    assert {h.text: (h.right, h.tried) for h in found} == {"all": (10, 10), "even": (5, 10)}


def test_ten_wrong_examples_make_five_hypotheses_which_are_tried_on_them():
    proposed = []

    def propose(examples):
        proposed.append(list(examples))
        return [f"new {i}" for i in range(9)]

    def predict(texts, example):
        return [text.startswith("new") for text in texts]

    found = refine([f"old {i}" for i in range(5)], range(10), predict=predict, propose=propose)
    assert proposed == [list(range(10))]
    assert [h.text for h in found[:5]] == [f"new {i}" for i in range(5)]
    assert all((h.right, h.tried) == (10, 10) for h in found[:5])
    assert len(found) == 10


@pytest.mark.parametrize(
    ("misses", "listed"), [(1, range(0, 2)), (2, range(0, 5)), (3, range(0, 7)), (5, range(0, 10))]
)
def test_how_many_must_be_wrong_grows_with_the_examples(misses, listed):
    # .8 k i / N of 5 at N = 10: .4, .8, 1.2, 1.6, 2.0, 2.4, 2.8, 3.2, 3.6, 4.0
    went = []

    def predict(texts, example):
        return [place >= misses for place in range(len(texts))]

    refine(
        [str(i) for i in range(5)],
        range(10),
        predict=predict,
        propose=lambda w: went.extend(w) or (),
        settings=bank.BankSettings(wrong=1),
    )
    assert went == list(listed)


def test_the_best_twenty_stay():
    made = iter(range(10**6))

    def propose(examples):
        return [f"new {next(made)}" for _ in range(5)]

    found = refine(
        [f"old {i}" for i in range(25)], range(200), predict=lambda texts, i: [False] * len(texts), propose=propose
    )
    assert len(found) == 20 and len({h.text for h in found}) == 20
    rewards = [bank.reward(h, 200) for h in found]
    assert rewards == sorted(rewards, reverse=True)


def test_nothing_known_or_empty_is_taken_up():
    found = refine(
        ["a"], range(10), predict=lambda texts, i: [False] * len(texts), propose=lambda w: ["a", " ", "b", "b"]
    )
    assert sorted(h.text for h in found) == ["a", "b"]


def test_without_examples_or_hypotheses():
    assert refine(["a", "a", "b"], [], predict=never, propose=never) == (
        bank.Hypothesis(text="a"),
        bank.Hypothesis(text="b"),
    )
    assert refine([], range(3), predict=lambda texts, i: [], propose=never) == ()


def test_numbers_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="tried is 0"):
        bank.BankSettings(tried=0)
    with pytest.raises(ValueError, match="wrong_share is 2"):
        bank.BankSettings(wrong_share=2.0)


def test_what_has_proved_itself_comes_before_what_was_lucky_once():
    worth = [(4, 4), (1, 1), (5, 8), (0, 0), (0, 1), (0, 4)]
    found = [bank.expected_accuracy(bank.Hypothesis(text="h", right=right, tried=tried)) for right, tried in worth]
    assert found == sorted(found, reverse=True) and found[3] == 1 / 2


def test_banks_made_side_by_side_are_those_made_alone():
    """Each has another number of examples and of proposals; none sees another's answers."""
    settings = bank.BankSettings(tried=2, wrong=2)
    sizes = {"x": 2, "yy": 5, "z": 0}
    batches = []

    def predict(asked):
        batches.append(set(asked))
        return {
            name: [[(len(text) + example) % 3 == 0 for text in texts] for example in examples]
            for name, (texts, examples) in asked.items()
        }

    def propose(failed):
        batches.append(set(failed))
        return {name: [f"{name} new {len(examples)}"] for name, examples in failed.items()}

    def refined(*names):
        batches.clear()
        hypotheses, examples = {name: ["a", "bb", name] for name in names}, {name: range(sizes[name]) for name in names}
        return bank.refine(hypotheses, examples, predict, propose, settings), list(batches)

    together, made = refined(*sizes)
    assert made[0] == {"x", "yy"} and set(together) == set(sizes)
    for name in sizes:
        alone, own = refined(name)
        assert alone == {name: together[name]} and len(own) <= len(made)
    assert refined() == ({}, [])
