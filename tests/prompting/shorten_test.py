import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hydrajax.llm.request import count_tokens
from hydrajax.prompting import shorten

SIZES = st.lists(st.integers(0, 200), max_size=12)
BUDGETS = st.integers(0, 1500)
# Words of up to 20 letters with marks, so that tokens, words and characters differ.
WORDS = st.text(alphabet="ab,.é-", min_size=1, max_size=20)
PROSE = st.lists(WORDS, max_size=40).map(" ".join)


@given(SIZES, BUDGETS)
def test_limits_stay_within_sizes_and_budget(sizes, budget):
    limits = shorten.fair_limits(sizes, budget)
    assert all(0 <= limit <= size for limit, size in zip(limits, sizes, strict=True))
    assert sum(limits) == min(sum(sizes), budget)


@given(SIZES, BUDGETS)
def test_no_record_is_cut_below_what_another_keeps(sizes, budget):
    limits = shorten.fair_limits(sizes, budget)
    cut = [limit for limit, size in zip(limits, sizes, strict=True) if limit < size]
    # One token apart where the rest does not divide.
    assert all(limit >= max(limits) - 1 for limit in cut)


@given(PROSE, st.integers(0, 60))
def test_a_text_is_cut_to_its_longest_prefix_of_whole_words(text, limit):
    kept = shorten.shorten_text(text, limit)
    words = text.split()
    assert kept.split() == words[: len(kept.split())]
    assert count_tokens(kept) <= limit
    if count_tokens(text) <= limit:
        assert kept == text
    else:
        assert count_tokens(" ".join(words[: len(kept.split()) + 1])) > limit


TASKS = ["LaMP_1", "LaMP_2N", "LaMP_2M", "LaMP_3", "LaMP_4", "LaMP_5", "LaMP_6", "LaMP_7"]


def _shown_tokens(task, records):
    """Tokens of what a prompt can show of the records: the fields that a quoted record holds."""
    shown = [field for field in task.fields if f"{{{field}}}" in task.record_line]
    return sum(count_tokens(record.fields[field]) for record in records for field in shown)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("budget", [12, 60, 200, 10_000])
def test_records_keep_to_the_budget_in_their_order(name, budget, context, a_record):
    ctx = context(name, max_prompt_tokens=budget)
    text_field = ctx.task.corpus[-1]
    records = [a_record(name, i, **{text_field: "word " * length}) for i, length in enumerate((3, 300, 40, 120))]
    shortened = shorten.shorten_records(records, ctx)
    assert [record.id for record in shortened] == [record.id for record in records]
    # An answer that is longer than its record's share stays whole, the only way to go beyond the budget.
    beyond = 0
    if ctx.task.answer not in (None, text_field):
        limits = shorten.fair_limits([_shown_tokens(ctx.task, [record]) for record in records], budget)
        answers = [count_tokens(ctx.task.record_answer(record)) for record in records]
        beyond = sum(max(0, answer - limit) for answer, limit in zip(answers, limits, strict=True))
        assert beyond == 0 or budget == 12
    assert _shown_tokens(ctx.task, shortened) <= budget + beyond
    if budget == 10_000:
        assert shortened == records


@pytest.mark.parametrize("name", TASKS)
def test_one_record_s_limit_holds_for_each(name, context, a_record):
    ctx = context(name, max_record_tokens=30)
    text_field = ctx.task.corpus[-1]
    records = [a_record(name, i, **{text_field: "word " * 100 * i}) for i in range(4)]
    for record in shorten.shorten_records(records, ctx):
        assert _shown_tokens(ctx.task, [record]) <= 30


@pytest.mark.parametrize("name", [name for name in TASKS if name not in ("LaMP_1", "LaMP_7")])
def test_the_answer_is_never_cut(name, context, a_record):
    """LaMP_1 and LaMP_7 are the exceptions: there the answer is all that is shown of a record."""
    ctx = context(name, max_prompt_tokens=4)
    records = [a_record(name, i) for i in range(4)]
    for record, short in zip(records, shorten.shorten_records(records, ctx), strict=True):
        assert ctx.task.record_answer(short) == ctx.task.record_answer(record)


def test_what_no_prompt_shows_takes_no_room(context, a_record):
    """LaMP_1 shows titles alone: an abstract, however long, costs the title nothing and is not counted as cut."""
    title = "title word " * 10
    for name, hidden in (("LaMP_1", "abstract"), ("LaMP_2N", "title")):
        ctx = context(name, max_record_tokens=60)
        shown = "title" if name == "LaMP_1" else "text"
        record = a_record(name, 0, **{shown: title, hidden: "hidden " * 500})
        (short,) = shorten.shorten_records([record], ctx)
        assert short.fields[shown] == title
        assert ctx.cut["tokens"] == 0


@pytest.mark.parametrize("name", TASKS)
def test_what_was_cut_is_counted_and_logged(name, context, a_record, caplog):
    caplog.set_level(logging.DEBUG, logger="hydrajax.prompting.shorten")
    ctx = context(name, max_prompt_tokens=80)
    text_field = "title" if name == "LaMP_1" else ctx.task.corpus[-1]
    records = [a_record(name, i, **{text_field: "incomprehensibly long, " * 40}) for i in range(3)]
    records.append(a_record(name, 9, **{text_field: "short"}))
    shortened = shorten.shorten_records(records, ctx)
    pairs = list(zip(records, shortened, strict=True))
    assert ctx.cut["records"] == sum(before != after for before, after in pairs) == 3
    assert ctx.cut["tokens"] == _shown_tokens(ctx.task, records) - _shown_tokens(ctx.task, shortened)
    assert [record.id in caplog.text for record in records] == [True, True, True, False]
