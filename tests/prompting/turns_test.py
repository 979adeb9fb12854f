import pytest

from hydrajax.data import pseudo, tasks
from hydrajax.prompting import turns
from hydrajax.types import Query

TASKS = ["LaMP_1", "LaMP_2N", "LaMP_2M", "LaMP_3", "LaMP_4", "LaMP_5", "LaMP_6", "LaMP_7"]
FORMS = ["chat", "one_prompt"]


def _query(task, text="what is asked now", **rest) -> Query:
    return Query(id="q", user_id="u", inputs={slot: f"{text} in {slot}" for slot in task.slots}, **rest)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("repeat", [True, False])
def test_the_query_is_never_shortened(name, form, repeat, context, a_user):
    ctx = context(name, form=form, repeat_instruction=repeat, max_prompt_tokens=5, max_record_tokens=2)
    query = _query(ctx.task, text="endless " * 2000)
    messages = turns.conversation(query, a_user(name).profile, ctx)
    assert messages[-1].role == "user"
    assert all(text in messages[-1].text for text in query.inputs.values())


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("form", FORMS)
def test_the_most_relevant_record_stands_next_to_the_query(name, form, context, a_user):
    profile = a_user(name, records=4).profile
    shown = "title" if name == "LaMP_1" else tasks.LAMP[name].corpus[-1]

    def places(most_relevant_last):
        ctx = context(name, form=form, most_relevant_last=most_relevant_last)
        text = "\n".join(message.text for message in turns.conversation(_query(ctx.task), profile, ctx))
        found = [text.index(record.fields[shown]) for record in profile]
        return [profile[i].id for i in sorted(range(4), key=found.__getitem__)]

    assert places(True) == ["r3", "r2", "r1", "r0"]
    assert places(False) == ["r0", "r1", "r2", "r3"]


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("repeat", [True, False])
def test_a_pseudo_query_is_asked_like_a_real_one(name, form, repeat, context, a_user):
    ctx = context(name, form=form, repeat_instruction=repeat)
    profile = a_user(name).profile
    real = _query(ctx.task)
    asked_again = Query(id="u/r9", user_id="u", inputs=real.inputs, gold="gold", record_id="r9")
    assert turns.conversation(asked_again, profile, ctx) == turns.conversation(real, profile, ctx)


@pytest.mark.parametrize("name", [name for name in TASKS if tasks.LAMP[name].pseudo_query == "record"])
def test_a_record_is_shown_as_it_would_be_asked(name, context, a_user):
    """One template: a record's own turn is the question that its pseudo-query asks, and its reply is the gold."""
    ctx = context(name)
    user = a_user(name)
    by_record = {query.record_id: query for query in pseudo.pseudo_queries(ctx.task, user, None, seed=0)}
    assert len(by_record) == len(user.profile)
    for record in user.profile:
        asked, answered, _ = turns.conversation(_query(ctx.task), [record], ctx)
        (question,) = turns.conversation(by_record[record.id], [], ctx)
        assert asked == question
        assert answered.text == by_record[record.id].gold


@pytest.mark.parametrize("name", TASKS)
def test_chat_turns_alternate_and_end_with_the_user(name, context, a_user):
    for repeat in (True, False):
        ctx = context(name, repeat_instruction=repeat)
        messages = turns.conversation(_query(ctx.task), a_user(name, records=3).profile, ctx)
        assert [message.role for message in messages] == ["user", "assistant"] * 3 + ["user"]


@pytest.mark.parametrize("name", ["LaMP_4", "LaMP_5", "LaMP_6", "LaMP_7"])
@pytest.mark.parametrize("form", FORMS)
def test_a_record_without_an_answer_is_not_shown(name, form, context, a_record):
    """It demonstrates nothing, and the Messages protocol refuses empty turns."""
    ctx = context(name, form=form)
    hollow = a_record(name, 1, **{ctx.task.answer: " "})
    whole = a_record(name, 0)
    with_it = turns.conversation(_query(ctx.task), [whole, hollow], ctx)
    assert with_it == turns.conversation(_query(ctx.task), [whole], ctx)
    assert all(message.text.strip() for message in with_it)


@pytest.mark.parametrize("name", [name for name in TASKS if tasks.LAMP[name].demonstration is None])
def test_the_instruction_can_be_said_once(name, context, a_user):
    task = tasks.LAMP[name]
    instruction = task.question({}).partition(task.marker)[0]
    assert len(instruction) > 10
    for repeat, expected in ((True, 4), (False, 1)):
        ctx = context(name, repeat_instruction=repeat)
        messages = turns.conversation(_query(task), a_user(name, records=3).profile, ctx)
        assert [instruction in message.text for message in messages].count(True) == expected
        assert instruction in messages[0].text


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("repeat", [True, False])
def test_without_records_only_the_question_is_left(name, form, repeat, context):
    ctx = context(name, form=form, repeat_instruction=repeat)
    query = _query(ctx.task)
    (message,) = turns.conversation(query, [], ctx)
    assert message.text == ctx.task.question(query.inputs)


# LaMP's one-prompt form for two records, "a" before "b", and the query "now" (LaMP, appendix: prompts of each task).
ONE_PROMPT = {
    "LaMP_2M": 'the tag for the movie: "a" is "comedy" , and the tag for the movie: "b" is "comedy" . ',
    "LaMP_2N": 'the category for the article: "a" is "sports" , and the category for the article: "b" is "sports" . ',
    "LaMP_3": '4 is the score for "a" , and 4 is the score for "b" . ',
    "LaMP_4": '"T" is the title for "a" , and "T" is the title for "b" . ',
    "LaMP_5": '"T" is a title for "a" , and "T" is a title for "b" . Following the given patterns ',
    "LaMP_6": '"T" is the title for "a" , and "T" is the title for "b" . ',
    "LaMP_7": '"a" , and "b"  are written by a person. Following the given patterns ',
}


@pytest.mark.parametrize("name", ONE_PROMPT)
def test_one_prompt_is_lamp_s(name, context, a_record):
    ctx = context(name, form="one_prompt", most_relevant_last=False)
    answer = {"LaMP_2M": "comedy", "LaMP_2N": "sports", "LaMP_3": "4"}.get(name, "T")
    fields = {field: answer for field in ctx.task.fields}
    text_field = ctx.task.inputs.get("text", "text")
    records = [a_record(name, i, **(fields | {text_field: text})) for i, text in enumerate("ab")]
    (message,) = turns.conversation(Query(id="q", user_id="u", inputs={"text": "now"}), records, ctx)
    assert message.text == ONE_PROMPT[name] + ctx.task.question({"text": "now"})


def test_one_prompt_of_lamp_1_quotes_titles_inside_the_question(context, a_record):
    ctx = context("LaMP_1", form="one_prompt", most_relevant_last=False)
    records = [a_record("LaMP_1", i, title=title) for i, title in enumerate(("First", "Second"))]
    query = Query(id="q", user_id="u", inputs={"title": "Mine", "a": "One", "b": "Two"})
    (message,) = turns.conversation(query, records, ctx)
    assert message.text.startswith(
        'For an author who has written the paper with the title, and "First", and "Second" "Mine", which reference'
    )
    assert message.text.endswith('[1]: "One" [2]: "Two"')
