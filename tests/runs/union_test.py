"""A run with strategies reports the union; a run without is what it was."""

import json

import pytest

from hydrajax.evaluation import roster


@pytest.mark.slow
def test_a_run_with_strategies_reports_the_union_beside_everything_else(tmp_path, lamp, config, settings, machine, run):
    lamp(tmp_path / "data", "LaMP_2M", train=8, dev=3)
    out = tmp_path / "out"
    told = settings(strategies=("zero_shot", "label_histogram"), candidates=3)
    found = run(config(tmp_path / "data", "LaMP_2M", settings=told), out, machine(tmp_path))
    assert set(roster.UNION) <= set(found["methods"])
    assert sum(found["sources"]["union"].values()) == pytest.approx(1)
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    for row in rows:
        variant, index = row["answers"]["union"]["candidate"]
        chosen = row["pools"][variant][index]
        assert chosen["prediction"] == row["answers"]["union"]["predictions"][0]
        assert chosen["scores"]["union"] == max(c["scores"]["union"] for c in row["pools"][variant])
    assert "The union" in (out / "report.html").read_text()
