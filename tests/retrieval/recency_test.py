from hydrajax.retrieval import recency
from hydrajax.types import Record


def test_newest_first():
    records = [Record(id=str(year), fields={}, date=str(year)) for year in (1999, 2004, 2020)]
    order = recency.rank("anything", records, ["", "", ""], query_id="q", seed=3)
    assert [records[i].date for i in order] == ["2020", "2004", "1999"]


def test_an_empty_profile():
    assert recency.rank("anything", [], [], query_id="q", seed=0) == []
