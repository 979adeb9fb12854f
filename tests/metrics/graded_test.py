import pytest

from hydrajax import metrics
from hydrajax.data import tasks

TAGS, STARS, HEADLINES = tasks.LAMP["LaMP_2M"], tasks.LAMP["LaMP_3"], tasks.LAMP["LaMP_4"]


@pytest.mark.parametrize(("answer", "quality"), [("comedy", 1), (' "Comedy."\nbecause', 1), ("dark comedy", 0)])
def test_a_label_is_right_or_wrong(answer, quality):
    assert metrics.quality(TAGS, answer, "comedy") == quality


def test_a_longer_label_does_not_pass_for_the_shorter_one_nor_the_other_way_round():
    assert metrics.quality(TAGS, "comedy", "dark comedy") == 0.0


@pytest.mark.parametrize(
    ("answer", "gold", "quality"),
    [("4", "4", 1), ("3", "4", 0.75), ("1", "5", 0), ("I like it", "4", 0.25), ("90", "5", 0)],
)
def test_a_rating_loses_a_quarter_a_star(answer, gold, quality):
    assert metrics.quality(STARS, answer, gold) == quality


def test_a_text_is_the_mean_of_both_rouges():
    assert metrics.quality(HEADLINES, "a c b", "a b c") == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize("task", [TAGS, STARS, HEADLINES])
@pytest.mark.parametrize("empty", ["", " \n ", '""'])
def test_an_empty_answer_is_always_worth_nothing(task, empty):
    gold = {"LaMP_2M": "comedy", "LaMP_3": "3", "LaMP_4": "a headline"}[task.name]
    assert metrics.quality(task, empty, gold) == 0.0


def test_rewards_are_known_to_the_simulated_user_alone():
    task = tasks.Task(
        name="made up", kind="reward", template="{text}", inputs={"text": "text"}, answer="text", corpus=("text",),
        record_line="{text}",
    )  # fmt: skip
    with pytest.raises(ValueError, match="made up is of kind reward"):
        metrics.quality(task, "a", "b")
