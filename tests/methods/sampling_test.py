import collections
import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from hydrajax.llm import scripted
from hydrajax.methods import sampling
from hydrajax.methods.answers import Prompt
from hydrajax.types import Candidate

answer_texts = st.lists(st.sampled_from(["a", " a ", "A", "b", '"b"', "c d", "", "  ", '""']), min_size=1, max_size=9)


def stripped(text):
    return text.strip().strip('"')


def candidates(texts):
    return [Candidate(text=text, source="s") for text in texts]


def bare(queries):
    return [Prompt(query=query) for query in queries]


def pool_of(lab, query, samples):
    """The candidates of a query that is put without records."""
    (pool,) = sampling.sample(lab, "zero_shot", bare([query]), samples=samples, stage="s")
    return pool.candidates


@given(texts=answer_texts)
def test_no_two_candidates_read_the_same(texts):
    merged = sampling.merge(candidates(texts), stripped)
    readings = [stripped(candidate.text) for candidate in merged]
    assert len(set(readings)) == len(readings) > 0


@given(texts=answer_texts)
def test_every_answer_that_is_not_empty_keeps_its_vote(texts):
    counts = collections.Counter(stripped(text) for text in texts if stripped(text))
    merged = {stripped(c.text): c.votes for c in sampling.merge(candidates(texts), stripped)}
    assert merged == counts or (not counts and merged == {"": 1})


@given(texts=answer_texts)
def test_an_empty_answer_is_a_candidate_only_where_nothing_else_is(texts):
    merged = sampling.merge(candidates(texts), stripped)
    some = any(stripped(text) for text in texts)
    assert all(stripped(candidate.text) for candidate in merged) if some else len(merged) == 1


@given(texts=answer_texts)
def test_candidates_stand_where_their_text_came_first(texts):
    first = [text for i, text in enumerate(texts) if stripped(text) and stripped(text) not in map(stripped, texts[:i])]
    assert [c.text for c in sampling.merge(candidates(texts), stripped) if stripped(c.text)] == first


def test_a_refusal_is_a_candidate_only_where_nothing_else_is():
    said = [Candidate(text=t, source="s", stop_reason=r) for t, r in (("I can't", "refusal"), ("yes", "end_turn"))]
    assert sampling.merge(said, stripped) == said[1:]
    assert sampling.merge(said[:1], stripped) == said[:1]


def test_where_the_greedy_answer_is_empty_no_sample_passes_for_it(world, bench, answering):
    place = world()
    query = place.people.new_queries[0]
    whole, cut = (
        bench(place, transport=answering(lambda r, text=text: text if r.temperature == 0.0 else f"draw {r.sample}"))
        for text in ("the greedy one", "")
    )
    pool = pool_of(whole, query, samples=2)
    assert [(c.text, c.greedy) for c in pool] == [("the greedy one", True), ("draw 0", False), ("draw 1", False)]
    pool = pool_of(cut, query, samples=2)
    assert [(c.text, c.greedy) for c in pool] == [("draw 0", False), ("draw 1", False)]


def test_equal_answers_of_two_sources_stay_apart():
    same = [Candidate(text="x", source="zero_shot"), Candidate(text="x", source="reranked")]
    assert sampling.merge(same, stripped) == same


def test_a_pool_is_the_greedy_answer_and_b_samples(world, bench):
    place = world()
    here = bench(place)
    queries = place.people.new_queries
    pools = sampling.sample(here, "zero_shot", bare(queries), samples=3, stage="s")
    for query, pool, asked in zip(queries, pools, _grouped(here.ctx.llm.requests("s"), 4), strict=True):
        assert pool.query == query and pool.records == ()
        assert [(r.temperature, r.sample) for r in asked] == [(0.0, 0), (0.7, 0), (0.7, 1), (0.7, 2)]
        assert len({r.messages for r in asked}) == 1 and {r.group for r in asked} == {query.user_id}
        assert sum(candidate.votes for candidate in pool.candidates) == 4
        assert {candidate.source for candidate in pool.candidates} == {"zero_shot"}
        (greedy,) = sampling.answer(here, "zero_shot", bare([query]), stage="t")
        assert pool.candidates[0].text == greedy.text


