"""`peer_difference`: a record beside what others wrote on the same item."""

import dataclasses

import numpy as np
import pytest

from hydrajax.data import custom, tasks
from hydrajax.prompting import contract, peers, registry
from hydrajax.prompting.strategies import peer_difference
from hydrajax.types import DataError, Query, Record, User

WORDS = ("boats", "trains", "soups", "stars")
STRATEGY = registry.get("peer_difference")


def embed(texts):
    """Counts of four words, and a little of each so that no text is zero."""
    return np.array([[text.count(word) + 0.01 for word in WORDS] for text in texts], np.float32)


def user(name, **titles):
    """Who gave these titles, by the letter of the article."""
    records = (
        Record(id=f"{name}{letter}", fields={"text": f"article {letter}", "title": title})
        for letter, title in titles.items()
    )
    return User(id=name, profile=tuple(records))


ASKER = user("asker", x="boats boats", y="boats soups", z="boats alone")
# On x: one like the asker, and three like each other, of whom the middle one is nearest to their centre; on y: three.
OTHERS = (
    user("n1", x="boats boats soups", y="soups one"),
    user("n2", x="trains", y="soups two"),
    user("n3", x="trains trains stars", y="stars three"),
    user("n4", x="trains stars boats"),
)


def asked(text="something else", of=ASKER, without=None):
    query = Query(id="q", user_id=of.id, inputs={"text": text}, record_id=without, gold="g")
    return contract.Asked(query=query, profile=tuple(r for r in of.profile if r.id != without))


@pytest.fixture
def ctx(context, recorder):
    def make(others=(*OTHERS, ASKER), answers=None, **settings):
        population = {user.id: user for user in others}
        return context(llm=recorder(answers=answers), population=population, embed=embed, **settings)

    return make


def questions(here, *queries):
    """What is asked of single records, and of them together."""
    STRATEGY.prepare(queries or [asked()], here)
    texts = [request.messages[0].text for request in here.llm.asked]
    return [text for text in texts if "<other>" in text], [text for text in texts if "<other>" not in text]


def test_the_text_nearest_to_the_centre_of_the_other_cluster_is_compared(ctx):
    """Not the most similar text, which is in the user's own cluster, nor the most similar one of the other cluster."""
    titles = [other.profile[0].fields["title"] for other in OTHERS]
    own, *rest = peers.unit(embed(["boats boats", *titles]))
    likeness = np.array(rest) @ own
    assert titles[np.argmax(likeness)] == "boats boats soups"
    assert titles[1 + np.argmax(likeness[1:])] == "trains stars boats"
    centre = np.mean(rest[1:], axis=0)
    assert titles[1 + np.argmin(np.linalg.norm(rest[1:] - centre, axis=1))] == "trains trains stars"
    ((text,), _) = questions(ctx(peers=1))
    assert text.count("<other>") == 1 and "trains trains stars" in text.partition("<other>")[2]
    assert "boats boats" in text.partition("<other>")[0]


def test_with_as_many_clusters_as_texts_all_others_are_compared(ctx):
    ((text,), _) = questions(ctx())
    assert text.count("<other>") == peer_difference.CLUSTERS == len(OTHERS)
    assert "on the same thing" in text


@pytest.mark.parametrize(("least", "letters"), [(5, ""), (4, "x"), (3, "xy"), (1, "xy")])
def test_only_items_with_enough_other_writers_count(ctx, least, letters):
    """The asker, who is among the population, is no other writer."""
    singles, _ = questions(ctx(least_writers=least))
    compared = {letter for text in singles for letter in "xyz" if f"article {letter}" in text}
    assert compared == set(letters)


def test_records_nearest_to_the_query_are_compared_first_among_those_that_count(ctx):
    """z is nearest, but nobody else wrote on it."""
    singles, _ = questions(ctx(least_writers=3, compared_records=1), asked("z y"))
    assert len(singles) == 1 and "article y" in singles[0]


def test_each_other_user_counts_once(ctx):
    twice = dataclasses.replace(OTHERS[0], profile=(*OTHERS[0].profile, user("n1b", x="soups again").profile[0]))
    singles, _ = questions(ctx(others=(twice, *OTHERS[1:])))
    assert singles and all("soups again" not in text for text in singles)
    assert questions(ctx(others=(twice, *OTHERS[1:-1])))[0] == []


def test_nothing_is_compared_on_the_item_that_is_asked(ctx):
    for query in (asked("Article  X"), asked("article x", without="askerx")):
        here = ctx()
        assert questions(here, query) == ([], [])
        assert here.faults == {"peer_difference: too few others wrote on the same, records alone": 1}


def test_the_last_call_sees_the_items_the_differences_and_the_users_nearest_records(ctx):
    here = ctx(answers=["is terse"], compared_records=2)
    _, (text,) = questions(here, asked("article z"))
    assert "<thing>article x</thing>\n<difference>is terse</difference>" in text
    assert "boats alone" in text and text.count("<record>") == 2  # z too, which nobody else wrote on


def test_a_call_a_record_and_one(ctx):
    here = ctx(least_writers=3)
    notes = STRATEGY.prepare([asked()], here)
    assert len(here.llm.asked) == 2 + 1 and notes == {"q": "answer 2"} and not here.faults
    assert here.llm.stages == ["differences", "differences, summed up"]


