"""A report of a finished run is written and shown without any package that only measuring needs."""

import subprocess
import sys

LARGE = ("jax", "flax", "scipy", "sklearn", "sacrebleu", "rouge_score", "nltk", "transformers", "pandas", "grain")
NAMES = ("summary", "roster", "results", "report.page", "authorship.report")


def test_no_large_package_is_imported():
    program = f"import sys, {', '.join(f'hydrajax.evaluation.{name}' for name in NAMES)}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "hydrajax.evaluation.report.page" in loaded and not set(LARGE) & set(loaded)
