"""HyPerAlign's two steps on a small world, with the strategies that say something of a user or show records."""

import dataclasses

import pytest

from hydrajax.llm import scripted
from hydrajax.methods import hyperalign, shuffled
from hydrajax.prompting import contract

STRATEGIES = ["zero_shot", "icl_random", "rag", "pag"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_query_gets_its_number_of_samples(world, bench, strategy):
    place = world(queries=2)
    found = hyperalign.hyperalign(bench(place), place.people.new_queries, strategy=strategy, samples=3)
    assert set(found) == {query.id for query in place.people.new_queries}
    assert all(len(texts) == 3 and all(texts) for texts in found.values())


def test_one_sample_is_the_greedy_one(world, bench):
    place = world()
    here = bench(place)
    hyperalign.hyperalign(here, place.people.new_queries, strategy="zero_shot", samples=1)
    assert [request.temperature for request in here.ctx.llm.requests()] == [0.0] * len(place.people.new_queries)


def test_what_is_learned_of_a_user_is_learned_once(world, bench):
    place = world(queries=3)
    here = bench(place)
    hyperalign.hyperalign(here, place.people.new_queries, strategy="pag", samples=2)
    hyperalign.hyperalign(here, place.people.new_queries, strategy="pag", samples=2)
    assert len(here.ctx.llm.requests("summaries")) == len(place.people.new)


def test_empty_answers_and_refusals_are_empty_texts(world, bench, answering):
    place = world(queries=1)
    silent = answering(lambda request: "" if request.sample else "some words")
    found = hyperalign.hyperalign(bench(place, transport=silent), place.people.new_queries, strategy="rag", samples=3)
    # Sample 0 is drawn twice: greedy, and at the lab's temperature.
    assert all(sorted(texts) == ["", "some words", "some words"] for texts in found.values())

    class Refusing(scripted.Scripted):
        async def complete(self, request):
            return dataclasses.replace(await super().complete(request), text="no", stop_reason="refusal")

    found = hyperalign.hyperalign(bench(place, transport=Refusing()), place.people.new_queries, strategy="rag")
    assert all(texts == ["", "", ""] for texts in found.values())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_lent_queries_are_answered_from_the_lenders_texts_alone(world, bench, strategy):
    place = world(new=3)
    here = bench(place)
    lender = {"n0": "n1", "n1": "n2", "n2": "n0"}
    lent = shuffled.lent(place.people.new_queries, lender)
    hyperalign.hyperalign(here, lent, strategy=strategy, samples=2)
    for original, query in zip(place.people.new_queries, lent, strict=True):
        asked = [r for r in here.ctx.llm.requests(strategy) if original.inputs["text"] in r.messages[-1].text]
        assert len(asked) == 2
        for request in asked:
            said = " ".join(message.text for message in request.messages)
            assert f"own{original.user_id}r" not in said
            assert strategy in ("zero_shot", "pag") or f"own{query.user_id}r" in said


def test_lent_queries_reuse_what_is_known_of_the_lender(world, bench):
    place = world(new=2)
    here = bench(place)
    hyperalign.hyperalign(here, place.people.new_queries, strategy="pag", samples=1)
    before = len(here.ctx.llm.requests("summaries"))
    hyperalign.hyperalign(here, shuffled.lent(place.people.new_queries, {"n0": "n1", "n1": "n0"}), strategy="pag")
    assert len(here.ctx.llm.requests("summaries")) == before


def test_as_many_records_are_shown_as_fit(world, bench, settings):
    place = world(records=4)
    roomy = bench(place)
    tight = bench(place, settings(prompts=dataclasses.replace(roomy.settings.prompts, max_prompt_tokens=60)))
    tiny = bench(place, settings(prompts=dataclasses.replace(roomy.settings.prompts, max_prompt_tokens=1)))
    sizes = [
        {len(prompt.records) for prompt in hyperalign.prompts(lab, "icl_random", place.people.new_queries)}
        for lab in (roomy, tight, tiny)
    ]
    assert sizes[0] == {4} and max(sizes[1]) < 4 and sizes[2] == {1}


def test_what_speaks_for_itself_shows_no_records_but_its_own(world, bench, monkeypatch):
    place = world()
    queries = place.people.new_queries
    models = [contract.UserModel(text="t", records=()), contract.UserModel(text="t", records=(), shown=("r0",))]
    known = dict(zip([query.id for query in queries], models, strict=False))
    monkeypatch.setattr(hyperalign.user_models, "known", lambda lab, strategy, queries: known)
    assert [len(prompt.records) for prompt in hyperalign.prompts(bench(place), "pag", queries)] == [0, 4, 4]
    assert hyperalign.prompts(bench(place), "rag", queries)[0].records


def test_zero_shot_alone_is_not_personal():
    assert shuffled.personal(STRATEGIES) == STRATEGIES[1:]
