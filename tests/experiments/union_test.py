"""The smoke size of the experiment, its tables, and that it goes on where it stopped."""

import dataclasses

import numpy as np
import pytest

from experiments import _union_report, union
from hydrajax.data import tasks
from hydrajax.evaluation import intervals
from hydrajax.runs import pipeline
from tests.runs.conftest import encoders, write_lamp


@pytest.fixture
def options(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "encoders", encoders)
    write_lamp(tmp_path / "data", "LaMP_2M", train=12, dev=8, records=4, cold=0)
    return union.Options(
        data_dir=str(tmp_path / "data"), tasks=("LaMP_2M",), folds=2, pseudo=2, cache=str(tmp_path / "features"),
        out=tmp_path / "out", smoke=True,
    )  # fmt: skip


@pytest.mark.slow
def test_the_smoke_size_runs_and_a_finished_fold_is_not_computed_again(options, capsys, monkeypatch):
    union.main(options)
    said = capsys.readouterr().out
    for method in ("union", "union_pooled", "union_oracle", "factorised", "best source"):
        assert f"\n| {method} | " in said
    assert "| average over 1 tasks: best control | " in said

    def never(*args, **kwargs):
        raise AssertionError("a finished fold was computed again")

    monkeypatch.setattr(union.union, "union", never)
    union.main(options)
    assert capsys.readouterr().out == said


def refused(options, capsys):
    with pytest.raises(SystemExit) as ended:
        union.main(options)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("union: ") == 1
    return said.partition("union: ")[2]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"tasks": ("LaMP_99",)}, "unknown task 'LaMP_99'; valid are LaMP_1"),
        ({"strategies": ("none",)}, "unknown prompt strategy 'none', expected one of "),
        ({"strategies": ("rag", "cfrag")}, "strategy 'cfrag' compares users"),
        ({"strategies": ("rag",), "tasks": ("LaMP_7",), "smoke": False}, "no candidates are planned for 'LaMP_7'"),
        ({"losses": ("none",)}, "--losses are none; valid are "),
        ({"folds": 1}, "--folds is 1, expected at least 2"),
        ({"seed": -1}, "--seed is -1, expected at least 0"),
        ({"report": True}, "out: holds no predictions"),
        ({"data_dir": "nowhere"}, "nowhere"),
    ],
)
def test_what_cannot_be_run_is_one_sentence(options, change, sentence, capsys):
    assert sentence in refused(dataclasses.replace(options, **change), capsys)
    assert not options.out.exists()


def test_another_llm_and_other_data_have_other_folds(options, tmp_path):
    spoken = dataclasses.replace(options, strategies=("rag",))
    first = [path for changed in (options, spoken) for path in union.fold_files("LaMP_2M", changed)]
    other = dataclasses.replace(spoken, llm=str(tmp_path / "a" / "local"))
    assert not {*first} & {*union.fold_files("LaMP_2M", other)}
    assert union.fold_files("LaMP_2M", dataclasses.replace(options, llm="other")) == first[:2]  # nobody is asked
    questions = tmp_path / "data" / "LaMP_2M" / "dev_questions.json"
    questions.write_text(questions.read_text().replace("a", "b", 1))
    assert not {*first} & {path for changed in (options, spoken) for path in union.fold_files("LaMP_2M", changed)}


@pytest.mark.slow
def test_without_ask_an_answer_that_is_not_stored_is_an_error(options, tmp_path, capsys):
    store = str(tmp_path / "answers.sqlite")
    asking = dataclasses.replace(options, strategies=("zero_shot",), candidates=1, llm="scripted", store=store)
    assert "--ask" in refused(asking, capsys)
    union.main(dataclasses.replace(asking, ask=True))
    union.main(dataclasses.replace(asking, out=tmp_path / "again"))


def rows(right):
    return [
        {
            "query": f"q{i}", "user": f"u{i}", "gold": "action", "own": ["a"] if i % 2 else [],
            "answers": {m: {"predictions": ["action" if i < n else "comedy"]} for m, n in right.items()},
        }
        for i in range(20)
    ]  # fmt: skip


def test_the_average_is_that_of_the_tasks_differences():
    made = [intervals.measure(tasks.LAMP["LaMP_2M"], rows({"union": n, "x": 8}), seed=0) for n in (12, 10)]
    shown = _union_report.average([(m, "x") for m in made])
    np.testing.assert_allclose(float(shown.split(" ")[0]), (4 / 20 + 2 / 20) / 2)


def test_shares_count_an_answer_for_each_source_whose_own_it_is():
    assert _union_report.own_shares([{"rows": rows({"union": 1})}]) == {"nobody's": 0.5, "a": 0.5}
