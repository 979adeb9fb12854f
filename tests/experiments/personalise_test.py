import dataclasses
import json

import numpy as np
import pytest

from experiments.benchmarks import personalise

SMALL = personalise.Options(
    users=8,
    sample=4,
    examples=12,
    features=6,
    batch_examples=12,
    settings=4,
    sweep_users=8,
    repeats=1,
    parts=("fits", "sweeps"),
)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(personalise, "BATCHES", (12,))
    monkeypatch.setattr(personalise, "VMAPPED", (2,))
    return SMALL


def test_the_loop_takes_the_updates_of_the_fit():
    """With all of a user's examples in one update their order does not show."""
    options = dataclasses.replace(SMALL, family="mlp:dropout=0.0")
    data = personalise.make(4, options)
    (fitted, _) = personalise.together(data, options, users=4, batch=12, parallel=None)
    looped = personalise.loop(data, options, users=4, batch=12)
    for user in range(4):
        for name, leaf in looped[user].items():
            np.testing.assert_allclose(fitted[2][name][0, user], leaf, atol=1e-5)


@pytest.mark.slow
def test_the_benchmark_measures_and_says_so(small, capsys, tmp_path):
    plot = tmp_path / "plot.html"
    personalise.main(dataclasses.replace(small, json=True, plot=plot))
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    wanted = {"seconds_per_user", "ratio_loop", "sweep_linear", "sweep_simplex", "sweep_mlp"}
    assert wanted <= set(found)
    assert all(found[name] > 0 for name in wanted)
    assert [found[f"compilations_{name}"] for name in ("linear", "simplex", "mlp")] == [1, 1, 1]
    layouts = {f"{layout}, 12 examples an update" for layout in ("in turn", "loop", "2 side by side")}
    assert set(found["milliseconds"]) == layouts
    assert plot.read_text().count("<polyline") == 2
