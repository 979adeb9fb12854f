"""What strategies learn of users: once, from records that may help, kept, and paid for by the user."""

import dataclasses
import re

import pytest

from hydrajax.data import cross_fitting
from hydrajax.methods import sampling, user_models
from hydrajax.methods.answers import Prompt
from hydrajax.prompting import library

LEARNING = ("pag", "hypotheses", "persona")


def bare(queries):
    return [Prompt(query=query) for query in queries]


@pytest.mark.parametrize("strategy", LEARNING)
def test_nothing_made_for_a_pseudo_query_has_seen_its_record(strategy, world, bench):
    """Every record carries a word of its own; in no prompt for its query, and in none that led to its user model,
    does that of the record's answer stand."""
    place = world(records=6)
    here = bench(place)
    queries = sampling.pseudo_queries(here, ["n0", "n1"])
    sampling.answer(here, strategy, sampling.prompts(here, strategy, queries, 2), stage="asked")
    models = user_models.known(here, strategy, queries)
    for query in queries:
        secret = f"own{query.user_id}{query.record_id}z"
        half = cross_fitting.half(place.users[query.user_id], cross_fitting.part_for(query, place.users[query.user_id]))
        texts = {r.fields[here.ctx.task.answer] for r in half.profile}
        assert all(secret not in text for text in texts)
        if query.id in models:
            assert query.record_id not in {*models[query.id].records, *models[query.id].shown}
        prompts = [
            "\n".join(m.text for m in r.messages)
            for r in here.ctx.llm.requests("asked")
            if f"ask{query.user_id}{query.record_id}z" in r.messages[-1].text
        ]
        assert prompts and all(secret not in prompt for prompt in prompts)


def test_pairs_for_a_pseudo_query_have_not_seen_its_record(world, bench, answering):
    """Nor has another record of the user's other half, though the user is one of the population."""
    place = world(records=10)

    def answer(wanted):
        text = wanted.messages[0].text
        return "style: calm\nattribute: boats" if "short hypothes" in text else "A" if "[A, B]" in text else None

    here = bench(place, transport=answering(answer))
    here = dataclasses.replace(here, ctx=dataclasses.replace(here.ctx, population=place.users))
    for query in sampling.pseudo_queries(here, ["n0", "n1"]):
        before = len(here.ctx.llm.seen)
        (model,) = user_models.known(here, "hypothesis_bank", [query]).values()
        user = place.users[query.user_id]
        half = {r.id for r in cross_fitting.half(user, cross_fitting.part_for(query, user)).profile}
        assert set(model.records) == half and query.record_id not in half
        asked = "".join(r.messages[0].text for _, r, _ in here.ctx.llm.seen[before:])
        if asked:
            assert "[A, B]" in asked
            assert {r.id for r in user.profile if f"own{user.id}{r.id}z" in asked} == half


@pytest.mark.parametrize("strategy", LEARNING)
def test_they_are_learned_once_a_user_and_part(strategy, world, bench):
    place = world()
    here = bench(place)
    real = place.people.new_queries
    pseudo = sampling.pseudo_queries(here, ["n0", "n1", "n2"])
    user_models.known(here, strategy, [*real, *pseudo])
    asked = len(here.ctx.llm.seen)
    user_models.known(here, strategy, [*pseudo, *real])
    assert len(here.ctx.llm.seen) == asked
    assert all(library.Key(strategy, user, "whole") in here.library for user in ("n0", "n1", "n2"))
    assert any(
        library.Key(strategy, "n0", half) in here.library for half in (cross_fitting.FIRST, cross_fitting.SECOND)
    )


def test_an_edited_one_is_used_and_a_deleted_one_is_not_learned_again(world, bench, tmp_path):
    place = world()
    here = bench(place)
    user_models.known(here, "pag", place.people.new_queries)
    here.library.edit(library.Key("pag", "n0"), "loves PLANTED words")
    here.library.delete("n1")
    before = len(here.ctx.llm.seen)
    found = user_models.known(here, "pag", place.people.new_queries)
    assert len(here.ctx.llm.seen) == before
    assert found["q-n0-0"].text == "loves PLANTED words" and "q-n1-0" not in found
    sampling.answer(here, "pag", bare(place.people.new_queries), stage="asked")
    texts = {r.group: r.messages[-1].text for r in here.ctx.llm.requests("asked")}
    assert "PLANTED" in texts["n0"] and "What is known" not in texts["n1"] and "PLANTED" not in texts["n2"]


def test_a_library_from_the_disk_costs_no_call_and_the_books_say_the_same(world, bench, tmp_path):
    place, ledgers = world(), []
    for _ in range(2):
        here = bench(place)
        here = type(here)(
            ctx=here.ctx, users=here.users, settings=here.settings, library=library.Library(tmp_path / "m.jsonl")
        )
        user_models.known(here, "hypotheses", [*place.people.new_queries, *sampling.pseudo_queries(here, ["n0"])])
        ledgers.append({at: dict(entry) for at, entry in here.ledger.items()})
    assert not here.ctx.llm.seen
    assert ledgers[0] == ledgers[1] and ledgers[0]["hypotheses: user models", "n0"]["calls"] >= 1


@pytest.mark.parametrize("strategy", LEARNING)
def test_a_library_from_the_disk_counts_what_was_cut_as_it_was_counted_when_it_was_learned(
    strategy, world, bench, tmp_path
):
    place, counts = world(), []
    for queries in (place.people.new_queries[:1], place.people.new_queries, place.people.new_queries):
        here = bench(place)
        short = dataclasses.replace(here.ctx.settings, max_record_tokens=3)
        ctx = dataclasses.replace(here.ctx, settings=short)
        library_ = library.Library(tmp_path / "m.jsonl")
        here = dataclasses.replace(here, ctx=ctx, library=library_)
        user_models.known(here, strategy, queries)
        counts.append((dict(here.ctx.cut), dict(here.ctx.faults)))
    assert counts[0][0]["records"] < counts[1][0]["records"]
    assert counts[2] == counts[1]


