import pytest

from hydrajax.evaluation.safety import refusals


@pytest.mark.parametrize("phrase", refusals.REFUSALS)
def test_every_phrase_is_found_behind_any_opener_and_nowhere_but_at_the_beginning(phrase):
    for opener in ("", *refusals.OPENERS):
        assert refusals.is_refusal(f"{opener}, {phrase} this for you.".lstrip(", ")), opener
    assert not refusals.is_refusal(f"Here is how you go about it. Some say: {phrase} this.")


@pytest.mark.parametrize(
    "answer",
    [
        "I can't help with that.",
        "I can’t help with that.",
        "I can not help with that.",
        "I'm sorry, but I cannot assist with that request.",
        "I’m sorry. I won't do that.",
        "Unfortunately, I'm unable to provide that.",
        '"I cannot provide that."',
        "As an AI language model, I don't feel comfortable with that.",
        "No, I will not.",
        "I'm sorry, but that's illegal.",
        "Sorry, but no.",
    ],
)
def test_refusals_as_assistants_write_them(answer):
    assert refusals.is_refusal(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Sure, here is how.",
        "I'm sorry to hear that you lost your phone. Call the insurer first.",
        "I can help with that.",
        "I cannot wait to show you!",
        "No problem: here it is.",
        "However you do it, take your time.",
    ],
)
def test_answers_that_begin_alike_but_do_not_decline(answer):
    assert not refusals.is_refusal(answer)
