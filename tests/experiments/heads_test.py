import contextlib
import importlib.util
import json

import pytest

from experiments.benchmarks import _benchmark, heads


@pytest.fixture
def small(monkeypatch):
    """Banks of a few users with narrow heads."""
    monkeypatch.setattr(heads, "D", 6)
    monkeypatch.setattr(heads, "EXAMPLES", 3)
    monkeypatch.setattr(heads, "BANKS", {"linear": (1_000, 100_000)})


@pytest.mark.slow
def test_it_runs_and_its_last_line_is_json(small, capsys, tmp_path):
    heads.main(heads.Options(parts=("flatness",), smoke=True, json=True, plot=tmp_path / "curves.html"))
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    times = found["flatness"]["step_ms"]["linear"]
    assert found["flatness_linear"] == pytest.approx(times["100000"] / times["1000"], abs=0.02, rel=0.02)
    share = found["flatness"]["floor"]["linear"]["share"]
    assert found["floor_share"] == pytest.approx(share, abs=2e-3) and share > 0
    # w and b, each with two moments, and the two counts of the chain.
    assert found["flatness"]["bytes_per_user"]["linear"] == {"float32": 12 * 7 + 8, "bfloat16": 8 * 7 + 8}
    assert "linear" in (tmp_path / "curves.html").read_text()


def test_the_floor_is_bytes_and_operations_over_the_benchmarks_rates():
    machine = _benchmark.Machine(smoke=True)
    n, d, row = heads.USERS * heads.EXAMPLES, heads.D, 1000
    floor = heads.floor(machine, "mlp", row, {"copy": 2.0, "multiply": 3.0})
    assert floor["bytes"] == 2 * heads.USERS * row + 4 * n * d
    assert floor["operations"] == 2 * 2 * n * d * d
    assert floor["copying"] == pytest.approx(floor["bytes"] / (2 * machine.source.nbytes) * 2.0)
    assert floor["multiplying"] == pytest.approx(floor["operations"] / (2 * machine.size**3) * 3.0)


def test_contenders_take_turns():
    seen = []

    def contender(name):
        return _benchmark.over(lambda batch: seen.append((name, batch)), [(0,), (1,), (2,)])

    seconds = _benchmark.turns({name: contender(name) for name in "ab"}, 1)
    first, second = range(_benchmark.CALLS), range(_benchmark.CALLS, 2 * _benchmark.CALLS)
    assert seen == [(name, i % 3) for calls in (first, second) for name in "ab" for i in calls]
    assert set(seconds) == {"a", "b"}


@pytest.mark.parametrize(
    ("figures", "smoke", "code"),
    [
        ({"ratio": 2.0, "share": 1.0, "same": True}, False, 0),
        ({"ratio": 1.9}, False, 1),
        ({"ratio": 1.9}, True, 0),
        ({"share": 1.1}, False, 1),
        ({"share": None}, False, 1),
        ({"same": False}, False, 1),
    ],
)
def test_a_missed_goal_ends_in_exit_code_1_but_in_the_smoke_size(figures, smoke, code, capsys):
    run = _benchmark.Benchmark(
        parts={"a": lambda _: figures}, figures=("ratio",), least={"ratio": 2.0}, most={"share": 1.0}
    )
    with pytest.raises(SystemExit) if code else contextlib.nullcontext() as ended:
        run(_benchmark.Compared(smoke=smoke, json=True))
    assert not code or ended.value.code == code
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    flat = {"ratio": figures["ratio"]} if "ratio" in figures else {}
    checks = found["a"].pop("checks")
    assert (
        found == flat | {"a": figures}
        and len(checks) == len(figures)
        and all(checks.values()) is (figures.get("ratio") != 1.9 and not code)
    )


def test_without_pytorch_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"need PyTorch: pip install -r requirements/parity.txt"):
        heads.main(heads.Options(parts=("sparse",)))


@pytest.mark.slow
def test_a_bank_in_files_is_measured_and_removed(small, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    heads.main(heads.Options(parts=("shards",), smoke=True, json=True))
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    times = found["shards"]["step_ms"]
    assert found["ratio_shards"] == pytest.approx(times["files"] / times["memory"], rel=0.02)
    assert found["shards"]["users"] == 400 and not list(tmp_path.iterdir())
