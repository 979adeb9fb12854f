"""`python -m experiments.benchmarks NAME [options]`: one of the benchmarks of this folder."""

import pathlib
import runpy
import sys

NAMES = sorted(path.stem for path in pathlib.Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))

if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
    sys.exit(f"usage: python -m experiments.benchmarks {{{'|'.join(NAMES)}}} [options]")
name = sys.argv.pop(1)
runpy.run_module(f"experiments.benchmarks.{name}", run_name="__main__", alter_sys=True)
