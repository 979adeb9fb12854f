"""The parts of the benchmark `accelerator`: `python -m experiments.benchmarks._accelerator PART OPTIONS`.

OPTIONS is a JSON object of `accelerator.Options`. A part yields figures as it finds them, and after each one the whole
is printed as a JSON object in a line, so that nothing is lost where the process is stopped.
"""

import dataclasses
import functools
import importlib.util
import itertools
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import psutil

from experiments.benchmarks import _peaks, accelerator, heads, personalise
from hydrajax.nn import bases, encode, tokens, weights
from hydrajax.nn import heads as families
from hydrajax.nn import scorer as scorers
from hydrajax.nn.bases import bert, blocks
from hydrajax.training import examples as examples_
from hydrajax.training import head_fits, optimizers, sharded, step
from hydrajax.training import state as states

Found = Iterator[dict[str, Any]]
LAP = 0.1  # seconds
LAPS = 5
KEPT = 3e9  # bytes of a device that are left to the small bank, to gathered rows and to the compiler
MINILM = {"vocab_size": 30522, "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
          "intermediate_size": 1536, "max_position_embeddings": 512, "type_vocab_size": 2,
          "layer_norm_eps": 1e-12}  # fmt: skip
TINY = MINILM | {"vocab_size": 100, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                 "intermediate_size": 32}  # fmt: skip
SETTINGS = 16  # of the sweep
FEW_GROUPS = 4


class SpentError(Exception):
    """The time of a part is over."""


def device(options: accelerator.Options) -> Found:
    """What it is, and what it can do at best."""
    here = jax.devices()[0]
    yield {"device": here.device_kind, "devices": jax.device_count(), "backend": here.platform, "jax": jax.__version__}
    yield {"memory_gb": memory() / 1e9, "copy_gb_per_second": copying(options) / 1e9}
    size = 256 if options.smoke else 8192
    a = jax.random.normal(jax.random.key(0), (size, size), jnp.bfloat16)
    product = jax.jit(jnp.matmul)
    rate = 2 * size**3 / pace(lambda: product(a, a))
    peak = _peaks.peak(here.device_kind)
    yield {"product_tflops": rate / 1e12, "peak_tflops": "unknown" if peak is None else peak / 1e12}


