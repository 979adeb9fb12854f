"""The gathered step: its time against the size of the bank, against PyTorch, and against the machine.

Source    64 users drawn at random, 20 examples of 384 features each (`mlp` against the one-hot form: 64 examples of
          768 features), random numbers; base and shared parameters frozen, as in personalisation; AdamW with a clip
          per user. Times are medians, the contenders of a comparison taking turns.
Command   python -m experiments.benchmarks heads [--json] [--plot FILE.html]
Expected  flatness at most 1.10 (mlp), 1.15 (low_rank_mlp), 1.25 (linear); ratio_one_hot_10 at least 2, _500 at least
          10; ratio_sparse_adam at least 1.5; floor_share at least .25, the goal is .60.
Cost      about 10 minutes on 2 cores, 11 GB of memory, 31 GB of disk (removed afterwards); where there is less, the
          largest banks are left out.
Needs     PyTorch for the parts one_hot and sparse: pip install -r requirements/parity.txt (or `make test-parity`).
Smoke     python -m experiments.benchmarks heads --smoke --parts flatness        (seconds, without PyTorch)

The floor is what a step cannot avoid: the users' rows (parameters and both moments) read and written, the inputs and
what is shared read; the products of the forward and the backward pass. Its time is the longer of bytes over the
measured rate of copying and operations over the measured rate of a large product, as if the two overlapped fully.
"""

import contextlib
import dataclasses
import importlib.util
import os
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import psutil
import tyro

from experiments.benchmarks import _heads_ragged, _heads_shards, _machine
from hydrajax.evaluation import markup
from hydrajax.evaluation.report import parts, plots
from hydrajax.nn import heads as families
from hydrajax.nn import scorer as scorers
from hydrajax.training import losses, optimizers, step
from hydrajax.training import state as states
from hydrajax.training.examples import Batch

Part = Literal["flatness", "one_hot", "sparse", "ragged", "shards"]
USERS, EXAMPLES, D = 64, 20, 384
BANKS = {
    "mlp": (100, 1_000, 4_000),
    "low_rank_mlp": (10_000, 100_000),
    "linear": (10_000, 100_000, 1_000_000),
    "simplex": (10_000, 100_000, 1_000_000),
}
COMPARED = {"linear": 300_000, "low_rank_mlp": 10_000, "mlp": 1_000}
ROUNDS = {"mlp": 20, "low_rank_mlp": 30, "linear": 60, "simplex": 60}  # turns
LIMITS = {"mlp": 1.10, "low_rank_mlp": 1.15, "linear": 1.25, "simplex": 1.25}
KEYS = {
    "mlp": "flatness_mlp_1e2_to_4e3",
    "low_rank_mlp": "flatness_low_rank_1e4_to_1e5",
    "linear": "flatness_linear_1e4_to_1e6",
    "simplex": "flatness_simplex_1e4_to_1e6",
}
ONE_HOT = (10, 100, 500)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The gathered step against the size of the bank, PyTorch, and the machine."""

    parts: tuple[Part, ...] = ("flatness", "sparse", "one_hot", "ragged", "shards")
    """Which parts."""
    smoke: bool = False
    """Tiny banks and few rounds: whether it runs, not how fast."""
    plot: pathlib.Path | None = None
    """An HTML file for the curves."""
    seed: int = 0
    """Of features and of who is in a step."""
    json: bool = False
    """Print one JSON object as the last line."""

    def rounds(self, count: int) -> int:
        """How often contenders take turns."""
        return 1 if self.smoke else count

    def users(self, count: int) -> int:
        """The size of a bank."""
        return max(USERS, count // 1000) if self.smoke else count


class Bank:
    """A bank that learns: the state before the next step, and the compiled step."""

    def __init__(self, name: str, users: int, like: Batch, moments: str = "float32", d: int | None = None):
        settings = {"dropout": 0.0} if "mlp" in name else {}
        self.scorer = scorers.Scorer(family=families.get(name, **settings), dims=families.Dims(features=d or D))
        # Nobody's gradient is that long: the clip is computed, and the results can be compared with PyTorch's.
        self.tx = tx = optimizers.adamw(1e-3, 1e-2, clip=1e6, moments=moments)
        head = self.scorer.family.init_user(jax.random.key(1), self.scorer.dims)
        state = states.init_state(self.scorer, None, tx, num_users=users, key=jax.random.key(0), head=head)
        self.state = state.replace(anchor=jax.tree.map(jnp.zeros_like, state.anchor))
        update = jax.jit(step.make_train_step(self.scorer, None, tx), donate_argnums=0)
        self.update = update.lower(self.state, like).compile()
        self.users = users

    def __call__(self, batch: Batch) -> None:
        """One update, waited for."""
        self.state, _ = self.update(self.state, batch)
        jax.block_until_ready(self.state)

    def row_bytes(self) -> int:
        """Of one user: parameters and optimizer state."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves((self.state.bank, self.state.bank_opt))) // self.users


