"""A whole run with a family of its own for the reranker and for the adapter."""

import json

import numpy as np
import pytest

from hydrajax.runs import saved
from tests.runs.conftest import features


@pytest.mark.slow
def test_reranker_and_adapter_have_the_families_that_were_named(lamp, config, machine, run, tmp_path):
    folder = lamp(tmp_path / "data", "LaMP_3")
    made = config(folder, "LaMP_3", reranker_family="linear", adapter_family="simplex:bases=3")
    run(made, tmp_path / "run", machine(tmp_path))
    there = saved.load(tmp_path / "run" / "scorers", features)
    assert set(there.reranker.heads) == {"w", "b"}
    assert there.adapter.heads["w"].shape == (len(there.adapter.user_rows), 3)
    chosen = json.loads((tmp_path / "run" / "choices.json").read_text())["scorers"]
    assert {name: one["family"] for name, one in chosen.items()} == {"reranker": "linear", "adapter": "simplex:bases=3"}
    assert "family simplex:bases=3" in (tmp_path / "run" / "report.html").read_text()
    for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines():
        for candidate in json.loads(line)["pools"]["reranked"]:
            assert all(np.isfinite(score) for score in candidate["scores"].values())
