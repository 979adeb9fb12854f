import pytest

from hydrajax import retrieval
from hydrajax.prompting import contract, registry
from hydrajax.types import DataError, Query, User

QUERY = Query(id="q", user_id="u", inputs={"text": "asked now"})


def test_the_folder_is_the_registry():
    assert {"zero_shot", "icl_random", "rag", "pag"} <= set(registry.names())


@pytest.mark.parametrize("name", registry.names())
def test_every_file_keeps_the_contract(name):
    strategy = registry.get(name)
    assert strategy.name == name
    assert strategy.retriever is None or strategy.retriever in retrieval.names()


@pytest.mark.parametrize("name", registry.names())
@pytest.mark.parametrize("form", ["chat", "one_prompt"])
def test_every_strategy_ends_with_the_whole_query(name, form, context, a_user):
    ctx = context(form=form, max_prompt_tokens=10)
    user = a_user(records=4)
    query = Query(id="q", user_id="u", inputs={"text": "endless " * 500})
    model = registry.get(name).learn([user], ctx).get("u")
    messages = registry.get(name).messages(query, user.profile, model, ctx)
    assert messages[-1].role == "user"
    assert messages[-1].text.endswith(ctx.task.question(query.inputs))


@pytest.mark.parametrize("name", registry.names())
def test_a_user_without_a_profile_gets_the_zero_shot_prompt(name, context):
    ctx = context()
    model = registry.get(name).learn([User(id="u")], ctx).get("u")
    expected = registry.get("zero_shot").messages(QUERY, (), None, ctx)
    assert registry.get(name).messages(QUERY, (), model, ctx) == expected
    assert ctx.llm.asked == []


def test_zero_shot_shows_nothing_of_the_user(context, a_user):
    shown = registry.get("zero_shot").messages(QUERY, a_user().profile, None, context())
    assert [message.text for message in shown] == [context().task.question(QUERY.inputs)]


@pytest.mark.parametrize("name", ["icl_random", "rag"])
def test_records_strategies_show_what_they_are_given_and_ask_nothing_before(name, context, a_user):
    ctx = context()
    user = a_user(records=2)
    assert registry.get(name).learn([user], ctx) == {}
    text = "\n".join(message.text for message in registry.get(name).messages(QUERY, user.profile, None, ctx))
    assert all(record.fields["text"] in text and record.fields["title"] in text for record in user.profile)
    assert ctx.llm.asked == []


def test_an_unknown_strategy_is_named():
    found = r"unknown prompt strategy 'rga', expected one of cfrag, full_profile, .*, pag, .*rag, zero_shot, a module "
    with pytest.raises(DataError, match=found):
        registry.get("rga")


def test_all_unknown_strategies_are_named_at_once():
    with pytest.raises(DataError) as error:
        registry.permitted(("rga", "rag", "pga"), cross_user=True)
    first, second = str(error.value).splitlines()
    assert first.startswith("unknown prompt strategy 'rga'") and second.startswith("unknown prompt strategy 'pga'")


def test_an_answer_is_as_long_as_the_task_or_the_settings_say(context):
    assert context("LaMP_3").request(()).max_tokens == context("LaMP_3").task.max_answer_tokens
    assert context("LaMP_3", max_answer_tokens=5).request(()).max_tokens == 5
    assert context().request(()).temperature == 0.0 and context().request((), sample=3).sample == 3


def test_the_parts_are_no_strategies():
    assert not {"contract", "registry", "shorten", "turns"} & set(registry.names())
    assert contract.PromptSettings().most_relevant_last