def batches(
    options: Options, capacity: int, users: int = USERS, examples: int | None = None, d: int | None = None
) -> list[Any]:
    """Batches on the device, together more than a processor's cache; users are drawn at random from the bank."""
    rng = np.random.default_rng(options.seed)
    made = []
    for _ in range(4 if options.smoke else 32):
        shape = (users, examples or EXAMPLES)
        label = (rng.random(shape) < 0.5).astype(np.float32)
        pool = np.zeros(shape, np.int32)
        made.append(
            Batch(
                rows=rng.choice(capacity, users, replace=False).astype(np.int32),
                x=rng.standard_normal((*shape, d or D), np.float32),
                extras=np.zeros((*shape, 0), np.float32),
                targets=losses.Targets(label=label, score=label, pool=pool, mask=np.ones(shape, bool)),
                pull=np.zeros(users, np.float32),
            )
        )
    return jax.device_put(made)


def floor(machine: _machine.Machine, name: str, row: int, seconds: Mapping[str, float]) -> dict[str, float]:
    """Bytes and operations of a step, and the shortest time for them."""
    n = USERS * EXAMPLES
    width = {"mlp": 2 * D, "low_rank_mlp": D + 5 * 8, "linear": 2, "simplex": 2 * 16}[name]
    shared = {"low_rank_mlp": 4 * (D * D + D), "simplex": 4 * (D + 1) * 16}.get(name, 0)
    moved = 2 * USERS * row + 4 * n * D + shared
    operations = 2 * n * D * width
    copying = moved / (2 * machine.source.nbytes / seconds["copy"])
    multiplying = operations / (2 * machine.size**3 / seconds["multiply"])
    return {"bytes": moved, "operations": operations, "copying": copying, "multiplying": multiplying}


def flatness(options: Options) -> dict[str, Any]:
    """Time against the size of the bank, and against the floor."""
    found: dict[str, Any] = {"step_ms": {}, "floor": {}, "bytes_per_user": {}, "left_out": []}
    machine, rates, shares = _machine.Machine(options.smoke), [], {}
    for name, sizes in BANKS.items():
        made = {size: batches(options, options.users(size)) for size in sizes}
        banks: dict[str, Bank] = {}
        for size in sizes:
            row = 12 * sum(leaf.size for leaf in jax.tree.leaves(_head(name)))
            if row * options.users(size) + 1e9 > psutil.virtual_memory().available:
                found["left_out"].append(f"{name} {size}")
                continue
            banks[str(size)] = Bank(name, options.users(size), made[size][0])
        small = sizes[1] if name == "mlp" else sizes[0]
        half = Bank(name, options.users(small), made[small][0], "bfloat16")

        def run(bank: Bank, made: list[Any]) -> Callable[[int], None]:
            return lambda i: bank(made[i % len(made)])

        contenders = {size: run(bank, made[int(size)]) for size, bank in banks.items()}
        contenders |= {"bfloat16": run(half, made[small]), "copy": machine.copy, "multiply": machine.multiply}
        seconds = _machine.turns(contenders, options.rounds(ROUNDS[name]))
        found["step_ms"][name] = {key: _ms(seconds[key]) for key in (*banks, "bfloat16")}
        largest = max(banks, key=int)
        found["bytes_per_user"][name] = {"float32": banks[largest].row_bytes(), "bfloat16": half.row_bytes()}
        whole = len(banks) == len(sizes)
        found[KEYS[name]] = round(seconds[largest] / seconds[min(banks, key=int)], 3) if whole else None
        least = floor(machine, name, banks[largest].row_bytes(), seconds)
        share = max(least["copying"], least["multiplying"]) / seconds[largest]
        shares[name] = (share, (least["copying"] + least["multiplying"]) / seconds[largest])
        found["floor"][name] = {
            "megabytes": round(least["bytes"] / 1e6, 2),
            "megaoperations": round(least["operations"] / 1e6, 1),
            "copying_ms": _ms(least["copying"]),
            "multiplying_ms": _ms(least["multiplying"]),
            "share": round(share, 3),
        }
        rates.append((2 * machine.source.nbytes / seconds["copy"], 2 * machine.size**3 / seconds["multiply"]))
        del banks, half, contenders
    found["copied_gb_per_second"], found["gflops"] = (round(float(r) / 1e9, 1) for r in np.median(rates, axis=0))
    found["floor_share"] = _mean([share for share, _ in shares.values()])
    # As if nothing overlapped: what one core after another would need.
    found["floor_share_in_turn"] = _mean([share for _, share in shares.values()])
    # A ratio that could not be measured is not kept either.
    kept = {name: found[key] is not None and found[key] <= LIMITS[name] for name, key in KEYS.items()}
    found["checks"] = {f"{name} within {LIMITS[name]}": held for name, held in kept.items()}
    found["checks"]["a quarter of the floor"] = found["floor_share"] >= 0.25
    return found


