"""The base encoder: tokens a second against transformers and PyTorch, and Longformer's memory by length.

Source    MiniLM (6 layers, 384 wide) in float32, the same weights and token ids for both, tokenisation excluded, the
          contenders taking turns. With --data-dir the mixed lengths are those of real pairs (a query and a record of
          its user) of LaMP; without, words are drawn at random with lengths log-uniform from 16 to 512 tokens.
Command   python -m experiments.benchmarks encoder [--data-dir DIR] [--json] [--plot FILE.html]
Expected  ratio_uniform at least 1.05 (geometric mean over 64, 128 and 256 tokens), ratio_training at least 1.0,
          ratio_mixed at least 2.0 (against padding to the batch's longest in random order), ratio_sorted at least 1.05
          (against batches sorted by length); Longformer's memory linear in the length.
          With GLIBC_TUNABLES=glibc.malloc.hugetlb=1 neither of them spends its time on page faults.
Cost      about 8 minutes on 2 cores, 9 GB of memory.
Needs     PyTorch for all parts but longformer: pip install -r requirements/parity.txt (or `make test-parity`).
Smoke     python -m experiments.benchmarks encoder --smoke --parts longformer        (seconds, without PyTorch)
"""

import dataclasses
import functools
import json
import pathlib
import subprocess
import sys
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import _benchmark, _peaks
from hydrajax.data import lamp, tasks
from hydrajax.nn import encode, tokens, weights
from hydrajax.training import optimizers

Part = Literal["uniform", "training", "mixed", "longformer"]
LENGTHS = (64, 128, 256)
TOKENS = 2048  # of a uniform batch
TEXTS, THEIR_BATCH = 96, 32  # of the mixed lengths; 32 is the batch of sentence-transformers
LONG = (1024, 2048, 4096)
PACKED = 512


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(_benchmark.Compared):
    """The base encoder against PyTorch."""

    parts: tuple[Part, ...] = get_args(Part)
    """Which parts."""
    data_dir: pathlib.Path | None = None
    """A folder with LaMP's tasks, whose pairs have the mixed lengths."""


@functools.cache
def base() -> encode.Base:
    """MiniLM."""
    return encode.load_base("minilm", pooling="mean")


@functools.cache
def theirs() -> Any:
    """The same weights in PyTorch."""
    from experiments.benchmarks import _encoder_torch

    return _encoder_torch.Theirs(weights.find_base("minilm"))


