"""`python -m experiments.benchmarks NAME [options]`: one of the benchmarks of this folder."""

import importlib
import importlib.util
import pathlib
import sys

NAMES = sorted(path.stem for path in pathlib.Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))
# What `accelerator` needs besides jax, flax, optax and numpy and what these bring along; 7 MB together.
WHEELS = "jaxtyping wadler-lindig safetensors filelock tyro docstring-parser typeguard".split()  # noqa: SIM905


def main() -> None:
    """Runs the benchmark that is named."""
    if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
        sys.exit(f"usage: python -m experiments.benchmarks {{{'|'.join(NAMES)}}} [options]")
    missing = [name for name in WHEELS if importlib.util.find_spec(name.replace("-", "_")) is None]
    if missing:
        alone = f"for accelerator alone pip install --no-deps {' '.join(WHEELS)}"
        sys.exit(f"{', '.join(missing)} not installed: pip install . (or {alone})")
    import tyro

    benchmark = importlib.import_module(f"experiments.benchmarks.{sys.argv.pop(1)}")
    benchmark.main(tyro.cli(benchmark.Options))


if __name__ == "__main__":
    main()
