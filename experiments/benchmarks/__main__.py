"""`python -m experiments.benchmarks NAME [options]`: one of the benchmarks of this folder."""

import importlib
import pathlib
import sys

import tyro

NAMES = sorted(path.stem for path in pathlib.Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))

if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
    sys.exit(f"usage: python -m experiments.benchmarks {{{'|'.join(NAMES)}}} [options]")
benchmark = importlib.import_module(f"experiments.benchmarks.{sys.argv.pop(1)}")
benchmark.main(tyro.cli(benchmark.Options))
