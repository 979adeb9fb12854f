"""The table of the experiment, and its configurations."""

import json

import pytest

from experiments import kinds
from experiments.reports import lamp_small as report
from hydrajax.methods import settings
from hydrajax.runs import config
from tests.runs.conftest import write_lamp


@pytest.mark.parametrize("task", kinds.LAMP_SMALL)
def test_every_task_has_a_configuration_and_a_smoke_size(task, configured):
    (full,) = configured("lamp_small", "--tasks", task, smoke=False).parts()
    (smoke,) = configured("lamp_small", "--tasks", task).parts()
    assert type(full) is type(smoke) is config.Lamp
    assert full.task == smoke.task == full.part == task
    assert (full.train_users, full.dev_users, full.queries_per_user) == tuple(kinds.LAMP_SMALL[task].values())
    assert smoke.train_users < full.train_users and smoke.dev_users < full.dev_users
    assert (full.llm, smoke.llm) == ("local", "scripted")
    assert full.settings == smoke.settings == settings.SMALL


def test_options_of_runs_are_options_of_all_parts(configured):
    parts = configured("lamp_small", "--seed", 3, "--dev-users", 2, "--scorer.family", "linear").parts()
    assert [part.task for part in parts] == list(kinds.LAMP_SMALL)
    assert {(part.seed, part.dev_users, part.scorer.family) for part in parts} == {(3, 2, "linear")}


@pytest.mark.slow
def test_tasks_are_runs_and_one_table_is_over_all(small_base, experiment, tmp_path):
    for task in ("LaMP_2M", "LaMP_3"):
        write_lamp(tmp_path / "data", task, train=8, dev=4, cold=0)
    said = experiment("lamp_small", "--data-dir", tmp_path / "data", "--tasks", "LaMP_2M", "LaMP_3").out
    assert said.startswith("| method | LaMP_2M accuracy ↑ | LaMP_3 MAE ↓ |") and "\n| hydra | " in said
    results = [json.loads((tmp_path / "out" / task / "results.json").read_text()) for task in ("LaMP_2M", "LaMP_3")]
    assert json.loads((tmp_path / "out" / "results.json").read_text())["parts"] == {r["task"]: r for r in results}


@pytest.mark.slow
def test_a_plan_counts_the_folds_of_all_tasks(small_base, experiment, tmp_path):
    for task in ("LaMP_2M", "LaMP_3"):
        write_lamp(tmp_path / "data", task, train=8, dev=4, cold=0)
    options = ["--data-dir", tmp_path / "data", "--tasks", "LaMP_2M", "LaMP_3", "--folds", 2]
    assert "nothing was called" in experiment("lamp_small", *options, "--plan").out


def test_the_table_has_a_row_a_method_and_leaves_out_what_a_task_does_not_have():
    cell = {"value": 0.5, "low": 0.25, "high": 0.75}
    found = {
        "LaMP_2M": {"methods": {"hydra": {"accuracy": cell}, "factorised_classifier": {"accuracy": cell}}},
        "LaMP_7": {"methods": {"hydra": {"rouge1": cell}, "query_text": {"rouge1": cell}}},
    }
    lines = report.tables(None, (), found).splitlines()
    assert lines[0] == "| method | LaMP_2M accuracy ↑ | LaMP_7 ROUGE-1 ↑ |"
    assert "| hydra | 0.500 [0.250, 0.750] | 0.500 [0.250, 0.750] |" in lines
    assert "| factorised_classifier | 0.500 [0.250, 0.750] |  |" in lines
    assert "| query_text |  | 0.500 [0.250, 0.750] |" in lines
