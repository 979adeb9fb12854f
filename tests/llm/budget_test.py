"""Limits are never exceeded, whatever is under way; what came to nothing is free again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hydrajax.llm import budget, models, request
from hydrajax.llm.budget import Account, Budget
from hydrajax.types import Message

MODEL = "claude-haiku-4-5"


def _ask(text="hello", max_tokens=10) -> request.Request:
    return request.Request(messages=(Message(role="user", text=text),), max_tokens=max_tokens)


def _answer(read=5, written=3, **rest) -> request.Answer:
    return request.Answer(text="t", stop_reason="end_turn", input_tokens=read, output_tokens=written, **rest)


def _count(account, wanted=None, most=100, **rest):
    """How many requests may be under way at once."""
    wanted = wanted or _ask()
    return next((i for i in range(most) if account.reserve(wanted, **rest) is not None), most)


@pytest.mark.parametrize("calls", [0, 1, 7])
def test_no_more_calls_than_allowed(calls):
    account = Account(Budget(calls=calls), MODEL)
    assert _count(account) == calls
    assert account.reserve(_ask()) == f"{calls} calls"


def test_without_limits_everything_goes():
    assert _count(Account(Budget(), "a model nobody knows")) == 100


def test_tokens_of_prompt_and_answer_are_set_aside_together():
    each = models.find(MODEL).most_input_tokens(_ask()) + 10
    assert _count(Account(Budget(tokens=int(each * 4) + 1), MODEL)) == 4


def test_a_batch_is_half_the_price():
    row = models.find(MODEL)
    each = row.cost(row.most_input_tokens(_ask()), 10)
    limit = Budget(usd=each * 4.5)
    single, batched = (_count(Account(limit, MODEL), batch=batch) for batch in (False, True))
    assert batched >= 2 * single > 0


def test_what_thinks_may_cost_its_thoughts():
    thinking = next(name for name, row in models.CLAUDE.items() if row.thinks)
    assert _count(Account(Budget(tokens=models.THINKING_TOKENS), thinking), _ask(max_tokens=1)) == 0
    assert _count(Account(Budget(tokens=models.THINKING_TOKENS), MODEL), _ask(max_tokens=1)) > 0


def test_dollars_of_an_unknown_price_cannot_be_limited_and_everything_else_can():
    with pytest.raises(request.LLMError, match="price of nobody-7 is not known.*limit tokens"):
        Account(Budget(usd=1.0), "nobody-7")
    assert _count(Account(Budget(tokens=10_000), "nobody-7")) > 0
    assert _count(Account(Budget(usd=0.0), "local:x@1")) == 100


@pytest.mark.parametrize("wrong", [{"calls": -1}, {"tokens": -1}, {"usd": -0.1}, {"usd": float("nan")}])
def test_a_limit_is_not_negative(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Budget(**wrong)


_steps = st.lists(st.tuples(st.sampled_from(["reserve", "answer", "nothing"]), st.integers(1, 50)), max_size=60)


@given(_steps, st.integers(0, 12), st.integers(0, 400), st.booleans())
def test_what_was_spent_never_exceeds_the_limits(steps, calls, tokens, batch):
    """Where answers cost at most what was set aside for them."""
    usd = 0.0004
    account = Account(Budget(calls=calls, tokens=tokens, usd=usd), MODEL)
    row = models.find(MODEL)
    under_way: list[request.Request] = []
    spent = {"calls": 0, "tokens": 0, "usd": 0.0}
    for what, size in steps:
        if what == "reserve":
            wanted = _ask(max_tokens=size)
            if account.reserve(wanted, batch=batch) is None:
                under_way.append(wanted)
        elif under_way:
            wanted = under_way.pop(size % len(under_way))
            answer = None
            if what == "answer":
                read = row.most_input_tokens(wanted)
                answer = _answer(read, wanted.max_tokens, batch=batch)
                spent["calls"] += 1
                spent["tokens"] += read + wanted.max_tokens
                spent["usd"] += budget.cost(row, answer)
            account.settle(wanted, answer, batch=batch)
        assert spent["calls"] <= calls and spent["tokens"] <= tokens and spent["usd"] <= usd + 1e-12
    for wanted in under_way:
        account.settle(wanted, None, batch=batch)
    # Nothing stays set aside: exactly the calls that are left can be made, of requests that cost next to nothing else.
    free = Account(Budget(calls=calls), MODEL)
    for _ in range(spent["calls"]):
        assert free.reserve(_ask()) is None
        free.settle(_ask(), _answer())
    assert _count(free) == calls - spent["calls"]


def test_requests_that_came_to_nothing_cost_nothing():
    account = Account(Budget(calls=2, tokens=1000, usd=0.01), MODEL)
    for _ in range(500):
        assert account.reserve(_ask()) is None
        account.settle(_ask(), None)
    assert _count(account) == 2


def test_a_prompt_that_goes_into_the_cache_costs_no_more_than_was_set_aside():
    """Such tokens cost a quarter more than others, and long prompts are always marked for the cache."""
    row = models.find(MODEL)
    wanted = _ask("word " * 8000, max_tokens=1)
    read = row.most_input_tokens(wanted)
    paid = budget.cost(row, _answer(read, 1, cache_written=read))
    assert _count(Account(Budget(usd=paid * 0.999), MODEL), wanted) == 0


def test_freeing_what_was_never_set_aside_raises_no_limit():
    """The answers of a batch that an earlier process submitted."""
    account = Account(Budget(tokens=100), MODEL)
    before = _count(Account(Budget(tokens=100), MODEL), _ask(max_tokens=40))
    for _ in range(10):
        account.settle(_ask(max_tokens=1000), _answer(0, 0, batch=True), batch=True)
    assert _count(account, _ask(max_tokens=40)) <= before


@pytest.mark.parametrize(
    ("text", "tokens"),  # as small tokenizers count them, roughly
    [("字" * 600, 600), ("b64+" * 150, 450), ("ACGT" * 150, 300), ("0123456789" * 60, 300), ("plain words " * 50, 150)],
)
def test_no_text_is_set_aside_too_little_for(text, tokens):
    assert models.find(MODEL).most_input_tokens(_ask(text)) >= tokens
    assert models.find("claude-opus-5").most_input_tokens(_ask(text)) >= 1.2 * tokens


@given(st.text(max_size=200))
def test_what_is_set_aside_is_no_less_than_the_estimate(text):
    assert request.most_input_tokens(_ask(text)) >= request.estimate_input_tokens(_ask(text))


def test_accounts_side_by_side_spend_one_budget():
    """Each by its own model's prices; what one has set aside, the other cannot have."""
    first = Account(Budget(calls=5), MODEL)
    second = Account(Budget(calls=5), "claude-opus-4-8", beside=first)
    assert _count(first) == 5 and _count(second) == 0
    first.settle(_ask(), None)
    assert _count(second) == 1
    cheap, dear = (_dollars(name) for name in (MODEL, "claude-opus-4-8"))
    limit = Budget(usd=dear + 3.5 * cheap)
    one = Account(limit, MODEL)
    other = Account(limit, "claude-opus-4-8", beside=one)
    assert other.reserve(_ask()) is None and _count(one) == 3


def _dollars(model):
    row = models.find(model)
    return row.cost(row.most_input_tokens(_ask()), 10)
