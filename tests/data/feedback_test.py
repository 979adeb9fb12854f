"""Ratings, comparisons and profiles as feedback."""

import json

import pytest

from hydrajax.data import feedback, tasks
from hydrajax.types import DataError, Query, Record, User

QUERY = Query(id="q1", user_id="ann", inputs={"text": "rain"})


def write(folder, *rows):
    path = folder / "feedback.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_all_three_kinds_are_read_in_order(tmp_path):
    path = write(
        tmp_path,
        {"query_id": "q1", "scores": {"wet": 4, "dry": 0.5}},
        {"query_id": "q1", "preferred": ["wet", "dry"]},
        {"query_id": "q1", "gold": "wet"},
    )
    scores, preferred, gold = feedback.read_feedback(path, [QUERY])[0]
    assert scores.scores == {"wet": 4.0, "dry": 0.5}
    assert preferred.preferred == ("wet", "dry")
    assert gold.gold == "wet" and gold.query is QUERY


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"scores": {"wet": 1}}, "line 1: has nothing as 'query_id'"),
        ({"query_id": "q9", "gold": "wet"}, "query 'q9': there is no such query"),
        ({"query_id": "q1"}, "query 'q1': has nothing, expected exactly one of gold, scores, preferred"),
        ({"query_id": "q1", "gold": "wet", "scores": {"wet": 1}}, "has gold and scores, expected exactly one"),
        ({"query_id": "q1", "rating": 3}, "has the key 'rating', expected query_id and one of gold, scores, preferred"),
        ({"query_id": "q1", "gold": " "}, "has a text as 'gold', expected a text that is not empty"),
        ({"query_id": "q1", "scores": {}}, "'scores' must be an object of at least one answer and its number"),
        ({"query_id": "q1", "scores": {"wet": "good"}}, "'scores' must be"),
        ({"query_id": "q1", "scores": {"wet": float("nan")}}, "'scores' must be"),
        ({"query_id": "q1", "scores": {"wet": True}}, "'scores' must be"),
        ({"query_id": "q1", "preferred": ["wet"]}, "'preferred' must be a list of two different answers"),
        ({"query_id": "q1", "preferred": ["wet", "wet"]}, "'preferred' must be a list of two different answers"),
    ],
)
def test_every_fault_is_a_sentence_and_can_be_skipped(tmp_path, row, sentence):
    path = write(tmp_path, row, {"query_id": "q1", "gold": "wet"})
    with pytest.raises(DataError) as error:
        feedback.read_feedback(path, [QUERY])
    assert sentence in str(error.value) and str(error.value).startswith(str(path))
    kept, skipped = feedback.read_feedback(path, [QUERY], skip_bad=True)
    assert [item.gold for item in kept] == ["wet"] and len(skipped) == 1


def test_a_profile_gives_one_gold_for_each_record_that_can_be_asked():
    task = tasks.LAMP["LaMP_2M"]
    records = [("1", "a farm", "comedy"), ("2", "a ship", "action"), ("3", "", "romance")]
    profile = tuple(Record(id=i, fields={"description": text, "tag": tag}) for i, text, tag in records)
    given = feedback.profile_feedback(task, User(id="ann", profile=profile))
    assert {(item.query.record_id, item.query.inputs["text"], item.gold) for item in given} == {
        ("1", "a farm", "comedy"),
        ("2", "a ship", "action"),
    }