def million(options: accelerator.Options) -> Found:
    """Many `low_rank_mlp` heads with moments in bfloat16 on one device, against a tenth and a hundredth of them."""
    least, *counts = (max(heads.USERS, options.heads // part) for part in (100, 10, 1))

    def banked(count: int) -> tuple[heads.Bank, Any]:
        made = heads.batches(options, count, d=options.features, count=4)
        return (bank := heads.Bank("low_rank_mlp", count, made[0], "bfloat16", options.features)), running(bank, made)

    first, run_first = banked(least)
    row = first.row_bytes()  # parameters, moments and counts
    found: dict[str, Any] = {"bytes_per_user": row, "step_ms": {}, "bank_gb": {}, "memory_gb": {}, "planned_mb": {}}
    for count in counts:
        try:
            fitting(row * count + KEPT * (not options.smoke))
        except MemoryError as error:
            found["left_out"] = f"{count} heads: {sentence(error)}"
            break
        bank, run = banked(count)
        found["bank_gb"][str(count)] = row * count / 1e9
        # Beside the bank itself: a step that copied it would need it once more.
        found["planned_mb"][str(count)] = planned(bank) / 1e6
        yield found
        seconds = taking_turns({str(least): run_first, str(count): run})
        found["step_ms"] |= milliseconds(seconds)
        found["memory_gb"][str(count)] = in_use()
        found["flatness"] = seconds[str(count)] / seconds[str(least)] if count == options.heads else None
        del bank, run
        yield found
    yield found


def joint(options: accelerator.Options) -> Found:
    """Base and heads learn in one step: on one device, and on all."""
    module, config = minilm(options)
    scorer = scorers.Scorer(
        family=families.get("mlp"), dims=families.Dims(features=config.hidden_size), module=module, pooling="cls"
    )
    base_tx, head_tx = optimizers.adamw(2e-5, 0.01), optimizers.adamw(1e-3, 0.01)
    users, shape = options.joint_users, (options.joint_users, options.joint_examples)
    ids = ids_of(options, config, (*shape, options.joint_tokens))
    label = np.random.default_rng(options.seed).integers(0, 2, shape).astype(np.float32)
    operations = 3 * _peaks.encoder_operations(config, (users * options.joint_examples, options.joint_tokens))
    found: dict[str, Any] = {"tokens": ids.ids.size, "step_ms": {}, "joint_tokens_per_second": {}}
    found |= {"joint_share_of_peak": {}}
    for count in sorted({1, jax.device_count()}):
        capacity = -(-users // count) * count
        state = states.init_state(
            scorer, base_tx, head_tx, num_users=capacity, key=jax.random.key(0), base=initial(module)
        )
        batch = examples_.Batch.of(np.arange(users), ids, label)
        if count == 1:
            update = step.make_train_step(scorer, base_tx, head_tx)
            batch = jax.device_put(batch)
        else:
            mesh = sharded.make_mesh(count)
            update = sharded.make_sharded_step(scorer, base_tx, head_tx, mesh)
            state, batch = sharded.place(state, mesh), sharded.put_batch(sharded.route(batch, capacity, count), mesh)
        seconds = pace(chained(jax.jit(update, donate_argnums=0), state, batch))
        del state
        rate = ids.ids.size / seconds
        found["step_ms"][str(count)] = 1e3 * seconds
        found["joint_tokens_per_second"][str(count)] = rate
        share = _peaks.share(operations / seconds, jax.devices()[0].device_kind, count)
        found["joint_share_of_peak"][str(count)] = share
        yield found


def gathered(options: accelerator.Options) -> Found:
    """The step on frozen features, against the time of copying the bytes that it must read and write."""
    rate, d = copying(options), options.features
    found: dict[str, Any] = {"copy_gb_per_second": rate / 1e9, "step_ms": {}, "megabytes": {}}
    for users, name in itertools.product(options.step_users, ("low_rank_mlp", "mlp")):
        try:
            shapes = families.user_shapes(families.get(name), families.Dims(features=d))
            # The bank, and what is read, its gradient, and what is written.
            fitting(2.4 * users * 2 * 12 * sum(leaf.size for leaf in jax.tree.leaves(shapes)))
            made = heads.batches(options, 2 * users, users, d=d, count=4)
            bank = heads.Bank(name, 2 * users, made[0], d=d)
            row, shared = bank.row_bytes(), sum(leaf.nbytes for leaf in jax.tree.leaves(bank.state.shared))
            seconds = pace(running(bank, made))
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            found["left_out"] = f"{name}, {users} users: {sentence(error)}"
            yield found
            continue
        moved = 2 * users * row + made[0].x.nbytes + shared
        found["step_ms"][f"{name}_{users}"] = 1e3 * seconds
        found["megabytes"][f"{name}_{users}"] = moved / 1e6
        found[f"share_{name}_{users}"] = moved / seconds / rate
        del bank
        yield found


def fits(options: accelerator.Options) -> Found:
    """`fit_heads` for many new users, two epochs; as many as the time allows, the rate without what comes first."""
    start, rng = time.monotonic(), np.random.default_rng(options.seed)
    user = np.repeat(np.arange(options.new_users), options.examples)
    # Rows of a table: to draw them all would take longer than to fit the heads.
    table = rng.standard_normal((4096, options.features), np.float32)
    x, label = table[rng.integers(0, len(table), len(user))], rng.random(len(user)) < 0.5
    for part, name in enumerate(("mlp", "linear"), 1):
        until = start + 0.8 * options.seconds * part / 2
        watch, began = Watch(until), time.monotonic()
        given = {"num_users": options.new_users, "epochs": 2, "batch_examples": options.examples}
        found: dict[str, Any] = {}
        try:
            head_fits.fit_heads(name, x, user, label, progress=watch, **given)
            found[f"seconds_{name}"] = time.monotonic() - began
        except SpentError:
            found[f"not_all_{name}"] = f"{watch.done} of {options.new_users} users in {time.monotonic() - began:.0f} s"
        yield found | {f"first_seconds_{name}": watch.first - began, f"users_per_second_{name}": watch.rate(began)}


class Watch:
    """The progress of a fit, which it ends when its time is over."""

    def __init__(self, until: float):
        self.until, self.first, self.last = until, 0.0, 0.0
        self.begun = self.done = 0

    def __call__(self, done: int, users: int) -> None:
        self.done, self.last = done, time.monotonic()
        if not self.first:
            self.first, self.begun = self.last, done
        if self.last > self.until and done < users:
            raise SpentError

    def rate(self, began: float) -> float:
        """Users a second after the first group, before which programs are compiled; of all where groups are few."""
        if self.done > FEW_GROUPS * self.begun:
            return (self.done - self.begun) / (self.last - self.first)
        return self.done / (self.last - began)


def encoder(options: accelerator.Options) -> Found:
    """Features in bfloat16, tokens a second; against PyTorch with the same weights where it is there."""
    module, config = minilm(options)
    batch = ids_of(options, config, (options.encoded, options.joint_tokens))
    operations = _peaks.encoder_operations(config, batch.ids.shape)
    forward = jax.jit(lambda params, batch: encode.features(module, params, batch, "mean"))
    here = jax.device_put(batch)
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        params, theirs = initial(module), None
    else:
        from experiments.benchmarks import _encoder_torch

        with tempfile.TemporaryDirectory() as folder:
            _encoder_torch.made(pathlib.Path(folder), dataclasses.asdict(config))
            params = jax.device_put(weights.from_pretrained(folder)[1])
            theirs = _encoder_torch.Theirs(pathlib.Path(folder), "cuda" if _encoder_torch.on_gpu() else "cpu")
    seconds = pace(lambda: forward(params, here))
    yield {
        "tokens": batch.ids.size,
        "encoder_tokens_per_second": batch.ids.size / seconds,
        "encoder_share_of_peak": _peaks.share(operations / seconds, jax.devices()[0].device_kind),
    }
    if theirs is None:
        yield {"pytorch": f"not compared: {' and '.join(missing)} not there"}
    elif theirs.device == "cpu" and jax.default_backend() != "cpu":
        yield {"pytorch": "not compared: it has no GPU here"}
    else:
        other = theirs.tensors(batch.ids, batch.types, batch.mask)
        z, wanted = np.asarray(forward(params, here)), theirs.features(other).cpu().numpy()
        yield {"encoder_difference": float(np.linalg.norm(z - wanted) / np.linalg.norm(wanted))}
        taken = taking_turns(
            {"ours": lambda: forward(params, here), "theirs": lambda: theirs.features(other, half=True)},
            wait={"theirs": lambda _: theirs.wait()},
        )
        rates = {name: batch.ids.size / value for name, value in taken.items()}
        yield {"tokens_per_second": rates, "ratio_pytorch": taken["theirs"] / taken["ours"]}


def layouts(options: accelerator.Options) -> Found:
    """Users, and settings of a sweep, side by side (`vmap`) and one after another (`map`)."""
    users, few = options.layout_users, max(2, options.layout_users // 8)
    told = personalise.Options(examples=options.examples, features=options.features, family="mlp")
    data = personalise.make(users, told)
    fit = functools.partial(personalise.together, data, told, users=users, batch=options.examples)
    widths = sorted({min(64, users), users})
    seconds = {"map": once_warm(lambda: fit(parallel=None))}
    for width in widths:
        seconds[f"vmap_{width}"] = once_warm(lambda width=width: fit(parallel=width))
        yield {"users_ms": milliseconds(seconds)}
    best = min(seconds[f"vmap_{width}"] for width in widths)
    yield {"ratio_vmap_users": seconds["map"] / best}

    family, shared, start = personalise.start_of("mlp", options.features)
    sweep = functools.partial(
        head_fits.sweep_heads, family, personalise.make(few, told),
        head_fits.product(learning_rate=np.geomspace(1e-4, 1e-2, 4 if options.smoke else SETTINGS)),
        num_users=few, shared=shared, start=start, epochs=2,
    )  # fmt: skip
    took = {over: once_warm(lambda over=over: sweep(over=over)) for over in ("map", "vmap")}
    yield {"sweep_ms": milliseconds(took), "ratio_vmap_settings": took["map"] / took["vmap"]}


def minilm(options: accelerator.Options) -> tuple[Any, bert.Config]:
    """(Module in bfloat16, its shape)."""
    config = bert.Config(**(TINY if options.smoke else MINILM))
    return bases.encoder(config, blocks.Compute(dtype="bfloat16")), config


def initial(module: Any) -> Any:
    """Random parameters of a base."""
    ids = jnp.zeros((1, 8), jnp.int32)
    return jax.jit(module.init)(jax.random.key(0), ids, ids, ids == 0)["params"]


def ids_of(options: accelerator.Options, config: bert.Config, shape: tuple[int, ...]) -> tokens.Tokens:
    """Random tokens, none of them padding."""
    ids = np.random.default_rng(options.seed).integers(3, config.vocab_size, shape).astype(np.int32)
    return tokens.Tokens(ids=ids, types=np.zeros_like(ids), mask=np.ones(shape, bool))


def copying(options: accelerator.Options) -> float:
    """Bytes a second, read or written, of a large array that is changed in place."""
    x = jnp.zeros(2**20 if options.smoke else 2**28, jnp.float32)
    size = x.nbytes
    return 2 * size / pace(chained(jax.jit(lambda x, one: (x + one, one), donate_argnums=0), x, jnp.ones(())))


def chained(update: Callable[[Any, Any], tuple[Any, Any]], state: Any, batch: Any) -> Callable[[], Any]:
    """One call after another of `update(state, batch) -> (state, ...)`, each on the state of the one before."""

    def run() -> Any:
        nonlocal state
        state, _ = update(state, batch)
        return state

    return run


def running(bank: heads.Bank, batches: list[Any]) -> Callable[[], Any]:
    """A bank's steps over these batches, again and again, not waited for."""
    following = itertools.cycle(batches)

    def run() -> Any:
        bank.state, _ = bank.update(bank.state, next(following))
        return bank.state

    return run


def pace(run: Callable[[], Any], wait: Callable[[Any], Any] = jax.block_until_ready) -> float:
    """Seconds of a call where calls follow each other without waiting: the median of some laps."""
    wait(run())  # compiled here
    once = lap(run, wait, 1)
    # On fake devices collectives of two calls can each have the threads that the other waits for.
    calls = 1 if jax.default_backend() == "cpu" else int(np.clip(LAP / once, 1, 200))
    return float(np.median([lap(run, wait, calls) for _ in range(LAPS)]))


def lap(run: Callable[[], Any], wait: Callable[[Any], Any], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        out = run()
    wait(out)
    return (time.perf_counter() - start) / calls


def taking_turns(contenders: dict[str, Callable[[], Any]], *, wait: Any = None) -> dict[str, float]:
    """`pace` of each, three times in turn: medians."""
    waits = dict.fromkeys(contenders, jax.block_until_ready) | (wait or {})
    taken = [{name: pace(run, waits[name]) for name, run in contenders.items()} for _ in range(3)]
    return {name: float(np.median([one[name] for one in taken])) for name in contenders}


def once_warm(run: Callable[[], Any]) -> float:
    """Seconds of the second call."""
    return [lap(run, lambda out: out, 1) for _ in range(2)][1]


def milliseconds(seconds: dict[str, float]) -> dict[str, float]:
    return {name: 1e3 * value for name, value in seconds.items()}


def memory() -> float:
    """Bytes that arrays may take on one device."""
    stats = jax.devices()[0].memory_stats() or {}
    return stats.get("bytes_limit") or psutil.virtual_memory().available


def fitting(needed: float) -> None:
    """Raises a MemoryError where so many bytes do not fit: a processor would swap, and not fail."""
    if needed > memory():
        raise MemoryError(f"{needed / 1e9:.1f} GB needed, {memory() / 1e9:.1f} there")


def in_use() -> dict[str, float]:
    """Gigabytes now and at most, where the device says so."""
    stats = jax.devices()[0].memory_stats() or {}
    names = {"now_gb": "bytes_in_use", "peak_gb": "peak_bytes_in_use"}
    return {name: stats[key] / 1e9 for name, key in names.items() if key in stats}


def planned(bank: heads.Bank) -> float:
    """Bytes that the compiler has planned for what lies between; -1: it does not say."""
    return getattr(bank.update.memory_analysis(), "temp_size_in_bytes", -1.0)


def sentence(error: BaseException) -> str:
    """The first line of what went wrong."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0] if said else 'no word'}"[: accelerator.TOLD]


def main(part: str, told: str) -> None:
    """Prints what a part finds."""
    # The steps of a million heads need most of the device; PyTorch, which is compared with, needs some as well.
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9")
    given = json.loads(told)
    options = accelerator.Options(**given | {name: tuple(given[name]) for name in ("parts", "step_users")})
    measures = {"device": device, "million": million, "joint": joint, "gathered": gathered, "fits": fits,
                "encoder": encoder, "layouts": layouts}  # fmt: skip
    found: dict[str, Any] = {}
    try:
        for more in measures[part](options):
            found |= more
            print(json.dumps(found), flush=True)
    except Exception as error:  # whatever it is: the other parts go on
        print(json.dumps(found | {"left_out": sentence(error)}), flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
