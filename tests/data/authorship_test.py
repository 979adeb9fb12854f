"""Authorship: sentences, near-duplicates, and who is shown what."""

import dataclasses
import random

import pytest

from hydrajax.data import authorship
from hydrajax.data.texts_by_author import Text
from hydrajax.types import DataError

WORDS = [
    f"{a}{b}" for a in ("ba", "co", "di", "fu", "ge", "ho", "ka", "lu", "mo", "ne") for b in ("lt", "rn", "sk", "mp")
]


def invented(author, number, source, size=60):
    rng = random.Random(f"{author} {number} {source}")
    return Text(
        author=author,
        file=f"{number}.txt",
        text=f"Report {number} of {author} begins here. The " + " ".join(rng.choices(WORDS, k=size)) + ".",
        source=source,
    )


def texts(authors=4, each=12, sources=("train", "test")):
    return [invented(f"author{a}", i, source) for source in sources for a in range(authors) for i in range(each)]


def drawn(found, **changes):
    return authorship.draw(found, **({"authors": 3, "shown": 4, "validation": 2, "test": 2} | changes))


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("It rained. It poured.", "It rained."),
        ("Did it rain? Yes.", "Did it rain?"),
        ('"It rained." She left.', '"It rained."'),
        ("Mr. Hill met Dr. Lake on Feb. 3. They talked.", "Mr. Hill met Dr. Lake on Feb. 3."),
        ("The U.S. Senate met. It voted.", "The U.S. Senate met."),
        ("He flew to the U.S. The plane was late.", "He flew to the U.S."),
        ("Acme Corp. Chairman Hill left. He was tired.", "Acme Corp. Chairman Hill left."),
        ("Shares of Acme Corp. The price fell.", "Shares of Acme Corp."),
        ("J. R. Hill sings. He dances.", "J. R. Hill sings."),
        ("It cost 3.50 a pound. Nobody paid.", "It cost 3.50 a pound."),
        ("They met at 9 a.m. on a boat. It sank.", "They met at 9 a.m. on a boat."),
        ("It was ... odd. Then it ended.", "It was ... odd."),
        ("A headline\nIt rained. It poured.", "A headline"),
        ("A line that is\nwrapped here. It ends.", "A line that is wrapped here."),
        ("no end at all", "no end at all"),
        ("it rained. it poured.", "it rained."),
        ("Yahoo! said so. It paid.", "Yahoo! said so."),
        ("  \n It rained.  ", "It rained."),
        ("", ""),
    ],
)
def test_the_first_sentence(text, first):
    assert authorship.first_sentence(text) == first


def test_the_given_sentence_is_cut_however_it_is_repeated():
    first = 'The "old" harbour, he said, is closed.'
    for written in (first, first.upper(), "the old   harbour he said\nis closed"):
        assert authorship.without_first_sentence(f"{written} Boats wait. {written} Gulls too.", first) == (
            "Boats wait. Gulls too."
        )
    assert authorship.without_first_sentence("Boats wait.", first) == "Boats wait."
    assert authorship.without_first_sentence("The harbours are closed.", "The harbour") == "The harbours are closed."
    assert authorship.without_first_sentence(first, first) == ""


def test_a_near_duplicate_of_a_kept_text_is_dropped():
    one = invented("ann", 1, "a", size=100)
    body = one.text.split()
    mostly = Text(author="ann", file="mostly", text=" ".join([*body[:80], *WORDS[:20]]), source="a")
    partly = Text(author="ann", file="partly", text=" ".join([*body[:40], *WORDS, *WORDS[::-1]]), source="a")
    assert authorship.without_near_duplicates([one, mostly, partly]) == [one, partly]


def test_texts_shorter_than_eight_words_are_compared_as_a_whole():
    short = [
        Text(author="ann", file=str(i), text=text, source="a")
        for i, text in enumerate(["so be it", "So be it!", "or not"])
    ]
    assert [text.file for text in authorship.without_near_duplicates(short)] == ["0", "2"]


