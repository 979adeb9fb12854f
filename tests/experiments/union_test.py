"""The smoke size of the experiment, its tables, and that it goes on where it stopped."""

import numpy as np
import pytest

from experiments import data, kinds, union
from experiments.reports import union as report
from hydrajax.data import tasks
from hydrajax.evaluation import intervals
from tests.runs.conftest import write_lamp


@pytest.fixture(autouse=True)
def _small_base(small_base):
    pass


@pytest.fixture
def options(tmp_path):
    write_lamp(tmp_path / "data", "LaMP_2M", train=12, dev=8, records=4, cold=0)
    return ["--data-dir", tmp_path / "data", "--tasks", "LaMP_2M", "--folds", 2]


@pytest.mark.slow
def test_the_smoke_size_runs_and_a_finished_fold_is_not_computed_again(options, experiment, monkeypatch, tmp_path):
    said = experiment("union", *options).out
    for method in ("union", "union_pooled", "union_oracle", "factorised", "best source"):
        assert f"\n| {method} | " in said
    assert "| average over 1 tasks: best control | " in said
    assert (tmp_path / "out" / "report.md").read_text() in said

    def never(*args, **kwargs):
        raise AssertionError("a finished fold was computed again")

    whole = union.compute_fold
    monkeypatch.setattr(union, "compute_fold", never)
    assert experiment("union", *options).out == said
    questions = tmp_path / "data" / "LaMP_2M" / "dev_questions.json"
    questions.write_text(questions.read_text().replace("a", "b", 1))
    with pytest.raises(AssertionError, match="computed again"):  # of other data
        experiment("union", *options)
    monkeypatch.setattr(union, "compute_fold", whole)
    experiment("union", *options)


@pytest.mark.slow
def test_tasks_are_parts_and_one_report_is_over_all(options, experiment, tmp_path):
    write_lamp(tmp_path / "data", "LaMP_3", train=12, dev=8, records=4, cold=0)
    said = experiment("union", *options, "--tasks", "LaMP_2M", "LaMP_3").out
    assert "| LaMP_2M: accuracy, 20 users, 20 questions | LaMP_3: mae, 20 users, 20 questions |" in said
    alone = experiment("union", *options, out="alone").out
    assert (tmp_path / "out" / "LaMP_2M" / "report.md").read_text() == (tmp_path / "alone" / "report.md").read_text()
    assert alone.startswith((tmp_path / "alone" / "report.md").read_text())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("--tasks", "LaMP_99"), "unknown task 'LaMP_99'; valid are LaMP_1"),
        (("--strategies", "none"), "unknown prompt strategy 'none', expected one of "),
        (("--strategies", "rag", "cfrag"), "strategy 'cfrag' compares users"),
        (("--strategies", "rag", "--tasks", "LaMP_7"), "no candidates are planned for 'LaMP_7'"),
        (("--losses", "none"), "losses are none; valid are "),
        (("--folds", 1), "folds is 1, expected at least 2"),
        (("--seed", -1), "seed is -1, expected at least 0"),
        (("--data-dir", "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_run_is_one_sentence(options, change, sentence, refused, tmp_path):
    assert sentence in refused("union", *options, *change)
    assert not (tmp_path / "out").exists()


def test_another_llm_and_other_data_have_other_folds(options, refused, configured, tmp_path, experiment):
    config = configured("union", *options)
    assert config.llms == () and tuple(union.union.RIDGES) == kinds.UNION_LOSSES
    before = data.load(config, str)
    questions = tmp_path / "data" / "LaMP_2M" / "dev_questions.json"
    questions.write_text(questions.read_text().replace("a", "b", 1))
    after = data.load(config, str)
    counted = []

    def compute():
        counted.append(1)
        return {}

    for digest in (before.digest, before.digest, after.digest, after.digest):
        data.once(tmp_path / "fold.json", digest, compute)
    assert before.digest != after.digest and len(counted) == 2


@pytest.mark.slow
def test_a_folder_is_of_one_llm(options, experiment, refused, tmp_path):
    asking = [*options, "--strategies", "zero_shot", "--candidates", 1, "--ask"]
    experiment("union", *asking, "--llm", "scripted")
    assert "holds a run with other settings (llm differ)" in refused("union", *asking, "--llm", "local")


@pytest.mark.slow
def test_without_ask_an_answer_that_is_not_stored_is_an_error(options, experiment, refused):
    asking = [*options, "--strategies", "zero_shot", "--candidates", 1, "--llm", "scripted"]
    assert "--ask calls the LLM" in refused("union", *asking)
    planned = experiment("union", *asking, "--plan").out
    experiment("union", *asking, "--ask")
    experiment("union", *asking, out="again")
    assert "zero_shot: candidates" in planned and "nothing was called" in planned


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
    shown, *_ = report.average([(m, "x") for m in made])
    np.testing.assert_allclose(float(shown.split(" ")[0]), (4 / 20 + 2 / 20) / 2)


def test_shares_count_an_answer_for_each_source_whose_own_it_is():
    assert report.own_shares(rows({"union": 1})) == {"nobody's": 0.5, "a": 0.5}