def uniform_batch(length: int, options: Options) -> tokens.Tokens:
    """Random tokens, none of them padding."""
    rows = max(1, (256 if options.smoke else TOKENS) // length)
    rng = np.random.default_rng(length)
    ids = rng.integers(1000, base().module.config.vocab_size, (rows, length)).astype(np.int32)
    types = np.zeros_like(ids)
    types[:, length // 2 :] = 1
    return tokens.Tokens(ids=ids, types=types, mask=np.ones(ids.shape, bool))


@jax.jit
def ours(params: Any, batch: tokens.Tokens) -> Any:
    """Features of a batch."""
    return encode.features(base().module, params, batch, "mean")


def uniform(options: Options) -> dict[str, Any]:
    """Inference on batches of one length."""
    machine = _benchmark.Machine(options.smoke)
    found: dict[str, Any] = {"tokens_per_second": {}, "ratios": {}, "ratios_bfloat16": {}, "gemm_shares": {}}
    apart = []
    for length in LENGTHS:
        batch = uniform_batch(length, options)
        other = theirs().tensors(batch.ids, batch.types, batch.mask)
        here = jax.device_put(batch)
        apart.append(np.abs(np.asarray(ours(base().params, here)) - theirs().features(other).numpy()).max())
        contenders = {
            "ours": lambda here=here: ours(base().params, here).block_until_ready(),
            "theirs": lambda other=other: theirs().features(other),
            "theirs_bfloat16": lambda other=other: theirs().features(other, half=True),
        }
        seconds = _benchmark.turns(contenders | {"multiply": machine.multiply}, options.rounds(8))
        least = machine.multiplying(operations(batch.ids.shape), seconds)
        found["tokens_per_second"][str(length)] = {name: batch.ids.size / seconds[name] for name in contenders}
        found["ratios"][str(length)] = seconds["theirs"] / seconds["ours"]
        found["ratios_bfloat16"][str(length)] = seconds["theirs_bfloat16"] / seconds["ours"]
        found["gemm_shares"][str(length)] = least / seconds["ours"]
    for mean, of in (("ratio_uniform", "ratios"), ("ratio_bfloat16", "ratios_bfloat16"), ("gemm_share", "gemm_shares")):
        found[mean] = _benchmark.mean_ratio(found[of].values())
    curves = {"float32": found["ratios"], "PyTorch in bfloat16": found["ratios_bfloat16"]}
    options.draw(
        "times PyTorch's tokens a second, by tokens of a text",
        {name: [(int(length), ratio) for length, ratio in ratios.items()] for name, ratios in curves.items()},
    )
    return found | {"difference": float(max(apart))}


def operations(shape: tuple[int, ...]) -> float:
    """Of the products of MiniLM's forward pass."""
    return _peaks.encoder_operations(base().module.config, shape)


def training(options: Options) -> dict[str, Any]:
    """A step of all parameters: forward, backward, AdamW."""
    tx = optimizers.adamw(1e-5, 0.01, clip=1e9)
    batch = uniform_batch(128, options)
    goal = np.random.default_rng(1).normal(size=(len(batch.ids), base().dim)).astype(np.float32)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(params: Any, opt: Any, batch: tokens.Tokens, goal: Any) -> Any:
        def loss(params: Any) -> Any:
            z = encode.features(base().module, params, batch, "mean")
            return 0.5 * jnp.sum((z - goal) ** 2)

        updates, opt = optimizers.update(tx, jax.grad(loss)(params), opt, params)
        return jax.tree.map(jnp.add, params, updates), opt

    params = jax.tree.map(jnp.array, base().params)
    state = (params, tx.init(params))
    here, other = jax.device_put(batch), theirs().tensors(batch.ids, batch.types, batch.mask)

    def step() -> None:
        nonlocal state
        state = jax.block_until_ready(update(*state, here, goal))

    seconds = _benchmark.turns({"ours": step, "theirs": lambda: theirs().step(other, goal)}, options.rounds(12))
    rates = {name: batch.ids.size / value for name, value in seconds.items()}
    return {"tokens_per_second": rates, "ratio_training": seconds["theirs"] / seconds["ours"]}


def mixed(options: Options) -> dict[str, Any]:
    """Texts of 16 to 512 tokens: buckets and packed rows against padding to the longest of a batch."""
    encodings = texts(options)
    lengths = [len(one.ids) for one in encodings]
    order = np.random.default_rng(0).permutation(len(encodings)).tolist()
    by_length = sorted(range(len(encodings)), key=lambda i: -lengths[i])

    def padded(order: list[int]) -> list[Any]:
        made = []
        for first in range(0, len(order), THEIR_BATCH):
            part = [encodings[i] for i in order[first : first + THEIR_BATCH]]
            batch = tokens.pack(part, max(len(one.ids) for one in part))
            made.append(theirs().tensors(batch.ids, batch.types, batch.mask))
        return made

    shuffled, in_order = padded(order), padded(by_length)

    def here(packing: int) -> np.ndarray:
        return encode.compute(base(), encodings, packing=packing)

    contenders = {
        "buckets": lambda: here(0),
        "packed": lambda: here(PACKED),
        "theirs": lambda: theirs().all_features(shuffled),
        "theirs_sorted": lambda: theirs().all_features(in_order),
    }
    apart = float(np.abs(here(0) - here(PACKED)).max())
    seconds = _benchmark.turns(contenders, 1)
    best = min(seconds["buckets"], seconds["packed"])
    return {
        "texts": len(encodings),
        "tokens": sum(lengths),
        "lengths": {name: int(np.percentile(lengths, q)) for name, q in (("least", 0), ("half", 50), ("most", 100))},
        "tokens_per_second": {name: sum(lengths) / value for name, value in seconds.items()},
        "ratio_mixed": seconds["theirs"] / best,
        "ratio_sorted": seconds["theirs_sorted"] / best,
        "ratio_packed_to_buckets": seconds["buckets"] / seconds["packed"],
        "difference": apart,
    }


def texts(options: Options) -> list[tokens.Encoding]:
    """Pairs of 16 to 512 tokens: real ones, or of random words."""
    wanted = 16 if options.smoke else TEXTS
    rng = np.random.default_rng(0)
    if options.data_dir is None:
        counts = np.exp(rng.uniform(np.log(13), np.log(64 if options.smoke else 509), wanted)).astype(int)
        pairs = [
            (" ".join(rng.choice(_benchmark.WORDS, n // 2)), " ".join(rng.choice(_benchmark.WORDS, n - n // 2)))
            for n in counts
        ]
    else:
        pairs = []
        for name in ("LaMP_2M", "LaMP_3", "LaMP_4"):
            task = tasks.LAMP[name]
            split, _ = lamp.read_split(options.data_dir / name, task, "train")
            for query in split.queries[:400]:
                profile = split.users[query.user_id].profile
                record = profile[int(rng.integers(len(profile)))]
                pairs.append((task.query_text(query), task.record_text(record)))
    found = tokens.tokenize(base().tokenizer, pairs, max_tokens=512, truncate="second")
    found = [one for one in found if len(one.ids) >= 16]
    return [found[i] for i in rng.permutation(len(found))[:wanted]]


def long(options: Options) -> dict[str, Any]:
    """Longformer-base, random weights, batch 1: memory and time by length, each in a process of its own."""

    def measured(what: str, length: int) -> dict[str, Any]:
        size = ["small"] if options.smoke else []
        command = [sys.executable, "-m", "experiments.benchmarks._encoder_memory", what, str(length), *size]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command[2:])} failed: {(done.stderr.splitlines() or ['killed'])[-1]}")
        return json.loads(done.stdout)

    forward = {str(length): measured("forward", length) for length in LONG}
    train = measured("train", LONG[-1])
    first, last = (forward[str(length)] for length in (LONG[0], LONG[-1]))
    return {
        "planned_megabytes": {name: one["planned"] / 1e6 for name, one in forward.items()},
        "peak_megabytes": {name: one["peak"] / 1e6 for name, one in forward.items()},
        "seconds": {name: one["seconds"] for name, one in forward.items()},
        # 1 = memory grows as the length does; a quadratic form has 4.
        "longformer_memory_growth": last["planned"] / first["planned"] / (LONG[-1] / LONG[0]),
        "training_peak_gigabytes": train["whole"] / 1e9,
        "training_seconds": train["seconds"],
    }


main = _benchmark.Benchmark(
    parts={"uniform": uniform, "training": training, "mixed": mixed, "longformer": long},
    figures=("ratio_", "gemm_share", "longformer_", "training_peak"),
    least={"ratio_uniform": 1.05, "ratio_training": 1, "ratio_mixed": 2, "ratio_sorted": 1.05},
    most={"difference": 1e-4, "longformer_memory_growth": 1.1},
    torch=("uniform", "training", "mixed"),
)
