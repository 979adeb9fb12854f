import importlib.util
import itertools
import json
import pathlib
import re
import subprocess
import sys
import time
import tomllib

import pytest

from experiments.benchmarks import __main__ as names
from experiments.benchmarks import _accelerator, _peaks, accelerator

SMOKE = accelerator.Options(smoke=True).sized()


@pytest.fixture
def child(monkeypatch):
    """Parts are measured by these lines of Python, by the part's name."""

    def set_up(**code):
        quick = [sys.executable, "-I", "-S", "-c"]
        monkeypatch.setattr(accelerator, "command", lambda part, options, seconds: [*quick, code[part]])

    return set_up


def test_a_part_that_fails_says_so_and_the_others_go_on(child, capsys):
    child(
        device="print('{\"device\": \"x\"}'); raise MemoryError('no room')",
        joint="print('{\"joint_tokens_per_second\": 5}')",
    )
    with pytest.raises(SystemExit, match="1"):
        accelerator.main(accelerator.Options(parts=("device", "joint"), json=True))
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["device"]["device"] == "x" and not found["device"]["measured"]
    assert found["device"]["left_out"] == "ended with code 1: MemoryError: no room"
    assert found["joint_tokens_per_second"] == 5 and found["joint"]["measured"]


def test_what_a_part_says_of_itself_is_the_sentence(child):
    child(million='print(\'{"a": 1}\'); print(\'{"a": 2, "left_out": "too large"}\'); raise SystemExit(1)')
    found = accelerator.apart("million", time.monotonic() + 20, accelerator.Options(parts=("million",)))
    assert found == {"a": 2, "left_out": "too large", "measured": False}


def test_a_part_that_takes_too_long_is_stopped_and_keeps_what_it_has_found(child):
    child(fits='print(\'{"a": 1}\\n{"a"\', flush=True); import time; time.sleep(60)')
    start = time.monotonic()
    found = accelerator.apart("fits", start + 1.0, accelerator.Options(parts=("fits",)))
    assert found == {"a": 1, "left_out": "stopped after 1 s", "measured": False}
    assert time.monotonic() - start < 20


def test_parts_share_the_time_that_is_left(monkeypatch):
    """Whatever the parts before them took, all of them end before the deadline."""
    given = []

    def run(command, timeout, **rest):
        given.append(timeout)
        assert json.loads(command[-1])["seconds"] == timeout
        return subprocess.CompletedProcess(command, 0, b"{}", b"")

    clock = itertools.count()
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(accelerator.time, "monotonic", lambda: 100.0 * next(clock))
    options = accelerator.Options(parts=("million", "joint", "fits"))
    for part in options.parts:
        accelerator.apart(part, 300.0, options)
    shares = [accelerator.SHARES[part] for part in options.parts]
    assert given == pytest.approx([300 * shares[0] / sum(shares), 200 * shares[1] / sum(shares[1:]), 100])
    assert sum(accelerator.SHARES.values()) <= accelerator.Options().seconds <= 300


@pytest.mark.parametrize(
    ("kind", "tera"),
    [("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA GB200", 2500), ("NVIDIA L40S", 362),
     ("TPU v5 lite", 197), ("TPU v5p", 459)],
)  # fmt: skip
def test_the_share_is_of_the_kinds_peak(kind, tera):
    assert _peaks.share(1e12, kind, 2) == pytest.approx(1 / (2 * tera))


def test_of_an_unknown_kind_no_share_is_made_up():
    assert _peaks.share(1e12, "cpu") == "unknown"


def test_a_fit_is_ended_when_its_time_is_over(monkeypatch):
    clock = iter([10.0, 14.0, 16.0])
    monkeypatch.setattr(_accelerator.time, "monotonic", lambda: next(clock))
    watch = _accelerator.Watch(until=15.0)
    watch(64, 640)
    watch(128, 640)
    assert watch.rate(began=0.0) == 128 / 14.0
    with pytest.raises(_accelerator.SpentError):
        watch(320, 640)
    assert watch.rate(began=0.0) == (320 - 64) / (16.0 - 10.0)


def test_what_is_missing_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wadler_lindig" else object())
    monkeypatch.setattr(sys, "argv", ["benchmarks", "accelerator"])
    with pytest.raises(SystemExit, match=r"^wadler-lindig not installed: .* --no-deps jaxtyping wadler-lindig"):
        names.main()


