from hydrajax.methods import ledger, sampling
from hydrajax.methods.answers import Prompt
from hydrajax.prompting import registry


def test_stored_answers_are_booked_as_if_they_were_paid_for(world, bench, tmp_path):
    place = world()
    ledgers = []
    for _ in range(2):
        here = bench(place, path=tmp_path / "one.sqlite")
        sampling.sample(
            here, "zero_shot", [Prompt(query=query) for query in place.people.new_queries], samples=2, stage="s"
        )
        ledgers.append(here.ledger)
    assert here.ctx.llm.usage.calls == 0
    assert ledgers[0] == ledgers[1]
    assert ledgers[0]["s", "n0"]["calls"] == 3
    assert ledgers[0]["s", "n0"]["output_tokens"] == sum(
        answer.output_tokens for _, r, answer in here.ctx.llm.seen if "realn0" in r.messages[-1].text
    )


def test_what_a_strategy_asks_once_a_user_is_booked_on_that_user(world, bench):
    place = world()
    here = bench(place)
    users = [place.users[user_id] for user_id in ("n0", "n1")]
    with ledger.charging(here.ledger, "summaries", here.ctx) as ctx:
        registry.get("pag").learn(users, ctx)
    spent = [answer.input_tokens for _, _, answer in here.ctx.llm.seen]
    assert {key: entry["input_tokens"] for key, entry in here.ledger.items()} == {
        ("summaries", "n0"): spent[0],
        ("summaries", "n1"): spent[1],
    }
