import pytest
from hypothesis import given
from hypothesis import strategies as st

from hydrajax.llm import models, request
from hydrajax.llm.usage import Usage

_answers = st.lists(
    st.builds(
        request.Answer,
        text=st.just("t"),
        stop_reason=st.just("end_turn"),
        input_tokens=st.integers(100, 1000),
        output_tokens=st.integers(0, 1000),
        cache_read=st.integers(0, 50),
        cache_written=st.integers(0, 50),
        batch=st.booleans(),
        cached=st.booleans(),
    )
)


@given(_answers)
def test_what_came_from_the_store_is_counted_and_costs_nothing(answers):
    usage = Usage(model="claude-haiku-4-5")
    for answer in answers:
        usage.add(answer)
    fresh = [answer for answer in answers if not answer.cached]
    assert (usage.calls, usage.cached) == (len(fresh), len(answers) - len(fresh))
    assert usage.input_tokens == sum(answer.input_tokens for answer in fresh)
    assert usage.output_tokens == sum(answer.output_tokens for answer in fresh)
    assert usage.cache_read == sum(answer.cache_read for answer in fresh)
    row = models.find("claude-haiku-4-5")
    dollars = sum(
        (
            (a.input_tokens - a.cache_read - a.cache_written) * row.usd_in
            + 1.25 * a.cache_written * row.usd_in
            + a.cache_read * row.usd_cached
            + a.output_tokens * row.usd_out
        )
        / 1e6
        * (0.5 if a.batch else 1.0)
        for a in fresh
    )
    assert usage.cost_usd == pytest.approx(dollars)


def test_an_unknown_price_stays_unknown():
    usage = Usage(model="nobody-8")
    answer = request.Answer(text="t", stop_reason="end_turn", input_tokens=1, output_tokens=1)
    for _ in range(2):
        usage.add(answer)
    assert usage.cost_usd is None and usage.calls == 2
    usage = Usage(model="local:x@1")
    usage.add(answer)
    assert usage.cost_usd == 0.0
