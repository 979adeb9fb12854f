import collections
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hydrajax.llm import scripted
from hydrajax.methods import lab
from hydrajax.prompting import registry
from hydrajax.types import Candidate

answer_texts = st.lists(st.sampled_from(["a", " a ", "A", "b", '"b"', "c d", "", "  ", '""']), min_size=1, max_size=9)


def stripped(text):
    return text.strip().strip('"')


def candidates(texts):
    return [Candidate(text=text, source="s") for text in texts]


@given(texts=answer_texts)
def test_no_two_candidates_read_the_same(texts):
    merged = lab.merge(candidates(texts), stripped)
    readings = [stripped(candidate.text) for candidate in merged]
    assert len(set(readings)) == len(readings) > 0


@given(texts=answer_texts)
def test_every_answer_that_is_not_empty_keeps_its_vote(texts):
    counts = collections.Counter(stripped(text) for text in texts if stripped(text))
    merged = {stripped(c.text): c.votes for c in lab.merge(candidates(texts), stripped)}
    assert merged == counts or (not counts and merged == {"": 1})


@given(texts=answer_texts)
def test_an_empty_answer_is_a_candidate_only_where_nothing_else_is(texts):
    merged = lab.merge(candidates(texts), stripped)
    some = any(stripped(text) for text in texts)
    assert all(stripped(candidate.text) for candidate in merged) if some else len(merged) == 1


@given(texts=answer_texts)
def test_candidates_stand_where_their_text_came_first(texts):
    first = [text for i, text in enumerate(texts) if stripped(text) and stripped(text) not in map(stripped, texts[:i])]
    assert [c.text for c in lab.merge(candidates(texts), stripped) if stripped(c.text)] == first


def test_a_refusal_is_a_candidate_only_where_nothing_else_is():
    said = [Candidate(text=t, source="s", stop_reason=r) for t, r in (("I can't", "refusal"), ("yes", "end_turn"))]
    assert lab.merge(said, stripped) == said[1:]
    assert lab.merge(said[:1], stripped) == said[:1]


def test_where_the_greedy_answer_is_empty_no_sample_passes_for_it(world, bench, answering):
    place = world()
    query = place.people.new_queries[0]
    whole, cut = (
        bench(place, transport=answering(lambda r, text=text: text if r.temperature == 0.0 else f"draw {r.sample}"))
        for text in ("the greedy one", "")
    )
    pool = whole.pools("zero_shot", {}, [query], samples=2, source="s", stage="s")[query.id]
    assert [(c.text, c.greedy) for c in pool] == [("the greedy one", True), ("draw 0", False), ("draw 1", False)]
    pool = cut.pools("zero_shot", {}, [query], samples=2, source="s", stage="s")[query.id]
    assert [(c.text, c.greedy) for c in pool] == [("draw 0", False), ("draw 1", False)]


def test_equal_answers_of_two_sources_stay_apart():
    same = [Candidate(text="x", source="zero_shot"), Candidate(text="x", source="reranked")]
    assert lab.merge(same, stripped) == same


def test_a_pool_is_the_greedy_answer_and_b_samples(world, bench):
    place = world()
    here = bench(place)
    queries = place.people.new_queries
    pools = here.pools("zero_shot", {}, queries, samples=3, source="zero_shot", stage="s")
    for query, asked in zip(queries, _grouped(here.ctx.llm.requests("s"), 4), strict=True):
        assert [(r.temperature, r.sample) for r in asked] == [(0.0, 0), (0.7, 0), (0.7, 1), (0.7, 2)]
        assert len({r.messages for r in asked}) == 1 and {r.group for r in asked} == {query.user_id}
        assert sum(candidate.votes for candidate in pools[query.id]) == 4
        assert pools[query.id][0].text == here.answers("zero_shot", {}, [query], stage="t")[query.id].text


def test_a_model_without_temperature_gives_independent_samples_the_first_for_the_greedy_one(world, bench):
    class Untempered(scripted.Scripted):
        model = "some-model-without-a-row"

    place = world()
    here = bench(place, transport=Untempered())
    here.pools("zero_shot", {}, place.people.new_queries[:1], samples=3, source="s", stage="s")
    asked = here.ctx.llm.requests()
    assert [r.temperature for r in asked] == [None] * 4
    assert [r.sample for r in asked] == [0, 1, 2, 3]


def test_a_model_without_temperature_sees_the_records_in_other_orders(world, bench):
    class Untempered(scripted.Scripted):
        model = "some-model-without-a-row"

    place = world()
    query = place.people.new_queries[0]
    prompts = []
    for seed in (0, 0, 1):
        here = dataclasses.replace(bench(place, transport=Untempered()), seed=seed)
        records = {query.id: here.retrieve(query, 3)}
        here.pools("rag", records, [query], samples=6, source="s", stage="s")
        prompts.append([tuple(m.text for m in r.messages) for r in here.ctx.llm.requests()])
    assert prompts[0] == prompts[1] != prompts[2]
    whole, *varied = prompts[0]
    assert len(whole) == 7 and {len(p) for p in varied} == {5} and len(set(varied)) > 2
    assert all(set(p) <= set(whole) for p in varied)


