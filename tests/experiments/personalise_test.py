import dataclasses
import json

import numpy as np
import pytest

from experiments.benchmarks import personalise

SMALL = personalise.Options(
    users=8, sample=4, examples=12, features=6, batch_examples=12, settings=4, sweep_users=8, encoded_users=0, repeats=1
)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(personalise, "BATCHES", (6,))
    monkeypatch.setattr(personalise, "VMAPPED", (2,))
    return SMALL


def test_the_loop_takes_the_updates_of_the_fit():
    """With all examples in one update and hardly any rate, draws and orders do not show."""
    options = dataclasses.replace(SMALL, epochs=1)
    data = personalise.make(4, options)
    _, _, start = personalise.parts("mlp", options.features)
    (fitted, _), looped = (
        personalise.together(data, options, users=4, batch=12, parallel=None),
        personalise.loop(data, options, users=4, batch=12),
    )
    for user in range(4):
        for name, leaf in start.items():
            moved = [np.sign(one - leaf) for one in (fitted[1][name][user], looped[user][name])]
            assert np.mean(moved[0] == moved[1]) > 0.7  # they differ by dropout alone


def test_the_benchmark_measures_and_says_so(small, capsys, tmp_path):
    plot = tmp_path / "plot.html"
    personalise.main(dataclasses.replace(small, json=True, plot=plot))
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    wanted = {"seconds_per_user", "ratio_loop", "sweep_linear", "sweep_simplex", "sweep_mlp"}
    assert wanted <= set(found)
    assert all(found[name] > 0 for name in wanted)
    assert [found[f"compilations_{name}"] for name in ("linear", "simplex", "mlp")] == [1, 1, 1]
    assert {(row["layout"], row["batch"]) for row in found["layouts"]} == {
        (layout, batch) for layout in ("in turn", "loop", "2 side by side") for batch in (6, 12)
    }
    assert plot.read_text().count("<polyline") == 2
