import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hydrajax.llm import request
from hydrajax.types import Message

BASE = request.Request(
    messages=(Message(role="user", text="a"), Message(role="assistant", text="b"), Message(role="user", text="c")),
    max_tokens=9,
    temperature=1.0,
    system="s",
)


TURN = (Message(role="user", text="Write a headline: naïve café"),)
PLAIN = request.Request(messages=TURN, max_tokens=24)
WARM = dataclasses.replace(PLAIN, temperature=0.7)
WARM_KEY = "1dd1baa438a4af6763f50d0b84f3d2d1c7699b9c2b3f6591a32d20be4b686387"
KEYS = [
    (BASE, "b8b6ef1daa046b4873b778742cce2d298f0b32f17d7f00f9bfe99d77291e51f6"),
    (PLAIN, "abb43153ef4eda5614ece80b02f22601b1a41359f8e322097fd8f343f4ff1106"),
    (
        dataclasses.replace(PLAIN, system="Be brief."),
        "4da79689674f67ff60e5415ce633a3f29dcbd9acb953417660c52cae7a03cf7d",
    ),
    (dataclasses.replace(PLAIN, temperature=0.0), "efcbad93aad8939067529c5e8f73307168a62bc99104fbb26c6446d2b2fde0a9"),
    (WARM, WARM_KEY),
    (dataclasses.replace(WARM, temperature=0.7000000001), WARM_KEY),
    (dataclasses.replace(WARM, sample=3), WARM_KEY),
    (dataclasses.replace(WARM, group="ann"), WARM_KEY),
    (
        dataclasses.replace(BASE, max_tokens=8, system="Be brief.", sample=1, group="bob"),
        "6dac99a8e9b1839be526d5395f95a0816818123d0bae9a1749349581bf78771c",
    ),
]


@pytest.mark.parametrize(("wanted", "key"), KEYS)
def test_the_key_stays_what_it_was(wanted, key):
    """Every stored answer hangs on it: when this fails, all of them have to be paid again."""
    assert request.key("m" if wanted is BASE else "claude-haiku-4-5", wanted) == key


@pytest.mark.parametrize(
    "change",
    [
        {"messages": BASE.messages[:1]},
        {"messages": (BASE.messages[0], BASE.messages[1], Message(role="user", text="c "))},
        {"messages": (BASE.messages[2], BASE.messages[1], BASE.messages[0])},
        {"messages": (BASE.messages[0], Message(role="user", text="b"), BASE.messages[2])},
        {"max_tokens": 10},
        {"temperature": None},
        {"temperature": 0.0},
        {"system": None},
        {"system": ""},
    ],
    ids=str,
)
def test_everything_that_decides_the_answer_is_in_the_key(change):
    assert request.key("m", dataclasses.replace(BASE, **change)) != request.key("m", BASE)


def test_the_model_is_in_the_key_and_the_sample_is_not():
    assert request.key("m", BASE) != request.key("n", BASE)
    assert request.key("m", dataclasses.replace(BASE, sample=5)) == request.key("m", BASE)


def test_turns_cannot_be_confused_by_their_texts():
    joined = dataclasses.replace(BASE, messages=(Message(role="user", text='a"], ["assistant", "b'),))
    apart = dataclasses.replace(BASE, messages=(Message(role="user", text="a"), Message(role="assistant", text="b")))
    assert request.key("m", joined) != request.key("m", apart)


TEXTS = st.text(alphabet="ab é.,-\n", max_size=60)


@given(TEXTS, TEXTS)
def test_tokens_of_two_texts_add_up(one, other):
    assert request.count_tokens(f"{one} {other}") == request.count_tokens(one) + request.count_tokens(other)


@given(TEXTS)
def test_no_more_tokens_than_characters_and_none_for_nothing(text):
    assert (request.count_tokens(text) == 0) == (not text.strip())
    assert len(text.split()) <= request.count_tokens(text) <= 2 * len(text)


def test_an_estimate_counts_every_turn_and_the_system_prompt():
    texts = ["a", "b", "c", "s"]
    pieces = sum(len(text.split()) for text in texts)
    assert request.estimate_input_tokens(BASE) == pieces + request.FRAME_TOKENS * len(texts)
    marks = request.Request(messages=(Message(role="user", text="It's so, (really) so!"),), max_tokens=1)
    assert request.estimate_input_tokens(marks) - request.FRAME_TOKENS == len(
        ("It", "s", "so", "really", "so", *"',()!")
    )
    long = request.Request(messages=(Message(role="user", text="字" * 100),), max_tokens=1)
    assert request.estimate_input_tokens(long) - request.FRAME_TOKENS == -(-100 // request.LONG_PIECE)
