"""What sharded_test runs here and in processes with other devices: a run on a mesh.

python -m tests.training.sharded_worker eight FOLDER            8 devices
python -m tests.training.sharded_worker process FOLDER i port   process i of 2, with 2 devices each
"""

import json
import pathlib
import re
import sys

import jax
import numpy as np

from hydrajax.nn import heads, scorer
from hydrajax.nn.heads import linear
from hydrajax.training import checkpoints, checks, optimizers, sharded
from hydrajax.training import state as states
from tests.training.conftest import D, X, make_batch

C = 16
DIMS = heads.Dims(features=D, extras=X)
TX = optimizers.adamw(0.02, 0.1)
COLLECTIVES = ("all-gather", "all-reduce", "collective-permute", "all-to-all", "reduce-scatter")


class Both(linear.Linear):
    """A linear head of a user's own on top of what all share."""

    def init_shared(self, key, dims):
        return {"w0": jax.random.normal(key, (dims.inputs,)), "more": {"b0": jax.numpy.ones(())}}

    def score(self, shared, user, x, key=None):
        return x @ (shared["w0"] + user["w"]) + user["b"] + shared["more"]["b0"]


FAMILIES = {"heads": heads.get("mlp", dropout=0.3), "both": Both()}


def scorer_of(name):
    return scorer.Scorer(family=FAMILIES[name], dims=DIMS)


def start(name):
    return states.init_state(scorer_of(name), TX, TX, num_users=C, key=jax.random.key(0))


def random_batches(n=6):
    """Up to eight users of sixteen, most of them in the first half: the shards have unlike shares."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(n):
        rows = np.unique(rng.integers(0, C, 8) // rng.integers(1, 3, 8))
        batch = make_batch(list(rng.permutation(rows)), seed=i, pull=0.2, slots=8, capacity=C)
        found.append(batch_of_users(batch))
    return found


def batch_of_users(batch):
    """The batch with nothing in the slots without a user, where `make_batch` puts examples."""
    mask = batch.targets.mask & (batch.rows < C)[:, None]
    return batch.replace(targets=batch.targets.replace(mask=mask))


def run(name, mesh):
    """(last state, the step's metrics, the text of the one program that did all steps)."""
    with jax.set_mesh(mesh):
        state, metrics = sharded.place(start(name), mesh), []
        batches = [sharded.put_batch(sharded.route(b, C, mesh.size, slots=8), mesh) for b in random_batches()]
        step = jax.jit(sharded.make_sharded_step(scorer_of(name), TX, TX, mesh), donate_argnums=0)
        update = step.lower(state, batches[0]).compile()
        for batch in batches:
            state, one = update(state, batch)
            metrics.append(one)
    return state, metrics, update.as_text()


def collectives(text):
    """How often each collective is called in a compiled program."""
    return {name: n for name in COLLECTIVES if (n := len(re.findall(rf"= [^=\n]* {name}(?:-start)?\(", text)))}


def save(path, state):
    """The parameters that this process holds, whole leaves or its rows of them."""
    parts = {}
    for name, leaf in checks.leaves({"bank": state.bank, "shared": state.shared}).items():
        seen = {str(shard.index): shard for shard in leaf.addressable_shards}
        parts[name] = np.concatenate([np.atleast_1d(shard.data) for shard in seen.values()])
    np.savez(path, **parts)


def main():
    mode, folder, *rest = sys.argv[1:]
    folder = pathlib.Path(folder)
    jax.config.update("jax_num_cpu_devices", {"eight": 8, "process": 2}[mode])
    if mode == "process":
        jax.distributed.initialize(f"127.0.0.1:{rest[1]}", num_processes=2, process_id=int(rest[0]))
        for name in FAMILIES:
            save(folder / f"{name}-{rest[0]}.npz", run(name, sharded.make_mesh())[0])
        return
    found = {}
    for name in FAMILIES:
        state, _, text = run(name, sharded.make_mesh(data=2 if name == "both" else 1))
        save(folder / f"{name}.npz", state)
        found[name] = collectives(text)
        with checkpoints.opened(folder / f"checkpoint-{name}") as kept:
            kept.save(6, state, {"devices": 8})
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
