import html.parser
import json
import re

import pytest

from hydrajax import files
from hydrajax.evaluation import results
from hydrajax.evaluation.report import page as report
from hydrajax.types import DataError

NASTY = '<script>alert("x")</script> & <img src=http://example.org/x onerror=alert(1)> \ud83d'


class _Checked(html.parser.HTMLParser):
    """Every element closed in order, and what there is of elements and attributes."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def run(make_rows, facts, tmp_path):
    """run(task name, **make_rows arguments) -> a finished run folder."""

    def make(name="LaMP_4", change=lambda rows: None, **sizes):
        task, rows = make_rows(name, **sizes)
        change(rows)
        files.write_json(tmp_path / "results.json", results.build(task, rows, **facts, resamples=20))
        (tmp_path / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        config = {"command": ["hydrajax", "run", "lamp", "--out", "my folder"], "adapter": {"epochs": 2}}
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
        curves = {"adapter": {"train loss": [[0, 0.7], [10, 0.3]], "empty": []}}
        (tmp_path / "curves.json").write_text(json.dumps(curves), encoding="utf-8")
        return tmp_path

    return make


def _page(folder):
    page = _Checked()
    page.feed(report.write_report(folder).read_text(encoding="utf-8"))
    assert page.open == []
    return page


@pytest.mark.parametrize("name", ["LaMP_2M", "LaMP_3", "LaMP_4", "demo"])
def test_the_report_is_one_well_formed_file_without_a_network(run, name):
    folder = run(name)
    page = _page(folder)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not {"src", "href", "srcset"} & {key for key, _ in page.attributes}
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "http" not in text and "url(" not in text and "@import" not in text
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"\b(nan|None|inf)\b", " ".join(page.text))
    assert not list(folder.glob("*.tmp"))


def test_what_was_run_and_found_is_there(run):
    folder = run()
    text = " ".join(_page(folder).text)
    assert "hydrajax run lamp --out 'my folder'" in text
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    for method, values in found["methods"].items():
        assert method in text
        assert f"{values['rouge1']['value']:.3f}" in text
    assert found["bleu_signature"] in text
    for heading in ("What it shows", "Methods", "Who gains", "Learning", "What a new user costs", "Ten queries"):
        assert heading in text


def test_ten_queries_are_shown_and_fewer_where_there_are_fewer(run):
    assert (_page(run(users=12)).tags.count("dl"), "Ten queries") == (10 + 2, "Ten queries")
    text = " ".join(_page(run(users=3, questions=1)).text)
    assert "Three queries" in text


def test_texts_of_users_stay_text(run):
    def spoil(rows):
        for row in rows:
            row["input"], row["gold"] = NASTY, NASTY
            row["user"] = f"{NASTY}{row['user']}"
            row["record_texts"] = {"r1": NASTY}
            for candidate in row["pools"]["reranked"]:
                candidate["prediction"] = candidate["source"] = candidate["stop_reason"] = NASTY
            row["answers"]["rag"]["predictions"] = [NASTY]

    page = _page(run(change=spoil, users=4))
    assert "script" not in page.tags and "img" not in page.tags
    assert not any(key.startswith("on") for key, _ in page.attributes)
    assert any('<script>alert("x")</script>' in text for text in page.text)


def test_a_query_without_a_gold_or_an_answer_is_shown(run):
    def change(rows):
        rows[0]["gold"] = None
        for candidate in rows[0]["pools"]["reranked"]:
            candidate["quality"], candidate["prediction"] = None, ""

    text = " ".join(_page(run(change=change, users=2)).text)
    assert "not known" in text and "empty" in text


def test_a_single_user_makes_a_report_too(run):
    assert "users tell too little about others" in " ".join(_page(run(users=1)).text)


def test_curves_may_stand_in_the_results(run):
    folder = run()
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    curves = json.loads((folder / "curves.json").read_text(encoding="utf-8"))
    (folder / "curves.json").unlink()
    assert "Learning" not in " ".join(_page(folder).text)
    (folder / "results.json").write_text(json.dumps(found | {"curves": curves}), encoding="utf-8")
    assert "Learning" in " ".join(_page(folder).text)


@pytest.mark.parametrize("name", ["config.json", "results.json", "predictions.jsonl"])
def test_a_missing_or_broken_file_is_named_and_nothing_is_written(run, name):
    folder = run(users=2)
    (folder / name).write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=f"{name}.* is (no|broken) JSON"):
        report.write_report(folder)
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"{name}.*(is missing|No such file)"):
        report.write_report(folder)
    assert not (folder / "report.html").exists()


def test_what_all_invocations_cost_and_how_little_choices_rest_on_is_there(run):
    folder = run()
    for calls, usd in ((3, 0.25), (4, 0.5)):  # the first was killed
        files.append_line(folder / "invocations.jsonl", {"calls": calls, "seconds": 30.0, "cost_usd": usd}, room=9)
    choices = {
        "validation_users": 1,
        "validation_queries": 2,
        "shown": {"rag": {"k": 1, "quality": {"1": 0.5, "2": 0.4}}},
        "scorers": {},
    }
    files.write_json(folder / "choices.json", choices)
    text = " ".join("".join(_page(folder).text).split())
    assert "all 2 invocations7 calls, 1 min 0 s, $0.75" in text
    assert "chose by 2 questions of 1 user" in text and "too little to choose by" in text
    # Of folds, too.
    files.write_json(folder / "choices.json", {"fold-0": choices, "fold-1": choices | {"validation_queries": 40}})
    assert "too little to choose by" in " ".join("".join(_page(folder).text).split())
