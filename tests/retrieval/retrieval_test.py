import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydrajax import retrieval
from hydrajax.data import tasks
from hydrajax.types import DataError, Query, Record, User

TASK = tasks.LAMP["LaMP_2N"]


def _record(number: int, text: str) -> Record:
    return Record(id=f"r{number}", fields={"title": f"Title {number}", "text": text, "category": "travel"})


USER = User(
    id="u",
    profile=(
        _record(0, "a slow train through the hills"),
        _record(1, "what the council decided on the bridge"),
        _record(2, "a night train to the coast"),
        _record(3, "how to bake bread at home"),
        _record(4, "the match that nobody won"),
    ),
)


def _query(text: str, record_id: str | None = None) -> Query:
    return Query(id="q", user_id="u", inputs={"text": text}, record_id=record_id)


def test_the_folder_is_the_registry():
    assert {"bm25", "random", "recency"} <= set(retrieval.names())


@pytest.mark.parametrize("name", retrieval.names())
def test_every_retriever_returns_a_permutation_and_changes_nothing(name):
    order = retrieval.retrieve(name, TASK, _query("a train"), USER, 99)
    assert sorted(record.id for record in order) == [record.id for record in USER.profile]
    assert retrieval.retrieve(name, TASK, _query("a train"), USER, 99) == order


@pytest.mark.parametrize("name", retrieval.names())
def test_fewer_are_the_first_of_more(name):
    everything = retrieval.retrieve(name, TASK, _query("a train"), USER, 5)
    for n in range(6):
        assert retrieval.retrieve(name, TASK, _query("a train"), USER, n) == everything[:n]


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(retrieval.names()),
    number=st.integers(0, 4),
    n=st.integers(0, 9),
    seed=st.integers(0, 5),
)
def test_a_pseudo_query_never_gets_its_own_record(name, number, n, seed):
    own = USER.profile[number]
    query = _query(own.fields["text"], record_id=own.id)
    assert own not in retrieval.retrieve(name, TASK, query, USER, n, seed)
    # Without the mark the record is its own best answer, so the line above can fail.
    assert name != "bm25" or retrieval.retrieve(name, TASK, _query(own.fields["text"]), USER, 1) == (own,)


@pytest.mark.parametrize("name", retrieval.names())
def test_the_own_record_does_not_shape_the_result(name):
    """Neither its text nor its place: as if the user had never had it."""
    query = _query("a slow train", record_id="r1")
    without = User(id="u", profile=tuple(record for record in USER.profile if record.id != "r1"))
    noisy = User(id="u", profile=tuple(_record(1, "slow slow slow train") if r.id == "r1" else r for r in USER.profile))
    expected = retrieval.retrieve(name, TASK, query, without, 4)
    assert retrieval.retrieve(name, TASK, query, USER, 4) == expected
    assert retrieval.retrieve(name, TASK, query, noisy, 4) == expected


def test_bm25_reads_the_bare_input_and_the_task_s_corpus():
    assert retrieval.retrieve("bm25", TASK, _query("night train"), USER, 1)[0].id == "r2"
    assert retrieval.retrieve("bm25", TASK, _query("Title 4"), USER, 1)[0].id == "r4"
    # The gold is no part of the corpus: nobody is found by it.
    assert retrieval.retrieve("bm25", TASK, _query("travel"), USER, 1)[0].id == "r4"


@pytest.mark.parametrize("name", retrieval.names())
def test_an_empty_profile_gives_no_records(name):
    assert retrieval.retrieve(name, TASK, _query("a train"), User(id="u"), 4) == ()


def test_a_function_ranks_in_a_name_s_place():
    def longest(query_text, records, corpus, *, query_id, seed):
        return sorted(range(len(corpus)), key=lambda i: -len(corpus[i]))

    assert retrieval.retrieve(longest, TASK, _query("a train"), USER, 1)[0].id == "r1"


def test_faults_are_named():
    with pytest.raises(DataError, match=r"unknown retriever 'bm52', expected one of bm25, .*random.*recency"):
        retrieval.retrieve("bm52", TASK, _query("a"), USER, 1)
    with pytest.raises(DataError, match=r"cannot retrieve -1 records for query 'q', expected 0 or more"):
        retrieval.retrieve("bm25", TASK, _query("a"), USER, -1)


def test_a_citation_question_finds_records_by_its_references_not_by_the_paper_that_asks():
    """LaMP's input as it stands in its files; one record has the asking paper's words, another those of a reference."""
    task = tasks.LAMP["LaMP_1"]
    text = (
        'For an author who has written the paper with the title "Sparse Codes for Deep Ponds", which reference is '
        'related? Just answer with [1] or [2] without explanation. [1]: "Ducks in Winter, a Survey" [2]: "Wet Webs"'
    )
    titles = ("Sparse Codes for Deep Ponds Revisited", "How Ducks Live in Winter", "Bread", "Kites", "Trains")
    profile = tuple(Record(id=title, fields={"title": title, "abstract": ""}) for title in titles)
    query = Query(id="q", user_id="u", inputs=task.parse_input(text))
    (best,) = retrieval.retrieve("bm25", task, query, User(id="u", profile=profile), 1)
    assert best.id == "How Ducks Live in Winter"
