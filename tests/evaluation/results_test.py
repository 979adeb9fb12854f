import json

import numpy as np
import pytest

from hydrajax import files, metrics
from hydrajax.evaluation import results, roster
from hydrajax.types import DataError

KEYS = [
    "experiment", "task", "split", "users", "queries", "llm", "methods", "comparisons", "captured", "new_user",
    "seconds",
]  # fmt: skip


@pytest.mark.parametrize("name", ["LaMP_2M", "LaMP_3", "LaMP_4", "demo"])
def test_results_hold_what_is_promised(make_rows, facts, name):
    task, rows = make_rows(name)
    built = results.build(task, rows, **facts, resamples=50)
    assert list(built)[: len(KEYS)] == KEYS
    assert (built["task"], built["users"], built["queries"]) == (task.name, 12, 24)
    assert set(built["llm"]) == {"model", "calls", "cached", "input_tokens", "output_tokens", "cost_usd"}
    assert set(built["methods"]) == set(rows[0]["answers"])
    for values in built["methods"].values():
        assert tuple(values) == task.metrics
        assert all(set(cell) == {"value", "low", "high"} for cell in values.values())
    assert set(built["new_user"]["hydra"]) == {"calls", "input_tokens", "output_tokens", "cost_usd"}
    assert built["captured"]["from_best_source"] is not None
    assert (built["captured"]["source"], built["captured"]["metric"]) == ("rag", task.metrics[0])
    assert built["seconds"] == facts["seconds"]


@pytest.mark.parametrize("name", ["LaMP_2M", "LaMP_3"])
def test_hydra_is_compared_with_every_other_on_every_metric(make_rows, facts, name):
    task, rows = make_rows(name)
    built = results.build(task, rows, **facts, resamples=50)
    others = set(built["methods"]) - {"hydra"}
    assert {(c["b"], c["metric"]) for c in built["comparisons"]} == {(b, m) for b in others for m in task.metrics}
    assert {c["a"] for c in built["comparisons"]} == {"hydra"}
    for c in built["comparisons"]:
        sign = 1 if metrics.STATISTICS[c["metric"]].higher_is_better else -1
        a, b = (built["methods"][c[side]][c["metric"]]["value"] for side in "ab")
        np.testing.assert_allclose(c["difference"], sign * (a - b), atol=1e-12)
        assert c["low"] <= c["difference"] <= c["high"]


def test_the_same_rows_in_another_order_give_the_same_results(make_rows, facts):
    task, rows = make_rows("LaMP_4", users=5)
    assert results.build(task, rows[::-1], **facts, resamples=20) == results.build(task, rows, **facts, resamples=20)


def test_the_shares_of_sources_are_those_of_the_answers(make_rows, facts):
    task, rows = make_rows("LaMP_4", users=4, questions=1)
    for row, source in zip(rows, ["reranked", "reranked", "proposal", "reranked"], strict=True):
        pool, index = row["answers"]["hydra"]["candidate"]
        row["pools"][pool][index]["source"] = source
    built = results.build(task, rows, **facts, resamples=5)
    assert built["sources"]["hydra"] == {"reranked": 0.75, "proposal": 0.25}
    assert "rag" not in built["sources"]


def test_gains_are_per_user_and_against_the_best_prompt_of_validation_users(make_rows, facts):
    task, rows = make_rows("LaMP_3")
    without = facts | {"best_prompt": None}
    assert results.build(task, rows, **without, resamples=5)["gains"] is None
    built = results.build(task, rows, **(facts | {"best_prompt": "pag"}), resamples=5)
    gains = built["gains"]
    assert (gains["a"], gains["b"], gains["metric"]) == ("hydra", "pag", "mae")
    mine = [row for row in rows if row["user"] == "u03"]

    def error(method):
        pairs = [row["answers"][method]["predictions"] + [row["gold"]] for row in mine]
        return metrics.compute(task, *zip(*pairs, strict=True))["mae"]

    np.testing.assert_allclose(gains["users"]["u03"], error(gains["b"]) - error("hydra"))


def test_what_was_not_run_is_left_out(make_rows, facts):
    task, rows = make_rows(users=3)
    for row in rows:
        row["answers"] = {"rag": row["answers"]["rag"]}
    built = results.build(task, rows, **(facts | {"best_source": None}), resamples=5)
    assert list(built["methods"]) == ["rag"]
    assert built["comparisons"] == []
    assert built["gains"] is None
    assert built["captured"]["from_best_source"] is None
    results.build(task, rows, **facts, resamples=5)  # a best source alone asks for nothing


def test_a_best_source_that_was_not_run_is_an_error(make_rows, facts):
    task, rows = make_rows(users=3)
    with pytest.raises(DataError, match="'elsewhere' was not measured"):
        results.build(task, rows, **(facts | {"best_source": "elsewhere"}), resamples=5)


def test_the_file_is_strict_json_and_nothing_else_is_left(make_rows, facts, tmp_path):
    built = results.build(*make_rows(users=1), **facts, resamples=5)
    files.write_json(tmp_path / "results.json", built)

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    read = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert read == built
    assert read["methods"]["hydra"]["accuracy"]["low"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_what_is_no_number_is_refused_with_its_place(make_rows, facts):
    facts = facts | {"seconds": {"candidates": float("nan")}}
    with pytest.raises(ValueError, match="results.seconds.candidates is nan"):
        results.build(*make_rows(users=2), **facts, resamples=5)


def test_methods_are_always_in_the_same_order():
    found = roster.ordered(["zebra", "oracle", "hydra", "apple", "rag", "random", "zero_shot"])
    assert found == ["zero_shot", "rag", "hydra", "random", "oracle", "apple", "zebra"]
    assert [name for name, _ in roster.groups(found)] == ["Prompt baselines", "HYDRA", "Controls", "Others"]
    assert [m for _, members in roster.groups(found) for m in members] == found


def test_strategies_of_ones_own_stand_with_those_of_the_package_and_their_controls_with_the_controls():
    found = ["mine", "mine_shuffled", "rag_shuffled", "rag", "hydra", "apple", "own", "pear_shuffled"]
    assert roster.groups(found) == [
        ("Prompt baselines", ["rag", "mine"]),
        ("Prompts with another user's records", ["rag_shuffled", "mine_shuffled"]),
        ("HYDRA", ["hydra"]),
        ("Others", ["apple", "own", "pear_shuffled"]),
    ]
    assert roster.groups(["own", "rag"], among=["own", "own_shuffled"]) == [("Prompt baselines", ["rag", "own"])]