def test_where_all_wrote_the_same_nothing_differs(ctx):
    same = [user(f"n{i}", x="boats boats") for i in range(5)]
    here = ctx(others=same)
    assert questions(here) == ([], [])
    assert here.faults == {"peer_difference: no difference": 1}
    one = np.array([1.0, 0.0])
    assert peer_difference.representatives(one, np.stack([one, one]), 4, 0) == []


def test_clusters_are_at_most_as_many_as_asked_for():
    texts = peers.unit(np.random.default_rng(0).normal(size=(30, 5)))
    for clusters in (1, 3, 6):
        chosen = peer_difference.representatives(texts[0], texts[1:], clusters, 0)
        assert len(chosen) == clusters == len(set(chosen))
        assert chosen == peer_difference.representatives(texts[0], texts[1:], clusters, 0)


def test_of_two_texts_equally_near_to_their_centre_the_first_stands_for_it():
    texts = np.array([[1.0, 0.1, 0.0], [0.0, 0.3, 1.0], [0.1, 0.1, 1.0]])
    for order in ([0, 1, 2], [0, 2, 1]):
        own, *others = texts[order]
        assert peer_difference.representatives(own, np.array(others), 1, 0) == [0]


def test_where_nobody_shares_an_item_it_is_rag_and_counted(ctx):
    here = ctx(others=[user("n", w="trains")])
    assert STRATEGY.prepare([asked()], here) == {} and here.llm.asked == []
    assert here.faults == {"peer_difference: too few others wrote on the same, records alone": 1}
    query = asked().query
    assert STRATEGY.messages(query, ASKER.profile, None, here) == registry.get("rag").messages(
        query, ASKER.profile, None, here
    )


def test_what_data_lack_is_said_before_anything_is_asked():
    task, settings = tasks.LAMP["LaMP_4"], contract.PromptSettings()
    population = {user.id: user for user in OTHERS}
    assert registry.lacking(["rag", "peer_difference"], task, population, settings) == {}
    del population["n4"]
    lacking = registry.lacking(["rag", "peer_difference"], task, population, settings)
    assert set(lacking) == {"peer_difference"} and "no item of LaMP_4 has 4 writers" in lacking["peer_difference"]
    assert "compare-on nearest" in lacking["peer_difference"]
    assert not STRATEGY.lacking(task, {}, contract.PromptSettings(compare_on="nearest"))
    assert STRATEGY.lacking(tasks.LAMP["LaMP_7"], population, settings)


def test_similar_things_stand_in_for_the_same_item_where_that_is_asked_for(ctx):
    """Of each other user the one record on the thing most similar to the user's, clustered by what was written."""
    others = [
        User(
            id=f"n{i}",
            profile=(
                Record(id=f"{i}a", fields={"text": "stars far away", "title": f"never shown {i}"}),
                Record(id=f"{i}b", fields={"text": f"soups number {i}", "title": title}),
            ),
        )
        for i, title in enumerate(["boats boats", "trains", "trains trains stars", "trains stars boats"])
    ]
    own = User(id="u", profile=(Record(id="u0", fields={"text": "soups", "title": "boats"}),))
    settings = {"compare_on": "nearest", "peers": 1}
    ((text,), _) = questions(ctx(others=others, **settings), asked(of=own))
    assert "trains trains stars" in text and "never shown" not in text and "on similar things" in text
    assert text.count("<other>") == 1
    assert questions(ctx(others=others), asked(of=own))[0] == []
    # What is asked is hidden here too: of n0 the other record counts then, of the others nothing changes.
    ((text,), _) = questions(ctx(others=others, compare_on="nearest"), asked("soups number 2", of=own))
    assert "never shown 2" in text and "trains trains stars" not in text


def test_an_item_may_be_some_of_the_inputs(context, tmp_path):
    """A rating that is given varies from user to user, the film is the same."""
    file = tmp_path / "task.toml"
    declared = 'name = "r"\nkind = "generation"\ntemplate = "{film} {stars}: review"\nanswer = "review"\n'
    file.write_text(declared + 'item = ["film"]\n')
    task = custom.read_task(file)
    records = [Record(id=s, fields={"film": "Up  Again", "stars": s, "review": "r"}) for s in "12"]
    assert [peers.item(task, record) for record in records] == ["up again"] * 2
    query = Query(id="q", user_id="u", inputs={"film": "up again", "stars": "5"})
    assert peers.asked_item(task, query) == "up again"
    whole = dataclasses.replace(task, item=())
    assert [peers.item(whole, record) for record in records] == ["up again 1", "up again 2"]
    assert peers.by_item([User(id="u", profile=tuple(records))], task) == {"up again": {"u": records[0]}}
    file.write_text(declared + 'item = ["actor"]\n')
    with pytest.raises(DataError, match="item names the field 'actor', expected some of the inputs' fields, film, sta"):
        custom.read_task(file)


def test_an_llm_that_says_nothing_leaves_records_alone(ctx):
    here = ctx(answers=lambda wanted: " ")
    assert STRATEGY.prepare([asked()], here) == {}
    assert here.faults == {"peer_difference: no difference": 1}


def test_a_user_without_a_profile_compares_nothing(ctx):
    here = ctx()
    empty = contract.Asked(query=Query(id="q", user_id="e", inputs={"text": "boats"}), profile=())
    assert STRATEGY.prepare([empty], here) == {} and here.llm.asked == [] and not here.faults