def test_the_copied_share():
    assert authorship.copied("a b c d e f", ["x a b c d e y"], 5) == 1 / 2
    assert authorship.copied("A, b; c d e.", ["a b c d e"], 5) == 1.0
    assert authorship.copied("a b c", ["a b c"], 5) is None
    assert authorship.copied("a b c d e", [], 5) == 0.0


def test_shown_judged_and_unseen_texts_are_apart():
    found = drawn(texts())
    assert len(found.users) == 3 and len(found.test) == len(found.validation) == 6
    by_gold = {authorship.without_first_sentence(t.text): t for t in texts()}
    for author, user in found.users.items():
        shown = {record.fields["text"] for record in user.profile}
        judged = [by_gold[query.gold] for query in (*found.test, *found.validation) if query.user_id == author]
        unseen = [by_gold[text] for text in found.unseen[author]]
        assert len(shown) == 4 and all(record.id.startswith("train/") for record in user.profile)
        assert {text.source for text in judged} == {"test"}
        assert {text.author for text in (*judged, *unseen)} == {author}
        parts = [*shown, *(text.text for text in judged), *(text.text for text in unseen)]
        assert len(parts) == len(set(parts)) == 24


def test_one_source_alone_is_divided_and_said_so():
    found = drawn(texts(sources=("all",)))
    assert "one source, all" in found.notes[0]
    for author, user in found.users.items():
        shown = {authorship.without_first_sentence(record.fields["text"]) for record in user.profile}
        judged = {q.gold for q in (*found.test, *found.validation) if q.user_id == author}
        assert not shown & judged and not shown & set(found.unseen[author]) and not judged & set(found.unseen[author])


def test_a_smaller_draw_is_the_beginning_of_a_larger_one():
    small, large = drawn(texts(), authors=2, shown=3, validation=1, test=1), drawn(texts())
    assert list(small.users) == list(large.users)[:2]
    for author, user in small.users.items():
        assert user.profile == large.users[author].profile[:3]
    assert {query.id for query in small.test} <= {query.id for query in large.test}
    assert {query.id for query in small.validation} <= {query.id for query in large.validation}


def test_another_seed_draws_others():
    assert {q.id for q in drawn(texts(), seed=1).test} != {q.id for q in drawn(texts(), seed=2).test}


def test_a_shown_text_may_be_its_beginning_alone():
    found = drawn(texts(), shown_words=10)
    for user in found.users.values():
        for record in user.profile:
            assert len(record.fields["text"].split()) == 10
            assert record.fields["text"].startswith(record.fields["first_sentence"])


def test_a_query_asks_with_the_sentence_that_its_gold_lacks():
    for query in drawn(texts()).test:
        question = authorship.TASK.question(query.inputs)
        assert question == f"Write an article that starts with: {query.inputs['first_sentence']}"
        assert query.inputs["first_sentence"] not in query.gold


def test_too_few_texts_are_one_sentence():
    with pytest.raises(DataError, match="0 of 4 authors have enough texts, expected 3") as error:
        drawn(texts(each=4))
    assert "\n" not in str(error.value)
    copies = [Text(author=t.author, file=t.file, text=texts()[0].text, source=t.source) for t in texts()]
    with pytest.raises(DataError, match="near-duplicates"):
        drawn(copies)


def test_a_judge_that_is_not_trained_needs_no_texts():
    found = texts(each=4)
    assert len(drawn(found, least_unseen=0).users) == 3
    with pytest.raises(DataError, match="0 of 4 .* 2 to test and 3 for the judge, shown"):
        drawn(found)
    with pytest.raises(DataError, match="4 to show, 2 to validate and 2 to test, shown"):
        drawn(texts(each=3), least_unseen=0)


def test_an_author_has_the_attributes_of_the_texts():
    found = [dataclasses.replace(text, attributes={"of": text.author}) for text in texts()]
    users = drawn(found).users
    assert {name: dict(user.attributes) for name, user in users.items()} == {name: {"of": name} for name in users}
