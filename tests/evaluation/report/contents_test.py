"""Every file of a run folder is checked when it is read: damaged, it is named, with the place and what is expected."""

import json

import pytest

from hydrajax import files
from hydrajax.evaluation import results
from hydrajax.evaluation.report import page
from hydrajax.types import DataError


@pytest.fixture
def folder(make_rows, facts, tmp_path):
    """A finished run's."""
    task, rows = make_rows("LaMP_4", users=8)
    files.write_json(tmp_path / "results.json", results.build(task, rows, **facts, resamples=20))
    files.write_lines(tmp_path / "predictions.jsonl", rows)
    files.write_json(tmp_path / "config.json", {"command": "hydrajax run lamp", "seed": 0})
    choices = {"validation_users": 2, "validation_queries": 4, "shown": {"rag": {"k": 1}}}
    files.write_json(tmp_path / "choices.json", {**choices, "scorers": {"adapter": {"epochs": 2, "loss": "pairwise"}}})
    files.write_json(tmp_path / "curves.json", {"adapter": {"train": [[1, 0.5], [2, 0.25]]}})
    files.append_line(tmp_path / "invocations.jsonl", {"calls": 1, "seconds": 1.5})
    model = {"text": "calm", "edited": False}
    files.append_line(
        tmp_path / "user_models.jsonl", {"strategy": "pag", "user_id": "u", "part": "whole", "model": model}
    )
    page.write_report(tmp_path)
    return tmp_path


def without(value, *keys):
    value = json.loads(json.dumps(value))
    place = value
    for key in keys[:-1]:
        place = place[key]
    del place[keys[-1]]
    return value


def test_an_empty_object_is_no_result(folder):
    files.write_json(folder / "results.json", {})
    with pytest.raises(DataError, match=r"results.json: has no 'experiment', expected a text$"):
        page.write_report(folder)


def test_every_missing_key_of_results_is_named(folder):
    whole = files.read_json(folder / "results.json")
    for key in (
        "experiment",
        "task",
        "split",
        "users",
        "queries",
        "llm",
        "methods",
        "comparisons",
        "new_user",
        "seconds",
    ):
        files.write_json(folder / "results.json", without(whole, key))
        with pytest.raises(DataError, match=rf"results.json: has no '{key}', expected (a|an) \w+"):
            page.write_report(folder)
    for keys in (("llm", "calls"), ("methods", "hydra", "rouge1"), ("methods", "hydra", "rouge1", "low")):
        files.write_json(folder / "results.json", without(whole, *keys))
        with pytest.raises(DataError, match=rf"results.json: {'.'.join(keys[:-1])}: has no '{keys[-1]}'"):
            page.write_report(folder)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("results.json", {"users": "8"}, "users is '8', expected a whole number"),
        ("results.json", {"seconds": {"hydra": "long"}}, "seconds.hydra is 'long', expected a number"),
        ("results.json", {"methods": []}, r"methods is a list, expected an object"),
        ("results.json", {"methods": {"hydra": {"speed": {"value": 1, "low": 1, "high": 1}}}}, "a metric .* 'speed'"),
        ("results.json", {"comparisons": [{}]}, r"comparisons\[0\]: has no 'a', expected a text"),
        ("results.json", {"gains": {"a": "hydra"}}, "gains: has no 'b', expected a text"),
        ("results.json", {"llm": None}, "llm is None, expected an object"),
        ("config.json", {"command": 3}, "command is 3, expected a text or a list"),
        ("choices.json", {"scorers": {"adapter": {}}}, "scorers.adapter: has no 'epochs', expected a whole number"),
        ("choices.json", {"notes": "none"}, "notes is 'none', expected a list"),
        ("curves.json", {"adapter": [1]}, "adapter is a list, expected an object"),
        ("invocations.jsonl", {"calls": "many"}, "row 2.calls is 'many', expected a whole number"),
        ("user_models.jsonl", {"model": 3}, "row 2.model is 3, expected null or an object"),
        ("predictions.jsonl", {"answers": {"hydra": {}}}, r"row \d+.answers.hydra: has no 'predictions'"),
        ("predictions.jsonl", {"user": 3}, r"row \d+.user is 3, expected a text"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_called_by_its_name(folder, file, content, said):
    path = folder / file
    if file.endswith("l"):
        files.append_line(path, {**files.read_lines(path)[0], **content})
    else:
        files.write_json(path, {**files.read_json(path), **content})
    with pytest.raises(DataError, match=said) as error:
        page.write_report(folder)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
