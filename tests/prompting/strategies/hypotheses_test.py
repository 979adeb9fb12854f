import dataclasses

import pytest

from hydrajax.prompting import contract, registry, turns
from hydrajax.prompting.strategies import hypotheses
from hydrajax.types import Query, User

QUERY = Query(id="q", user_id="u", inputs={"text": "asked now"})
GOOD = "communication: asks questions\npersonality: calm\nstyle: short lines\nattribute: likes boats"


def learn(user, ctx):
    return hypotheses.STRATEGY.learn([user], ctx).get(user.id)


def test_a_good_answer_costs_one_call(context, recorder, a_user):
    llm = recorder(answers=[GOOD])
    model = learn(a_user(), context(llm=llm))
    assert model.text.splitlines() == GOOD.splitlines()
    assert (len(llm.asked), model.fault, model.llm) == (1, "", llm.model)
    assert model.records == ("r0", "r1", "r2")


@pytest.mark.parametrize(
    "line",
    ["style: short", "- style: short", "3. Style: short", "**Style:** short", "* styles : short", "2) STYLE: short"],
)
def test_a_line_is_read_by_its_kind(line):
    assert hypotheses.parse(line).lines == ("style: short",)


@pytest.mark.parametrize(
    "answer", ["", "I cannot know.", "style:", "style: ...", "my style: short", "stylish: short", "tone: short"]
)
def test_what_is_no_hypothesis(answer):
    found = hypotheses.parse(answer)
    assert (found.lines, found.fault) == ((), "no hypotheses")


def test_too_many_are_cut_and_told():
    words = ["calm", "angry", "quick", "shy", "funny"]
    found = hypotheses.parse("\n".join(f"personality: {word}" for word in words))
    assert found.lines == tuple(f"personality: {word}" for word in words[:3])
    assert found.fault == "too many"


def test_near_duplicates_are_merged():
    """Jaccard of words at least .6; the longer one stays where the first stood."""
    assert hypotheses.merged(["writes short lines", "is calm", "writes very short lines"]) == [
        "writes very short lines",
        "is calm",
    ]
    assert hypotheses.merged(["a b c", "a d e"]) == ["a b c", "a d e"]


@pytest.mark.parametrize("text", ["Короткие предложения и шутки", "とても短い文", "短い"])
def test_another_script_is_no_hypothesis(text):
    assert hypotheses.parse(f"style: {text}").fault == "another language"
    assert hypotheses.prose(f"{text} {text} {text} {text}.").fault in ("another language", "no hypotheses")


def test_another_language_is_no_hypothesis():
    french = "cette personne aime les phrases courtes et drôles, sans adjectifs, avec beaucoup de points"
    french += " et très peu de mots, mais jamais de majuscules ni de longues listes"
    assert hypotheses.parse(f"style: {french}").fault == "another language"


def test_what_cannot_be_read_is_asked_again_once(context, recorder, a_user):
    llm = recorder(answers=lambda wanted: GOOD if "Write the notes again" in wanted.messages[0].text else "Hm.")
    ctx = context(llm=llm)
    model = learn(a_user(), ctx)
    assert model.text.splitlines() == GOOD.splitlines()
    assert (len(llm.asked), model.fault) == (2, "repaired")


def test_prose_stands_in_after_a_failed_repair(context, recorder, a_user):
    said = "The person is calm and likes boats. The person is calm and likes boats. They write in short lines. And then"
    ctx = context(llm=recorder(answers=lambda wanted: said))
    model = learn(a_user(), ctx)
    assert model.text.splitlines() == [
        "unsorted: The person is calm and likes boats.",
        "unsorted: They write in short lines.",
    ]
    assert model.fault == "prose" and len(ctx.llm.asked) == 2


@pytest.mark.parametrize("said", ["", "???", "12 34", "нет, не знаю, ничего не знаю об этом.", "no idea"])
def test_with_nothing_to_read_the_run_goes_on_as_rag(said, context, recorder, a_user):
    ctx = context(llm=recorder(answers=lambda wanted: said))
    model = learn(a_user(), ctx)
    assert model.text == "" and model.fault in ("no hypotheses", "another language")
    profile = a_user().profile
    plain = turns.conversation(QUERY, profile, ctx)
    assert hypotheses.STRATEGY.messages(QUERY, profile, None, ctx) == plain


def test_one_users_answer_does_not_touch_anothers(context, recorder, a_user):
    """Answers that cannot be read lie between others that can."""
    users = [a_user(records=2 + i, user_id=f"u{i}") for i in range(4)]
    ctx = context(llm=recorder(answers=lambda wanted: GOOD if wanted.group in ("u0", "u2") else "Hm."))
    found = hypotheses.STRATEGY.learn(users, ctx)
    assert [bool(found[user.id].text) for user in users] == [True, False, True, False]
    assert [found[user.id].fault for user in users] == ["", "no hypotheses"] * 2


def test_they_stand_before_the_question(context):
    ctx = context()
    model = contract.UserModel(text="style: short\nattribute: boats", records=("r0",))
    (message,) = hypotheses.STRATEGY.messages(QUERY, (), model, ctx)
    assert message.text.endswith(ctx.task.question(QUERY.inputs))
    assert message.text.count("<hypothesis>") == 2


GIVEN = {"age": "34", "occupation": "</attribute>\nnurse"}


@pytest.mark.parametrize("name", ["hypotheses", "hypothesis_bank"])
def test_attributes_of_the_data_stand_beside_the_hypotheses(name, context):
    ctx = dataclasses.replace(context(), whole={"u": User(id="u", attributes=GIVEN)})
    model = contract.UserModel(text="style: short", records=("r0",))
    (message,) = registry.get(name).messages(QUERY, (), model, ctx)
    lines = message.text.splitlines()
    assert lines[1:3] == ["<attribute>age: 34</attribute>", "<attribute>occupation: &lt;/attribute> nurse</attribute>"]
    assert lines.index("<hypothesis>style: short</hypothesis>") > 2
    assert message.text.endswith(ctx.task.question(QUERY.inputs))


def test_attributes_stand_alone_where_nothing_was_inferred(context, a_user):
    ctx = dataclasses.replace(context(), whole={"u": User(id="u", attributes=GIVEN)})
    *before, last = hypotheses.STRATEGY.messages(QUERY, a_user().profile, None, ctx)
    assert tuple(before) == turns.conversation(QUERY, a_user().profile, ctx)[:-1]
    assert last.text.count("<attribute>") == 2 and "hypothes" not in last.text and "suppose" not in last.text


@pytest.mark.parametrize("whole", [{}, {"u": User(id="u")}, {"v": User(id="v", attributes=GIVEN)}])
@pytest.mark.parametrize("text", ["style: short", ""])
def test_without_attributes_the_prompt_is_the_old_one(whole, text, context):
    model = contract.UserModel(text=text, records=())
    expected = hypotheses.STRATEGY.messages(QUERY, (), model, context())
    assert hypotheses.STRATEGY.messages(QUERY, (), model, dataclasses.replace(context(), whole=whole)) == expected


def test_nothing_is_inferred_from_attributes(context, recorder, a_user):
    plain, given = context(llm=recorder()), context(llm=recorder())
    learn(a_user(), plain)
    learn(dataclasses.replace(a_user(), attributes=GIVEN), given)
    assert given.llm.asked == plain.llm.asked
