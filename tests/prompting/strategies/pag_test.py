import pytest

from hydrajax.prompting import contract, turns
from hydrajax.prompting.strategies import pag
from hydrajax.types import Query, User

QUERY = Query(id="q", user_id="u", inputs={"text": "asked now"})


def _model(text: str) -> contract.UserModel:
    return contract.UserModel(text=text, records=("r0",))


def test_one_call_a_user_in_one_batch(context, recorder, a_user):
    llm = recorder()
    models = pag.STRATEGY.learn([a_user(user_id="u"), a_user(user_id="v")], context(llm=llm))
    assert len(llm.asked) == 2 and len(llm.stages) == 1
    assert {user: model.text for user, model in models.items()} == {"u": "answer 0", "v": "answer 1"}


def test_a_user_without_a_profile_costs_no_call(context, recorder, a_user):
    llm = recorder()
    assert pag.STRATEGY.learn([User(id="empty")], context(llm=llm)) == {}
    assert set(pag.STRATEGY.learn([User(id="empty"), a_user()], context(llm=llm))) == {"u"}
    assert len(llm.asked) == 1


def test_an_empty_summary_is_no_summary(context, recorder, a_user):
    assert pag.STRATEGY.learn([a_user()], context(llm=recorder(answers=[" \n"]))) == {}


@pytest.mark.parametrize("task", ["LaMP_2M", "LaMP_3", "LaMP_4", "LaMP_7"])
@pytest.mark.parametrize("count", [1, 9, 10, 11, 30])
def test_it_names_exactly_the_records_that_it_read(task, count, context, recorder, a_user):
    """So a caller can tell whether a summary has seen the record of a pseudo-query."""
    llm = recorder()
    user = a_user(task, records=count)
    model = pag.STRATEGY.learn([user], context(task, llm=llm))["u"]
    (message,) = llm.asked[0].messages
    quoted = [record.id for record in user.profile if f'of number {record.id[1:]}"' in message.text]
    assert list(model.records) == quoted == [record.id for record in user.profile[-10:]]


def test_a_summary_written_without_a_record_does_not_hold_it(context, recorder, a_user, without):
    llm = recorder()
    user = a_user(records=5)
    model = pag.STRATEGY.learn([without(user, "r3")], context(llm=llm))["u"]
    assert "r3" not in model.records
    assert "number 3" not in llm.asked[0].messages[0].text and "number 2" in llm.asked[0].messages[0].text


@pytest.mark.parametrize("form", ["chat", "one_prompt"])
def test_the_summary_stands_before_the_question(form, context, a_user):
    ctx = context(form=form)
    profile = a_user().profile
    plain = turns.conversation(QUERY, profile, ctx)
    messages = pag.STRATEGY.messages(QUERY, profile, _model("Writes short, dry titles."), ctx)
    assert messages[:-1] == plain[:-1]
    assert messages[-1].text.endswith(plain[-1].text)
    assert "Writes short, dry titles." in messages[-1].text.removesuffix(plain[-1].text)


def test_without_a_summary_it_is_rag(context, a_user):
    ctx = context()
    profile = a_user().profile
    assert pag.STRATEGY.messages(QUERY, profile, None, ctx) == turns.conversation(QUERY, profile, ctx)


def test_braces_in_texts_stay(context, recorder, a_record):
    """A summary that says {question}, or a record that says {records}, is text and not a slot."""
    llm = recorder()
    user = User(id="u", profile=(a_record(number=0, text="a {records} b"),))
    pag.STRATEGY.learn([user], context(llm=llm))
    assert llm.asked[0].messages[0].text.count("a {records} b") == 1
    query = Query(id="q", user_id="u", inputs={"text": "q {summary} q"})
    messages = pag.STRATEGY.messages(query, [], _model("s {question} s"), context())
    assert "s {question} s" in messages[-1].text
    assert messages[-1].text.count("q {summary} q") == 1
