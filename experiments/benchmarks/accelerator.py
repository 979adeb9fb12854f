"""On a GPU or a TPU: the joint step, the gathered step, a million heads, new users, the encoder, vmap against map.

Source    random numbers; a base of MiniLM's size with random weights; heads of 384 features.
Command   python -m experiments.benchmarks accelerator [--json]
Expected  share_mlp_64, share_mlp_4096, share_low_rank_mlp_64, share_low_rank_mlp_4096 (of the measured rate of copying)
          at least .6; flatness (10^6 heads over 10^4) at most 1.15. Measured on no accelerator yet.
Cost      at most 5 minutes on one device of 64 GB or more; where there is less, the parts that do not fit say so.
Needs     besides jax (for the device), flax, optax and numpy: `WHEELS` of experiments/benchmarks/__main__.py, 7 MB,
          nothing else of hydrajax's own requirements, and no installation of hydrajax:
              pip install --no-deps --target wheels jaxtyping wadler-lindig safetensors filelock tyro \\
                  docstring-parser typeguard
              PYTHONPATH=wheels python -m experiments.benchmarks accelerator --json
          PyTorch and transformers are compared with where they are there.
Smoke     XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m experiments.benchmarks accelerator --smoke

Every part is a process of its own, with the whole device for itself, and has a share of the time: one that fails, does
not fit or takes too long says so in one sentence, keeps what it has found until then, and the others go on.
"""

import dataclasses
import functools
import json
import subprocess
import sys
import time
from typing import Any, Literal, get_args

from experiments.benchmarks import _benchmark

Part = Literal["device", "million", "joint", "gathered", "fits", "encoder", "layouts"]
# Of the time; what one part leaves over the following ones have.
SHARES = {"device": 20, "million": 45, "joint": 50, "gathered": 55, "fits": 50, "encoder": 35, "layouts": 30}
GOAL = 0.6  # of the rate of copying
TOLD = 300  # characters of what went wrong


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(_benchmark.Sized):
    """What an accelerator makes of the library."""

    parts: tuple[Part, ...] = get_args(Part)
    """Which parts."""
    seconds: float = 285.0
    """Of all parts together; what still runs then is stopped."""
    joint_users: int = 64
    """Of the joint step."""
    joint_examples: int = 8
    """Of each of them."""
    joint_tokens: int = 128
    """Of a text, in the joint step and in the encoder's part."""
    step_users: tuple[int, ...] = (64, 4096)
    """Users in a gathered step; the bank holds twice as many."""
    heads: int = 1_000_000
    """`low_rank_mlp` heads of one bank, against a hundredth of them."""
    new_users: int = 10_000
    """Whose heads are fitted."""
    examples: int = 100
    """Of each new user."""
    features: int = 384
    """D, of all parts without a base."""
    encoded: int = 1024
    """Texts in a batch of the encoder."""
    layout_users: int = 256
    """Users who are fitted side by side and one after another; an eighth of them in the sweep."""
    seed: int = 0
    """Of what is drawn."""

    def sized(self) -> "Options":
        """The options with the sizes of the smoke run, where one is asked for."""
        tiny = {"joint_users": 16, "joint_examples": 2, "joint_tokens": 16, "step_users": (8, 32), "heads": 1000,
                "new_users": 24, "examples": 12, "features": 16, "encoded": 4, "layout_users": 16}  # fmt: skip
        return dataclasses.replace(self, **tiny) if self.smoke else self


def main(options: Options) -> None:
    """Measures the parts, prints a table each, and exits with 1 where a goal is missed or a part failed."""
    deadline = time.monotonic() + options.seconds
    _benchmark.Benchmark(
        parts={part: functools.partial(apart, part, deadline) for part in SHARES},
        figures=("share_", "flatness", "joint_", "encoder_", "ratio_", "users_per_second_"),
        least={f"share_{name}_{users}": GOAL for name in ("mlp", "low_rank_mlp") for users in options.step_users},
        most={"flatness": 1.15, "encoder_difference": 0.05},
    )(options)


def apart(part: str, deadline: float, options: Options) -> dict[str, Any]:
    """What a part finds in a process of its own; `measured` says whether it came to its end, `left_out` why not."""
    following = options.parts[options.parts.index(part) :]
    left = max(1.0, deadline - time.monotonic())
    seconds = left * SHARES[part] / sum(SHARES[name] for name in following)
    try:
        done = subprocess.run(command(part, options, seconds), capture_output=True, timeout=seconds, check=False)
        said, wrong = done.stdout, done.stderr.decode(errors="replace").strip()
        ended = f"ended with code {done.returncode}: {wrong.splitlines()[-1] if wrong else 'no word'}"
        failed = done.returncode != 0
    except subprocess.TimeoutExpired as error:
        said, failed, ended = error.stdout or b"", True, f"stopped after {seconds:.0f} s"
    found: dict[str, Any] = {}
    for line in said.decode(errors="replace").splitlines():
        if line.startswith("{") and line.endswith("}"):  # the last may be cut
            found = json.loads(line)
    if failed:
        found.setdefault("left_out", ended[:TOLD])
    return found | {"measured": "left_out" not in found}


def command(part: str, options: Options, seconds: float) -> list[str]:
    """What measures a part."""
    told = json.dumps({**dataclasses.asdict(options.sized()), "seconds": seconds})
    return [sys.executable, "-m", "experiments.benchmarks._accelerator", part, told]