def test_styles_take_turns_among_the_samples_and_leave_the_greedy_answer_alone(world, bench, settings):
    place = world()
    query = place.people.new_queries[0]
    here = bench(place, settings(styles=("Be short.", "Be loud!")))
    here.pools("zero_shot", {}, [query], samples=3, source="s", stage="s")
    question = place.task.question(query.inputs)
    asked = [r.messages[-1].text for r in here.ctx.llm.requests()]
    assert asked == [question, f"{question}\nBe short.", f"{question}\nBe loud!", f"{question}\nBe short."]


def test_an_empty_sample_is_dropped_and_an_empty_pool_holds_one_failure(world, bench, answering):
    place = world()
    query = place.people.new_queries[0]
    hot_only = bench(place, transport=answering(lambda r: "" if r.temperature else "the greedy one"))
    pool = hot_only.pools("zero_shot", {}, [query], samples=3, source="s", stage="s")[query.id]
    assert [(c.text, c.votes) for c in pool] == [("the greedy one", 1)]
    nothing = bench(place, transport=answering(lambda r: "  "))
    pool = nothing.pools("zero_shot", {}, [query], samples=3, source="s", stage="s")[query.id]
    assert len(pool) == 1 and nothing.quality(query, pool[0].text) == 0.0


def test_the_order_of_queries_changes_no_pool(world, bench):
    place = world()
    here, there = bench(place), bench(place)
    queries = place.people.new_queries
    forward = here.pools("zero_shot", {}, queries, samples=2, source="s", stage="s")
    assert forward == there.pools("zero_shot", {}, queries[::-1], samples=2, source="s", stage="s")


def test_rewards_judge_where_there_are_any_and_golds_elsewhere(world, bench):
    place = world()
    query = place.people.new_queries[0]
    assert bench(place).quality(query, query.gold) == 1.0
    assert bench(place).quality(query, "") == 0.0
    rewarded = bench(place, reward=lambda asked, text: float(len(text)) if asked == query else -1.0)
    assert rewarded.quality(query, '"four"') == 4.0
    with pytest.raises(ValueError, match=query.id):
        bench(place).quality(dataclasses.replace(query, gold=None), "anything")


@pytest.mark.parametrize("retriever", ["bm25", "recency", "random", None])
def test_no_retriever_returns_the_record_that_a_pseudo_query_was_made_of(world, bench, retriever):
    place = world()
    here = bench(place)
    for query in here.pseudo_queries(list(place.users)):
        found = here.retrieve(query, 99, retriever)
        assert len(found) == 3
        assert query.record_id not in [record.id for record in found]


def test_pseudo_queries_of_a_user_do_not_depend_on_other_users(world, bench):
    place = world()
    here = bench(place)
    of_all = here.pseudo_queries(list(place.users))
    assert [q for q in of_all if q.user_id == "n1"] == here.pseudo_queries(["n1"])
    assert len(of_all) == 2 * len(place.users)


def test_a_paraphrase_takes_the_place_of_what_the_user_wrote(world, bench, answering):
    place = world("LaMP_7")
    here = bench(place, transport=answering(lambda r: '"said in other words"'))
    for query in here.pseudo_queries(list(place.users)):
        assert query.inputs == {"text": "said in other words"}
        assert query.gold == place.record(query).fields["text"]
    asked = here.ctx.llm.requests()
    assert len(asked) == 2 * len(place.users) and all(r.temperature == 0.0 for r in asked)
    assert {stage for stage, *_ in here.ctx.llm.seen} == {"paraphrases"}
    assert sum(entry["calls"] for entry in here.ledger.values()) == len(asked)


def test_a_record_whose_paraphrase_comes_back_empty_is_not_asked(world, bench, answering):
    place = world("LaMP_7")
    lost = "ownn0r"
    here = bench(place, transport=answering(lambda r: "" if lost in r.messages[-1].text else "other words"))
    assert here.pseudo_queries(["n0"]) == []
    assert len(here.pseudo_queries(["n1"])) == 2


def test_stored_answers_are_booked_as_if_they_were_paid_for(world, bench, tmp_path):
    place = world()
    ledgers = []
    for _ in range(2):
        here = bench(place, path=tmp_path / "one.sqlite")
        here.pools("zero_shot", {}, place.people.new_queries, samples=2, source="s", stage="s")
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
    with here.charging("summaries") as ctx:
        registry.get("pag").learn(users, ctx)
    spent = [answer.input_tokens for _, _, answer in here.ctx.llm.seen]
    assert {key: entry["input_tokens"] for key, entry in here.ledger.items()} == {
        ("summaries", "n0"): spent[0],
        ("summaries", "n1"): spent[1],
    }


def _grouped(items, size):
    return [items[i : i + size] for i in range(0, len(items), size)]
