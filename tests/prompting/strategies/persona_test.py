import pytest

from hydrajax.prompting import contract
from hydrajax.prompting.strategies import persona
from hydrajax.types import Query, User

QUERY = Query(id="q", user_id="u", inputs={"text": "asked now"})


def answering(right):
    """Writes personas, and answers a held-out record as the user did where `right` stands among the demonstrations."""

    def answer(wanted):
        if len(wanted.messages) == 1 and "Write a short description" in wanted.messages[0].text:
            return "This person is calm."
        shown = any(right in message.text for message in wanted.messages[:-1])
        number = wanted.messages[-1].text.rsplit("number ", 1)[-1].split()[0]
        return f"the title of number {number}" if shown else "wrong"

    return answer


@pytest.fixture
def few_settings():
    return {"trials": 2, "demonstrations": 1}


def test_calls_are_one_and_the_trials(context, recorder, a_user, few_settings):
    llm = recorder(answers=answering("never"))
    persona.STRATEGY.learn([a_user(records=6), a_user(records=6, user_id="v")], context(llm=llm, **few_settings))
    assert len(llm.asked) == 2 * (1 + 2 * 2)


@pytest.mark.parametrize("number", range(4))
def test_the_set_that_answers_held_out_records_stays(number, context, recorder, a_user, few_settings):
    user = a_user(records=6)
    right = f"the title of number {number}"
    ctx = context(llm=recorder(answers=answering(right)), **few_settings)
    model = persona.STRATEGY.learn([user], ctx)["u"]
    tried = {m.text for r in ctx.llm.asked for m in r.messages if m.role == "assistant"}
    assert model.shown == (f"r{number}",) or right not in tried


def test_held_out_records_are_in_nothing_that_is_tried_on_them(context, recorder, a_user):
    user = a_user(records=8)
    ctx = context(llm=recorder(answers=answering("never")), trials=2, demonstrations=2)
    model = persona.STRATEGY.learn([user], ctx)["u"]
    held = {"r6", "r7"}
    assert not held & set(model.records) and not held & set(model.shown)
    first = ctx.llm.asked[0].messages[0].text
    assert "number 6" not in first and "number 7" not in first and "number 5" in first
    for asked in ctx.llm.asked[1:]:
        before = " ".join(message.text for message in asked.messages[:-1])
        assert "number 6" not in before and "number 7" not in before


@pytest.mark.parametrize(("task", "records"), [("LaMP_7", 8), ("LaMP_4", 3), ("LaMP_4", 1)])
def test_without_trials_the_newest_records_are_shown(task, records, context, recorder, a_user):
    ctx = context(task, llm=recorder(answers=lambda wanted: "This person is calm."), trials=2, demonstrations=2)
    model = persona.STRATEGY.learn([a_user(task, records=records)], ctx)["u"]
    assert len(ctx.llm.asked) == 1
    assert model.shown == tuple(f"r{i}" for i in range(records)[::-1][:2])


def test_its_demonstrations_are_shown_but_never_the_record_that_is_asked(context, a_user):
    user, ctx = a_user(records=4), context()
    model = contract.UserModel(text="calm", records=(), shown=("r3", "r1"))
    asked = contract.Asked(query=QUERY, profile=user.profile, user_model=model)
    assert [r.id for r in persona.STRATEGY.choose([asked], 2, ctx)["q"]] == ["r3", "r1"]
    assert [r.id for r in persona.STRATEGY.choose([asked], 1, ctx)["q"]] == ["r3"]
    without = contract.Asked(query=QUERY, profile=user.profile[:3], user_model=model)
    assert [r.id for r in persona.STRATEGY.choose([without], 2, ctx)["q"]] == ["r1"]
    nothing = contract.Asked(query=QUERY, profile=user.profile)
    assert persona.STRATEGY.choose([nothing], 2, ctx) == {}


def test_an_empty_persona_is_told_and_nothing_is_tried_with_it(context, recorder, a_user):
    ctx = context(llm=recorder(answers=lambda wanted: " "))
    found = persona.STRATEGY.learn([a_user(records=6), User(id="empty")], ctx)
    assert {user: (model.text, model.shown, model.fault) for user, model in found.items()} == {
        "u": ("", (), "no persona")
    }
    assert len(ctx.llm.asked) == 1