def sparse(options: Options) -> dict[str, Any]:
    """Against the two forms that a competent PyTorch user writes, each with one thread and with all."""
    other = _torch()
    # `difference` is that of the heads after three updates, over how far the updates moved them.
    found: dict[str, Any] = {"step_ms": {}, "ratios": {}, "difference": {}}
    for name, size in COMPARED.items():
        capacity = options.users(size)
        made = batches(options, capacity)
        bank = Bank(name, capacity, made[0])
        start = np.concatenate([np.asarray(leaf).reshape(capacity, -1) for leaf in jax.tree.leaves(bank.state.bank)], 1)
        plain = [_tensors(batch) for batch in made]
        forms = {
            kind.__name__.lower(): kind(name, start, bank.state.shared) for kind in (other.Sparse, other.Functional)
        }
        start = start[np.asarray(made[0].rows)]

        def torch_step(form: Any, count: int, plain: list[Any]) -> Callable[[int], None]:
            def run(i: int) -> None:
                other.threads(count)
                form.step(*plain[i % len(plain)])

            return run

        # The same updates from the same heads: they must agree before their times are compared.
        rows = np.asarray(made[0].rows)
        for _ in range(3):
            bank(made[0])
            forms["functional"].step(*plain[0])
        ours = [np.asarray(leaf)[rows].reshape(len(rows), -1) for leaf in jax.tree.leaves(bank.state.bank)]
        theirs = forms["functional"].bank.numpy()[rows]
        away = np.linalg.norm(np.concatenate(ours, 1) - theirs) / np.linalg.norm(theirs - start)
        found["difference"][name] = float(away)
        del start, ours, theirs

        contenders = {"ours": lambda i, bank=bank, made=made: bank(made[i % len(made)])}
        for kind, form in forms.items():
            for count in sorted({1, os.cpu_count() or 1}):
                contenders[f"{kind}_{count}"] = torch_step(form, count, plain)
        seconds = _machine.turns(contenders, options.rounds(ROUNDS[name] // 2))
        found["step_ms"][name] = {key: _ms(value) for key, value in seconds.items()}
        found["ratios"][name] = round(min(v for k, v in seconds.items() if k != "ours") / seconds["ours"], 2)
        del bank, forms, contenders
    found["ratio_sparse_adam"] = _mean(list(found["ratios"].values()))
    found["checks"] = {
        "1.5 times the fastest PyTorch form": found["ratio_sparse_adam"] >= 1.5,
        "the same heads as PyTorch's": max(found["difference"].values()) < 1e-2,
    }
    return found


def one_hot(options: Options) -> dict[str, Any]:
    """Against one-hot masks times stacked heads and a dense AdamW; batches of 64 examples."""
    other = _torch()
    other.threads(os.cpu_count() or 1)
    d = 64 if options.smoke else 768
    found: dict[str, Any] = {"step_ms": {}}
    memory: dict[str, float] = {}
    for count in ONE_HOT:
        users = min(count, USERS)
        made = batches(options, count, users, -(-USERS // users), d)
        plain = []
        for i, batch in enumerate(made):
            # 64 examples in all: the last slots of some users are padding.
            mask = (np.arange(batch.x.shape[1] * users) < USERS).reshape(-1, users).T
            made[i] = batch.replace(targets=batch.targets.replace(mask=jnp.asarray(mask)))
            rows, x, label = (np.array(leaf) for leaf in (batch.rows, batch.x, batch.targets.label))
            user = np.repeat(rows[:, None], x.shape[1], 1)
            plain.append(_tensors_of(user[mask], x[mask], label[mask]))
        before = _resident()
        bank = Bank("mlp", count, made[0], d=d)
        bank(made[0])
        between = _resident()
        dense = other.Dense(count, d)
        dense.step(*plain[0])
        memory = {"ours": (between - before) / count, "one_hot": (_resident() - between) / count}
        contenders = {
            "ours": lambda i, bank=bank, made=made: bank(made[i % len(made)]),
            "one_hot": lambda i, dense=dense, plain=plain: dense.step(*plain[i % len(plain)]),
        }
        seconds = _machine.turns(contenders, options.rounds(2 if count > 100 else 4))
        found["step_ms"][str(count)] = {key: _ms(value) for key, value in seconds.items()}
        found[f"ratio_one_hot_{count}"] = round(seconds["one_hot"] / seconds["ours"], 2)
        del bank, dense, contenders
    total = psutil.virtual_memory().total
    # Measured on the largest bank, where what both need beside the bank weighs least.
    found["bytes_per_user"] = {name: round(value) for name, value in memory.items()}
    found["largest_bank"] = {name: int(total / max(1.0, value)) for name, value in memory.items()}
    found["memory_bytes"] = total
    found["checks"] = {
        "twice as fast with 10 users": found["ratio_one_hot_10"] >= 2,
        "ten times with 500": found["ratio_one_hot_500"] >= 10,
    }
    return found


def ragged(options: Options) -> dict[str, Any]:
    """Users with 1 to 500 examples: padding by bucket against sorted rows and `jax.lax.ragged_dot`."""
    users, d = (8, 32) if options.smoke else (USERS, D)
    found = _heads_ragged.measure(users, d, lambda ways: _machine.turns(ways, options.rounds(3)))
    checks = {
        "buckets are the fastest": min(found["ratio_ragged"], found["ratio_longest"]) >= 1.0,
        "the same gradients": found["difference"] < 1e-2,
    }
    return found | {"checks": checks}


def larger_than_memory(options: Options) -> dict[str, Any]:
    """`low_rank_mlp` heads in files of 31 GB, against a bank that is in memory."""
    inside = options.users(20_000)
    like = batches(options, inside)
    held = Bank("low_rank_mlp", inside, like[0])
    found = _heads_shards.measure(
        held.scorer,
        held.tx,
        held.update,
        held.state,
        lambda users, seed: jax.device_get(batches(dataclasses.replace(options, seed=seed), users)),
        users=options.users(400_000),
        steps=4 if options.smoke else 32,
        turns=options.rounds(4),
    )
    return found | {"checks": {}}


def page(found: Mapping[str, Any]) -> str:
    """An HTML page with the curves: time over time of the smallest bank, against log10 of the users."""
    curves = {}
    for name, times in found["step_ms"].items():
        sizes = sorted(int(key) for key in times if key.isdigit())
        curves[name] = [(float(np.log10(size)), times[str(size)] / times[str(sizes[0])]) for size in sizes]
    title = "Time of a step over its time with the smallest bank, against log10 of the users in the bank"
    heading = markup.element("h1", "The gathered step")
    return parts.page("The gathered step", heading, markup.element("p", title), plots.lines(curves, title))


PARTS = {"flatness": flatness, "one_hot": one_hot, "sparse": sparse, "ragged": ragged, "shards": larger_than_memory}


def main(options: Options) -> None:
    """Measures, prints tables, and exits with 1 where a check is false."""
    if set(options.parts) & {"one_hot", "sparse"} and importlib.util.find_spec("torch") is None:
        sys.exit("the parts one_hot and sparse need PyTorch: pip install -r requirements/parity.txt")
    found: dict[str, Any] = {}
    for part in options.parts:
        found[part] = PARTS[part](options)
        _machine.show(part, found[part])
    if options.plot is not None and "flatness" in found:
        options.plot.write_text(page(found["flatness"]))
    _machine.end(found, ("flatness_", "ratio_", "floor_share"), as_json=options.json, smoke=options.smoke)


def _head(name: str) -> Any:
    return jax.eval_shape(lambda: families.get(name).init_user(jax.random.key(0), families.Dims(features=D)))


def _torch() -> Any:
    from experiments.benchmarks import _heads_torch

    return _heads_torch


def _tensors(batch: Batch) -> Any:
    return _tensors_of(*(np.array(leaf) for leaf in (batch.rows, batch.x, batch.targets.label)))


def _tensors_of(rows: np.ndarray, x: np.ndarray, label: np.ndarray) -> Any:
    import torch

    return torch.tensor(rows.astype(np.int64)), torch.tensor(x), torch.tensor(label)


def _resident() -> int:
    with contextlib.suppress(AttributeError, OSError):
        import ctypes

        ctypes.CDLL(None).malloc_trim(0)  # glibc keeps freed memory, which is nobody's
    return psutil.Process().memory_info().rss


def _mean(values: list[float]) -> float:
    return round(float(np.exp(np.mean(np.log(values)))), 3)


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 3)


if __name__ == "__main__":
    main(tyro.cli(Options))
