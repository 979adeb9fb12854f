"""A process of its own for each peak of memory: `python -m experiments.benchmarks._encoder_memory WHAT TOKENS [small]`.

It prints one JSON object: peak resident memory above the beginning in bytes, seconds of a call, bytes that the compiler
has planned for what lies between.
"""

import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import _benchmark
from hydrajax.nn import bases
from hydrajax.nn.bases import blocks, longformer
from hydrajax.training import optimizers

# Of longformer-base-4096.
BASE = {
    "vocab_size": 50265,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 4098,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}
SMALL = BASE | {"vocab_size": 100, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                "intermediate_size": 32}  # fmt: skip


def main(what: str, length: int, size: str = "base") -> None:
    """`forward` or `train`: random weights, batch 1."""
    shape = BASE if size == "base" else SMALL
    config = longformer.Config(**shape, attention_window=(512,) * shape["num_hidden_layers"])
    module = bases.encoder(config, blocks.Compute(remat=what == "train"))
    rng = np.random.default_rng(0)
    ids = jnp.asarray(rng.integers(3, shape["vocab_size"], (1, length)), jnp.int32)
    args = (ids, jnp.zeros_like(ids), jnp.ones(ids.shape, bool))
    shapes = jax.eval_shape(module.init, jax.random.key(0), *(x[:, :8] for x in args))["params"]
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) * 0.02, jnp.float32), shapes)
    before = _benchmark.peak_bytes()
    if what == "forward":
        run = jax.jit(lambda params, *args: module.apply({"params": params}, *args)).lower(params, *args).compile()
        state: tuple = (params,)
    else:
        tx = optimizers.adamw(1e-5, 0.01)

        def update(params, opt, *args):
            grads = jax.grad(lambda p: jnp.sum(module.apply({"params": p}, *args)[:, 0] ** 2))(params)
            updates, opt = optimizers.update(tx, grads, opt, params)
            return jax.tree.map(jnp.add, params, updates), opt

        state = (params, tx.init(params))
        run = jax.jit(update, donate_argnums=(0, 1)).lower(*state, *args).compile()
    planned = run.memory_analysis().temp_size_in_bytes
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        out = jax.block_until_ready(run(*state, *args))
        state = out if what == "train" else state
        seconds.append(time.perf_counter() - start)
    whole = _benchmark.peak_bytes()
    print(json.dumps({"peak": whole - before, "whole": whole, "planned": planned, "seconds": min(seconds)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
