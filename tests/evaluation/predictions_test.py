import json

import pytest

from hydrajax.evaluation import predictions as rows_lib
from hydrajax.types import DataError


def test_the_order_of_the_rows_does_not_matter(make_rows):
    task, rows = make_rows(users=4)
    assert rows_lib.judged(task, rows[::-1]) == rows_lib.judged(task, rows)


def test_a_query_without_a_gold_is_not_judged(make_rows):
    task, rows = make_rows(users=3, questions=1)
    rows[1]["gold"] = None
    assert [row["query"] for row in rows_lib.judged(task, rows)] == ["u00-0", "u02-0"]


def test_rewards_judge_where_there_is_no_gold(make_rows):
    task, rows = make_rows("demo", users=2, questions=1)
    rows[0]["gold"] = None
    assert len(rows_lib.judged(task, rows)) == 2


def test_nothing_to_judge_is_said(make_rows):
    task, rows = make_rows(users=1)
    with pytest.raises(DataError, match="none of the predictions of task LaMP_2M has a gold"):
        rows_lib.judged(task, [row | {"gold": None} for row in rows])


def test_all_faults_are_in_one_message(make_rows):
    task, rows = make_rows(users=3, questions=1)
    del rows[0]["answers"]["rag"]
    rows[1]["answers"]["random"]["predictions"].pop()
    rows.append(rows[2])
    with pytest.raises(DataError) as error:
        rows_lib.judged(task, rows)
    assert "query 'u00-0' has no answer of method rag" in str(error.value)
    assert "query 'u01-0' has 19 answers of method random, expected 20" in str(error.value)
    assert "query 'u02-0' occurs 2 times" in str(error.value)


def test_an_answer_without_its_reward_is_a_fault(make_rows):
    task, rows = make_rows("demo", users=2, questions=1)
    del rows[0]["answers"]["rag"]["rewards"]
    with pytest.raises(DataError, match="query 'u00-0' has 0 rewards for 1 answers of method rag"):
        rows_lib.judged(task, rows)


def test_a_gold_label_is_compared_as_an_answer_is(make_rows):
    task, rows = make_rows(users=1, questions=1)
    assert rows_lib.gold(task, rows[0] | {"gold": " Comedy. "}) == "comedy"


def test_a_file_comes_back_as_it_was(make_rows, tmp_path):
    _, rows = make_rows(users=2)
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert rows_lib.read(path) == rows


@pytest.mark.parametrize(("line", "message"), [("{", "line 2: is broken JSON"), ("[]", "line 2: is list, expected")])
def test_a_broken_line_is_named(tmp_path, line, message):
    path = tmp_path / "predictions.jsonl"
    path.write_text(f"{{}}\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        rows_lib.read(path)
    with pytest.raises(DataError, match="cannot be read"):
        rows_lib.read(tmp_path / "elsewhere.jsonl")
