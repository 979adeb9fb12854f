"""What trained_base_test runs in processes of its own, and kills.

python -m tests.training.trained_base_worker CHECKPOINTS RESULT    trains, goes on where it was, and says every update
python -m tests.training.trained_base_worker kill FOLDER N         N kills, and whether the parameters are those without
"""

import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np

from hydrajax.training import fit
from hydrajax.training.config import FitConfig
from tests.training import blurred

ROOT = pathlib.Path(__file__).parents[2]
USERS, EPOCHS = 16, 50
UPDATES = 4 * EPOCHS  # 16 examples a user, 8 of each of 8 users in a batch
CONFIG = FitConfig(
    family="mlp", train_base=True, base_epochs=EPOCHS, base_learning_rate=1e-3, learning_rate=1e-3, epochs=2,
    prior_strength=10.0, offset_strength=10.0, pooled_epochs=2, pooled_learning_rate=1e-3, pooled_ridge=1.0,
)  # fmt: skip


def train(checkpoint: str, result: str) -> None:
    """Trains, and writes all parameters."""

    def say(done: int, total: int) -> None:
        if total == UPDATES:
            print(done, flush=True)

    examples = blurred.texts(range(USERS), 16)
    fitted = fit.pretrain(CONFIG, examples, USERS, base=blurred.base(), checkpoint=checkpoint, progress=say)
    parts = {"base": fitted.base, "shared": fitted.shared, "bank": fitted.bank}
    leaves = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(parts)}
    np.savez(result, curve=fitted.curves["base"], **leaves)


def undisturbed(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """The parameters without a kill."""
    _started(folder / "whole", folder / "whole.npz").communicate()
    return dict(np.load(folder / "whole.npz"))


def killed(folder: pathlib.Path, kills: int, seed: int = 0) -> tuple[dict[str, np.ndarray], list[int]]:
    """The parameters after so many SIGKILLs, each at a random moment, and the updates at which they came."""
    rng, seen, at = random.Random(seed), 0, []
    for kill in range(kills):
        process = _started(folder / "killed", folder / "killed.npz")
        wanted = rng.randint(seen, max(seen, UPDATES * (kill + 1) // (kills + 1)))
        assert process.stdout is not None
        for line in process.stdout:
            seen = int(line)
            if seen >= wanted:
                break
        time.sleep(rng.random() / 20)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        at.append(seen)
    assert not (folder / "killed.npz").exists()
    _started(folder / "killed", folder / "killed.npz").communicate()
    return dict(np.load(folder / "killed.npz")), at


def _started(checkpoint: pathlib.Path, result: pathlib.Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.training.trained_base_worker", str(checkpoint), str(result)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


if __name__ == "__main__":
    if sys.argv[1] == "kill":
        there = pathlib.Path(sys.argv[2])
        whole, (found, moments) = undisturbed(there), killed(there, int(sys.argv[3]))
        assert whole.keys() == found.keys()
        differing = [name for name in whole if not np.array_equal(whole[name], found[name])]
        print(f"killed at updates {moments} of {UPDATES}; {len(whole)} arrays, differing: {differing or 'none'}")
    else:
        train(*sys.argv[1:])
