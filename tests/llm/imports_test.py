"""What a command needs to answer at once costs no large import: those are made where they are used."""

import subprocess
import sys

import pytest

LARGE = (
    "jax",
    "flax",
    "anthropic",
    "transformers",
    "sklearn",
    "scipy",
    "pandas",
    "tensorflow_datasets",
    "grain",
    "gguf",
)


@pytest.mark.parametrize(
    "names",
    [
        ["llm.store", "llm.maintenance", "llm.connect", "llm.models", "llm.request", "llm.sampler", "llm.planner"],
        ["data.tasks", "data.custom", "data.lamp", "data.folds", "data.pseudo", "data.authorship", "data.tempting"],
    ],
    ids=["llm", "data"],
)
def test_no_large_package_is_imported(names):
    program = f"import sys, {', '.join(f'hydrajax.{name}' for name in names)}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert f"hydrajax.{names[0]}" in loaded and not set(LARGE) & set(loaded)