def test_a_model_without_temperature_gives_independent_samples_the_first_for_the_greedy_one(world, bench):
    class Untempered(scripted.Scripted):
        model = "some-model-without-a-row"

    place = world()
    here = bench(place, transport=Untempered())
    pool_of(here, place.people.new_queries[0], samples=3)
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
        sampling.sample(here, "rag", sampling.prompts(here, "rag", [query], 3), samples=6, stage="s")
        prompts.append([tuple(m.text for m in r.messages) for r in here.ctx.llm.requests()])
    assert prompts[0] == prompts[1] != prompts[2]
    whole, *varied = prompts[0]
    assert len(whole) == 7 and {len(p) for p in varied} == {5} and len(set(varied)) > 2
    assert all(set(p) <= set(whole) for p in varied)


def test_styles_take_turns_among_the_samples_and_leave_the_greedy_answer_alone(world, bench, settings):
    place = world()
    query = place.people.new_queries[0]
    here = bench(place, settings(styles=("Be short.", "Be loud!")))
    pool_of(here, query, samples=3)
    question = place.task.question(query.inputs)
    asked = [r.messages[-1].text for r in here.ctx.llm.requests()]
    assert asked == [question, f"{question}\nBe short.", f"{question}\nBe loud!", f"{question}\nBe short."]


def test_an_empty_sample_is_dropped_and_an_empty_pool_holds_one_failure(world, bench, answering):
    place = world()
    query = place.people.new_queries[0]
    hot_only = bench(place, transport=answering(lambda r: "" if r.temperature else "the greedy one"))
    pool = pool_of(hot_only, query, samples=3)
    assert [(c.text, c.votes) for c in pool] == [("the greedy one", 1)]
    nothing = bench(place, transport=answering(lambda r: "  "))
    pool = pool_of(nothing, query, samples=3)
    assert len(pool) == 1 and nothing.quality(query, pool[0].text) == 0.0


def test_the_order_of_queries_changes_no_pool(world, bench):
    place = world()
    here, there = bench(place), bench(place)
    queries = place.people.new_queries
    forward = sampling.sample(here, "zero_shot", bare(queries), samples=2, stage="s")
    backward = sampling.sample(there, "zero_shot", bare(queries[::-1]), samples=2, stage="s")
    assert forward == backward[::-1]


def test_a_query_can_be_put_with_several_prompts(world, bench):
    place = world()
    here = bench(place)
    query = place.people.new_queries[0]
    alone = [Prompt(query=query, records=(record,)) for record in here.retrieve(query, 3)]
    pools = sampling.sample(here, "rag", alone, samples=1, stage="s")
    assert [pool.records for pool in pools] == [prompt.records for prompt in alone]
    for prompt, asked in zip(alone, _grouped(here.ctx.llm.requests("s"), 2), strict=True):
        for wanted in asked:
            assert wanted.messages[:-1] == tuple(place.task.demonstration_turns(prompt.records[0]))


def test_pseudo_queries_of_a_user_do_not_depend_on_other_users(world, bench):
    place = world()
    here = bench(place)
    of_all = sampling.pseudo_queries(here, list(place.users))
    assert [q for q in of_all if q.user_id == "n1"] == sampling.pseudo_queries(here, ["n1"])
    assert len(of_all) == 2 * len(place.users)


def test_a_paraphrase_takes_the_place_of_what_the_user_wrote(world, bench, answering):
    place = world("LaMP_7")
    here = bench(place, transport=answering(lambda r: '"said in other words"'))
    for query in sampling.pseudo_queries(here, list(place.users)):
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
    assert sampling.pseudo_queries(here, ["n0"]) == []
    assert len(sampling.pseudo_queries(here, ["n1"])) == 2


def _grouped(items, size):
    return [items[i : i + size] for i in range(0, len(items), size)]
