"""`cfrag` and `peer_difference`: the strategies that look at other users."""

import dataclasses

import numpy as np
import pytest

from hydrajax.data import tasks
from hydrajax.prompting import contract, registry
from hydrajax.types import DataError, Query, Record, User

WORDS = ("boats", "trains", "soups", "stars")


def embed(texts):
    """Counts of four words, and a little of each so that no text is zero."""
    return np.array([[text.count(word) + 0.01 for word in WORDS] for text in texts], np.float32)


def embed_letters(texts):
    """Tells titles apart, too, which hold none of the words."""
    return np.concatenate([embed(texts), [[text.count(letter) for letter in "afns01"] for text in texts]], axis=1)


def record(name, text, title="t"):
    return Record(id=name, fields={"text": text, "title": title})


def person(name, *texts):
    return User(
        id=name,
        profile=tuple(record(f"{name}{i}", text, f"{name} says {i}") for i, text in enumerate(texts)),
    )


ASKER = person("a", "boats boats", "boats soups", "boats one", "boats two")
NEAR, FAR = person("n", "boats three", "boats soups four"), person("f", "trains five", "trains stars")
POPULATION = {user.id: user for user in (ASKER, NEAR, FAR)}


def asked(text, user=ASKER, without=None):
    query = Query(id="q", user_id=user.id, inputs={"text": text}, record_id=without)
    return contract.Asked(query=query, profile=tuple(r for r in user.profile if r.id != without))


@pytest.fixture
def ctx(context, recorder):
    def make(**settings):
        return context(llm=recorder(), population=POPULATION, embed=embed, **settings)

    return make


def chosen(ctx, one, k=3):
    return [r.id for r in registry.get("cfrag").choose([one], k, ctx)["q"]]


def test_records_of_the_user_alike_are_shown_and_of_others_not(ctx):
    found = chosen(ctx(peers=1, peer_weight=1.0), asked("soups"), k=6)
    assert set(found) == {r.id for r in (*ASKER.profile, *NEAR.profile)}


def test_lambda_weighs_the_user_against_the_query(ctx):
    """lambda u'p + (1 - lambda) q'p: 0 goes by the query alone, 1 by the user alone."""
    by_query = chosen(ctx(peers=2, peer_weight=0.0), asked("trains stars now"), k=2)
    by_user = chosen(ctx(peers=2, peer_weight=1.0), asked("trains stars now"), k=2)
    assert set(by_query) == {"f0", "f1"}
    assert set(by_user) <= {r.id for r in (*ASKER.profile, *NEAR.profile)}


def test_what_is_asked_is_never_shown_whoever_has_it(ctx):
    """Another user's record on the very thing that is asked would give the answer away."""
    same = person("s", "Boats  TWO", "boats six")
    wide = ctx(peers=3)
    here = contract.Context(task=wide.task, llm=wide.llm, settings=wide.settings, embed=embed,
                            population={**POPULATION, "s": same})  # fmt: skip
    found = chosen(here, asked("boats two", without="a3"), k=20)
    assert "s0" not in found and "a3" not in found and "s1" in found
    settings = contract.PromptSettings(compare_on="nearest", least_writers=1)
    here = dataclasses.replace(here, settings=settings, embed=embed_letters)
    registry.get("peer_difference").prepare([asked("boats two", without="a3")], here)
    texts = [m.text for r in here.llm.asked for m in r.messages]
    assert all("s says 0" not in text for text in texts) and any("s says 1" in text for text in texts)


def test_a_copy_of_what_was_paraphrased_is_never_shown(context, recorder):
    """LaMP_7: the pseudo-query is a paraphrase of a tweet, and its gold is the tweet, which others may have, too."""
    task = tasks.LAMP["LaMP_7"]
    asker, other = (
        User(id=name, profile=tuple(Record(id=f"{name}{i}", fields={"text": text}) for i, text in enumerate(texts)))
        for name, texts in (("a", ["boats at sea", "soups at noon"]), ("b", ["Boats  at sea", "stars at night"]))
    )
    query = Query(id="q", user_id="a", inputs={"text": "ships on water"}, gold="boats at sea", record_id="a0")
    here = contract.Context(task=task, llm=recorder(), embed=embed, population={"a": asker, "b": other})
    found = chosen(here, contract.Asked(query=query, profile=asker.profile[1:]), k=9)
    assert sorted(found) == ["a1", "b1"]


def test_a_users_own_records_do_not_come_in_through_the_population(ctx):
    found = chosen(ctx(peers=3), asked("boats two", without="a3"), k=20)
    assert "a3" not in found and len(found) == len(set(found))


@pytest.mark.parametrize("name", ["cfrag", "peer_difference"])
@pytest.mark.parametrize("missing", ["population", "embed"])
def test_without_others_or_a_base_it_says_so(name, missing, context, recorder):
    given = {"population": POPULATION, "embed": embed, missing: None}
    here, strategy = context(llm=recorder(), **given), registry.get(name)
    with pytest.raises(DataError, match=f"{name!r} compares users"):
        (strategy.choose([asked("boats")], 2, here) if name == "cfrag" else strategy.prepare([asked("boats")], here))


def test_a_pseudo_querys_record_is_in_no_call(ctx):
    here = ctx(peers=1, compared_records=4, compare_on="nearest", least_writers=1)
    here = dataclasses.replace(here, embed=embed_letters)
    registry.get("peer_difference").prepare([asked("boats one", without="a2")], here)
    assert here.llm.asked and all("a says 2" not in m.text for r in here.llm.asked for m in r.messages)


def test_by_default_five_others_and_mostly_the_query_decide(context, recorder):
    """The paper's numbers: the six nearest users, the asker among them, and lambda = .1."""
    others = [person(f"o{i}", "boats " * (i + 1) + "soups", "trains") for i in range(8)]
    here = context(llm=recorder(), population={user.id: user for user in (*others, ASKER)}, embed=embed)
    found = registry.get("cfrag").choose([asked("trains now")], 99, here)["q"]
    users = {record.id.rstrip("0123456789") if record.id[0] == "a" else record.id[:2] for record in found}
    assert len(users) == 6 and "a" in users
    assert [record.fields["text"] for record in found[:5]] == ["trains"] * 5


def test_of_each_user_so_many_records_are_chosen_among(ctx):
    few = chosen(ctx(peers=2, peer_weight=0.0, peer_records=1), asked("trains stars now"), k=9)
    assert sorted(name[0] for name in few) == ["a", "f", "n"] and few[0][0] == "f"
    # The best k of all are among the k best of each.
    assert chosen(ctx(peers=2), asked("soups"), k=3) == chosen(ctx(peers=2, peer_records=3), asked("soups"), k=3)
    assert chosen(ctx(peers=2), asked("soups"), k=3) == chosen(ctx(peers=2, peer_records=99), asked("soups"), k=3)


def test_a_user_without_a_profile_compares_nothing(ctx):
    here = ctx()
    empty = contract.Asked(query=Query(id="q", user_id="e", inputs={"text": "boats"}), profile=())
    assert registry.get("cfrag").choose([empty], 2, here) == {}
