from hydrajax.prompting import contract
from hydrajax.prompting.strategies import full_profile
from hydrajax.types import Query

QUERY = Query(id="q", user_id="u", inputs={"text": "asked now"})


def _chosen(records, ctx):
    asked = contract.Asked(query=QUERY, profile=tuple(records))
    return full_profile.STRATEGY.choose([asked], 1, ctx)["q"]


def test_everything_is_shown_whatever_k(context, a_record):
    records = [a_record(number=i) for i in range(7)]
    assert {record.id for record in _chosen(records, context())} == {record.id for record in records}


def test_what_does_not_fit_is_left_out_whole(context, a_record):
    records = [a_record(number=i) for i in range(7)]
    shown = _chosen(records, context(max_prompt_tokens=30))
    assert 0 < len(shown) < 7
    ctx = context(max_prompt_tokens=30)
    full_profile.STRATEGY.messages(QUERY, shown, None, ctx)
    assert not ctx.cut


def test_a_user_without_records_is_asked_the_question_alone(context):
    assert _chosen([], context()) == ()
    assert len(full_profile.STRATEGY.messages(QUERY, (), None, context())) == 1