def test_the_page_and_the_script_name_the_same_wheels():
    for text in (accelerator.__doc__, pathlib.Path("docs/performance.md").read_text()):
        said = re.search(r"--target wheels ([^#]*?)\n *(?:PYTHONPATH|```)", text).group(1)
        assert said.replace("\\", " ").split() == names.WHEELS


@pytest.mark.slow
def test_it_needs_no_other_requirement_of_the_package():
    """As on a machine that has jax, flax, optax and numpy alone, and the few wheels that are named."""
    project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]
    required = {re.match(r"[a-z-]+", line).group().replace("-", "_") for line in project["dependencies"]}
    # flax brings orbax-checkpoint, rich and psutil along, jax scipy.
    there = {"jax", "flax", "optax", "numpy", "orbax_checkpoint", "rich", "psutil", "scipy", *names.WHEELS}
    absent = sorted(required - there | {"sklearn", "torch"})
    assert "transformers" in absent and "grain" in absent
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import experiments.benchmarks._accelerator"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_the_joint_step_runs_on_one_device_and_on_all():
    *_, found = _accelerator.joint(SMOKE)
    assert set(found["step_ms"]) == {"1", "4"} and found["tokens"] == 16 * 2 * 16
    for count, seconds in found["step_ms"].items():
        assert found["joint_tokens_per_second"][count] == pytest.approx(found["tokens"] / seconds * 1e3)
    assert set(found["joint_share_of_peak"].values()) == {"unknown"}


@pytest.mark.slow
def test_shares_are_of_the_bytes_that_must_be_moved():
    *_, found = _accelerator.gathered(SMOKE)
    assert set(found["step_ms"]) == {f"{name}_{users}" for name in ("mlp", "low_rank_mlp") for users in (8, 32)}
    head = 16 * 16 + 16 + 2 * 16 + 2  # w1, b1, w2, b2; each with two moments, and the two counts of the chain
    assert found["megabytes"]["mlp_8"] == pytest.approx((2 * 8 * (12 * head + 8) + 8 * 20 * 16 * 4) / 1e6)
    for name, milliseconds in found["step_ms"].items():
        rate = found["megabytes"][name] / milliseconds  # GB/s
        assert found[f"share_{name}"] == pytest.approx(rate / found["copy_gb_per_second"])


@pytest.mark.slow
def test_the_largest_bank_is_measured_against_a_hundredth(monkeypatch):
    *_, found = _accelerator.million(SMOKE)
    head = 2 * 16 * 8 + 16 + 1
    assert found["bytes_per_user"] == (4 + 2 + 2) * head + 8
    assert found["bank_gb"]["1000"] == pytest.approx(1000 * found["bytes_per_user"] / 1e9)
    assert found["flatness"] > 0 and set(found["step_ms"]) == {"64", "100", "1000"}
    # Nothing of the size of the bank lies between.
    assert found["planned_mb"]["1000"] == found["planned_mb"]["100"]

    monkeypatch.setattr(_accelerator, "memory", lambda: 1e6)
    *_, found = _accelerator.million(SMOKE)
    assert found["left_out"] == "1000 heads: MemoryError: 0.0 GB needed, 0.0 there"
    assert set(found["step_ms"]) == {"64", "100"} and found["flatness"] is None


@pytest.mark.slow
@pytest.mark.parametrize("part", ["device", "fits", "layouts"])
def test_the_other_parts_find_numbers(part):
    found = {}
    for more in getattr(_accelerator, part)(SMOKE):
        found |= more
    expected = {
        "device": {"copy_gb_per_second", "product_tflops"},
        "fits": {"users_per_second_mlp", "users_per_second_linear", "seconds_mlp", "seconds_linear"},
        "layouts": {"ratio_vmap_users", "ratio_vmap_settings"},
    }
    assert all(found[name] > 0 for name in expected[part])


@pytest.mark.slow
def test_without_pytorch_the_encoder_is_measured_alone(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = {}
    for more in _accelerator.encoder(SMOKE):
        found |= more
    assert found["encoder_tokens_per_second"] > 0 and found["tokens"] == 4 * 16
    assert found["pytorch"] == "not compared: torch and transformers not there"


@pytest.mark.slow
def test_the_smoke_size_runs_on_eight_devices(capsys, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    accelerator.main(accelerator.Options(smoke=True, json=True, parts=("device", "joint"), seconds=200))
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["device"]["devices"] == 8 and set(found["joint_tokens_per_second"]) == {"1", "8"}
    assert found["joint"]["measured"]