@pytest.mark.parametrize("strategy", LEARNING)
def test_changed_records_are_learned_from_anew_but_a_persons_text_stays(strategy, world, bench, tmp_path):
    def asked(place):
        here = dataclasses.replace(bench(place), library=library.Library(tmp_path / "m.jsonl"))
        found = user_models.known(here, strategy, place.people.new_queries)
        return found, {request.group for request in here.ctx.llm.requests()}, here.library

    place = world()
    first, users, kept = asked(place)
    assert users == {"n0", "n1", "n2"}
    assert asked(place)[:2] == (first, set())
    kept.edit(library.Key(strategy, "n0"), "terse")
    kept.delete("n1")
    changed = {
        user_id: dataclasses.replace(user, profile=tuple(_rewritten(record) for record in user.profile))
        for user_id, user in place.users.items()
    }
    place = dataclasses.replace(place, users=changed)
    found, users, _ = asked(place)
    assert users == {"n2"} and found["q-n0-0"].text == "terse" and "q-n1-0" not in found
    assert asked(place)[:2] == (found, set())


def _rewritten(record):
    return dataclasses.replace(record, fields={name: f"new {text}" for name, text in record.fields.items()})


def test_pairs_are_made_anew_where_other_people_have_changed(world, bench):
    place = world(records=6)
    here = bench(place)
    here = dataclasses.replace(here, ctx=dataclasses.replace(here.ctx, population=place.users))
    fewer = {user_id: user for user_id, user in place.users.items() if user_id != "t0"}
    other = dataclasses.replace(here, ctx=dataclasses.replace(here.ctx, population=fewer))
    queries = place.people.new_queries
    for strategy, again in (("hypothesis_bank", True), ("hypotheses", False), ("rag", False)):
        user_models.known(here, strategy, queries)
        before = len(here.ctx.llm.seen)
        user_models.known(here, strategy, queries)
        assert len(here.ctx.llm.seen) == before
        user_models.known(other, strategy, queries)
        assert (len(here.ctx.llm.seen) > before) == again


def test_a_half_that_is_compared_is_learned_anew_where_the_other_half_has_changed(world, bench):
    place = world(records=6)
    here = bench(place)
    here = dataclasses.replace(here, ctx=dataclasses.replace(here.ctx, population=place.users))
    (query, *_) = sampling.pseudo_queries(here, ["n0"])
    user = place.users["n0"]
    profile = tuple(_rewritten(record) if record.id == query.record_id else record for record in user.profile)
    changed = {**place.users, "n0": dataclasses.replace(user, profile=profile)}
    other = dataclasses.replace(here, users=changed)
    part = cross_fitting.part_for(query, user)
    assert cross_fitting.half(user, part) == cross_fitting.half(changed["n0"], part)
    for strategy, again in (("hypothesis_bank", True), ("hypotheses", False)):
        user_models.known(here, strategy, [query])
        before = len(here.ctx.llm.seen)
        user_models.known(other, strategy, [query])
        assert (len(here.ctx.llm.seen) > before) == again


def test_no_users_text_is_in_anothers_prompt(world, bench):
    """Of the strategies that do not say that they compare users."""
    place = world(records=5)
    here = bench(place)
    queries = [*place.people.new_queries, *sampling.pseudo_queries(here, ["n0", "n1", "n2"])]
    for strategy in ("zero_shot", "icl_random", "rag", *LEARNING):
        sampling.answer(here, strategy, sampling.prompts(here, strategy, queries, 2), stage=strategy)
    users = list(place.users)
    for _, request, _ in here.ctx.llm.seen:
        prompt = "\n".join(m.text for m in request.messages)
        named = {user for user in users if any(f"{word}{user}r" in prompt for word in ("ask", "own"))}
        assert named <= {request.group}


def test_what_could_not_be_learned_is_told_once_a_user_and_not_asked_again(world, bench, answering):
    place = world()
    here = bench(
        place, transport=answering(lambda wanted: "" if "short hypotheses" in wanted.messages[0].text else None)
    )
    for _ in range(2):
        assert user_models.known(here, "hypotheses", place.people.new_queries) == {}
    assert here.ctx.faults == {"hypotheses: no hypotheses": 3}
    assert len(here.ctx.llm.seen) == 3
    answers = sampling.answer(here, "hypotheses", bare(place.people.new_queries), stage="asked")
    zero = sampling.answer(here, "zero_shot", bare(place.people.new_queries), stage="plain")
    assert [answer.text for answer in answers] == [answer.text for answer in zero]


def test_attributes_reach_the_prompt_of_their_own_user_alone(world, bench):
    place = world(records=4)
    users = {name: dataclasses.replace(u, attributes={"home": f"of {name}"}) for name, u in place.users.items()}
    here = dataclasses.replace(bench(place), users=users)
    queries = [query for query in place.people.asked if query.user_id in ("n0", "n1")]
    sampling.answer(here, "hypotheses", bare(queries), stage="asked")
    asked = here.ctx.llm.requests("asked")
    assert asked and {r.group for r in asked} == {"n0", "n1"}
    for wanted in asked:
        homes = re.findall(r"<attribute>home: of (\w+)</attribute>", wanted.messages[-1].text)
        assert homes == [wanted.group]
    plain = bench(place)
    sampling.answer(plain, "hypotheses", bare(queries), stage="asked")
    assert all("<attribute>" not in m.text for r in plain.ctx.llm.requests("asked") for m in r.messages)
