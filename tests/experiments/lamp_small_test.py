"""The table of the experiment, and its configurations."""

import pytest

from experiments import lamp_small


@pytest.mark.parametrize("task", lamp_small.SIZES)
def test_every_task_has_a_configuration_and_a_smoke_size(task):
    full = lamp_small.run_config(task, lamp_small.Options(data_dir="x"))
    smoke = lamp_small.run_config(task, lamp_small.Options(data_dir="x", smoke=True))
    assert full.task == smoke.task == task
    assert smoke.train_users < full.train_users and smoke.dev_users < full.dev_users
    assert (full.llm, smoke.llm) == ("local", "scripted")


def test_the_table_has_a_row_a_method_and_leaves_out_what_a_task_does_not_have():
    cell = {"value": 0.5, "low": 0.25, "high": 0.75}
    found = {
        "LaMP_2M": {"methods": {"hydra": {"accuracy": cell}, "factorised_classifier": {"accuracy": cell}}},
        "LaMP_7": {"methods": {"hydra": {"rouge1": cell}, "query_text": {"rouge1": cell}}},
    }
    lines = lamp_small.table(found).splitlines()
    assert lines[0] == "| method | LaMP_2M accuracy ↑ | LaMP_7 ROUGE-1 ↑ |"
    assert "| hydra | 0.500 [0.250, 0.750] | 0.500 [0.250, 0.750] |" in lines
    assert "| factorised_classifier | 0.500 [0.250, 0.750] |  |" in lines
    assert "| query_text |  | 0.500 [0.250, 0.750] |" in lines
