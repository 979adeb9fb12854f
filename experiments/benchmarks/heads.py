"""The gathered step: its time against the size of the bank, against PyTorch, and against the machine.

Source    64 users drawn at random, 20 examples of 384 features each (`mlp` against the one-hot form: 64 examples of
          768 features), random numbers; base and shared parameters frozen, as in personalisation; AdamW with a clip
          per user. Times are medians, the contenders of a comparison taking turns.
Command   python -m experiments.benchmarks heads [--json] [--plot FILE.html]
Expected  flatness at most 1.10 (mlp), 1.15 (low_rank_mlp), 1.25 (linear); ratio_one_hot_10 at least 2, _500 at least
          10; ratio_sparse_adam at least 1.5; floor_share at least .25, the goal is .60; ratio_in_place about 1, the
          goal is 1.25.
Cost      about 10 minutes on 2 cores, 11 GB of memory, 31 GB of disk (removed afterwards); where there is less, the
          largest banks are left out.
Needs     PyTorch for one_hot, sparse and in_place: pip install -r requirements/parity.txt (or `make test-parity`).
Smoke     python -m experiments.benchmarks heads --smoke --parts flatness        (seconds, without PyTorch)

The floor is what a step cannot avoid: the users' rows (parameters and both moments) read and written, the inputs and
what is shared read; the products of the forward and the backward pass. Its time is the longer of bytes over the
measured rate of copying and operations over the measured rate of a large product, as if the two overlapped fully.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import psutil

from experiments.benchmarks import _benchmark, _heads_ragged, _heads_shards
from hydrajax.nn import heads as families
from hydrajax.nn import scorer as scorers
from hydrajax.training import losses, optimizers, step
from hydrajax.training import state as states
from hydrajax.training.examples import Batch

Part = Literal["flatness", "sparse", "in_place", "one_hot", "ragged", "shards"]
USERS, EXAMPLES, D = 64, 20, 384
BANKS = {
    "mlp": (100, 1_000, 4_000),
    "low_rank_mlp": (10_000, 100_000),
    "linear": (10_000, 100_000, 1_000_000),
    "simplex": (10_000, 100_000, 1_000_000),
}
COMPARED = {"linear": 300_000, "low_rank_mlp": 10_000, "mlp": 1_000}
ROUNDS = {"mlp": 20, "low_rank_mlp": 30, "linear": 60, "simplex": 60}  # turns
ONE_HOT = (10, 100, 500)
TITLE = "Time of a step over its time with the smallest bank, against log10 of the users in the bank"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(_benchmark.Compared):
    """The gathered step against the size of the bank, PyTorch, and the machine."""

    parts: tuple[Part, ...] = get_args(Part)
    """Which parts."""
    seed: int = 0
    """Of features and of who is in a step."""

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
    options: Any,
    capacity: int,
    users: int = USERS,
    examples: int | None = None,
    d: int | None = None,
    count: int | None = None,
) -> list[Batch]:
    """Batches on the device, together more than a processor's cache; users are drawn at random from the bank."""
    rng = np.random.default_rng(options.seed)
    made = []
    for _ in range(count or (4 if options.smoke else 32)):
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


def floor(machine: _benchmark.Machine, name: str, row: int, seconds: Mapping[str, float]) -> dict[str, float]:
    """Bytes and operations of a step, and the shortest seconds for them."""
    n = USERS * EXAMPLES
    width = {"mlp": 2 * D, "low_rank_mlp": D + 5 * 8, "linear": 2, "simplex": 2 * 16}[name]
    shared = {"low_rank_mlp": 4 * (D * D + D), "simplex": 4 * (D + 1) * 16}.get(name, 0)
    moved = 2 * USERS * row + 4 * n * D + shared
    operations = 2 * n * D * width
    return {
        "bytes": moved,
        "operations": operations,
        "copying": machine.copying(moved, seconds),
        "multiplying": machine.multiplying(operations, seconds),
    }


def flatness(options: Options) -> dict[str, Any]:
    """Time against the size of the bank, and against the floor."""
    found: dict[str, Any] = {"step_ms": {}, "floor": {}, "bytes_per_user": {}, "left_out": []}
    machine = _benchmark.Machine(options.smoke)
    curves = {}
    for name, sizes in BANKS.items():
        head = jax.eval_shape(
            lambda name=name: families.get(name).init_user(jax.random.key(0), families.Dims(features=D))
        )
        row = 12 * sum(leaf.size for leaf in jax.tree.leaves(head))
        made = {size: batches(options, options.users(size)) for size in sizes}
        banks: dict[int, Bank] = {}
        for size in sizes:
            if row * options.users(size) + 1e9 > psutil.virtual_memory().available:
                found["left_out"].append(f"{name} {size}")
            else:
                banks[size] = Bank(name, options.users(size), made[size][0])
        small = sizes[1] if name == "mlp" else sizes[0]
        half = Bank(name, options.users(small), made[small][0], "bfloat16")
        steps = {str(size): _benchmark.over(bank, zip(made[size])) for size, bank in banks.items()}
        steps["bfloat16"] = _benchmark.over(half, zip(made[small]))
        machines = {"copy": machine.copy, "multiply": machine.multiply}
        seconds = _benchmark.turns(steps | machines, options.rounds(ROUNDS[name]))
        found["step_ms"][name] = _benchmark.milliseconds({key: seconds[key] for key in steps})
        times = {size: seconds[str(size)] / seconds[str(min(banks))] for size in banks}
        curves[name] = [(float(np.log10(size)), ratio) for size, ratio in times.items()]
        largest = max(banks)
        row = banks[largest].row_bytes()
        found["bytes_per_user"][name] = {"float32": row, "bfloat16": half.row_bytes()}
        # A ratio that could not be measured is not kept either.
        found[f"flatness_{name}"] = times[largest] if len(banks) == len(sizes) else None
        least = floor(machine, name, row, seconds)
        share = max(least["copying"], least["multiplying"]) / seconds[str(largest)]
        found["floor"][name] = least | {"share": share}
        del banks, half, steps
    options.draw(TITLE, curves)
    found["floor_share"] = _benchmark.mean_ratio(of["share"] for of in found["floor"].values())
    return found


def sparse(options: Options) -> dict[str, Any]:
    """Against the two forms that a competent PyTorch user writes, each with one thread and with all."""
    from experiments.benchmarks import _heads_torch

    # `differences` are those of the heads after three updates, over how far the updates moved them.
    found: dict[str, Any] = {"step_ms": {}, "ratios": {}, "differences": {}}
    for name, size in COMPARED.items():
        capacity = options.users(size)
        made = batches(options, capacity)
        bank = Bank(name, capacity, made[0])
        start = _flat(bank, np.arange(capacity))
        tensors = [_heads_torch.tensors(batch.rows, batch.x, batch.targets.label) for batch in made]
        sparse_form = _heads_torch.Sparse(name, start, bank.state.shared)
        functional = _heads_torch.Functional(name, start, bank.state.shared)

        # The same updates from the same heads: they must agree before their times are compared.
        rows = np.asarray(made[0].rows)
        start = start[rows]
        for _ in range(3):
            bank(made[0])
            functional.step(*tensors[0])
        theirs = functional.bank.numpy()[rows]
        away = np.linalg.norm(_flat(bank, rows) - theirs) / np.linalg.norm(theirs - start)
        found["differences"][name] = float(away)

        contenders = {"ours": _benchmark.over(bank, zip(made))}
        for kind, form in (("sparse", sparse_form), ("functional", functional)):
            for count in sorted({1, _benchmark.CORES}):
                contenders[f"{kind}_{count}"] = _benchmark.over(_heads_torch.with_threads(count, form.step), tensors)
        seconds = _benchmark.turns(contenders, options.rounds(ROUNDS[name] // 2))
        found["step_ms"][name] = _benchmark.milliseconds(seconds)
        found["ratios"][name] = min(v for k, v in seconds.items() if k != "ours") / seconds["ours"]
        del bank, sparse_form, functional, contenders
    found["ratio_sparse_adam"] = _benchmark.mean_ratio(found["ratios"].values())
    found["difference"] = max(found["differences"].values())
    return found


def in_place(options: Options) -> dict[str, Any]:
    """`mlp` against PyTorch that copies nothing, with one thread, two and all; ours with both types of moments."""
    from experiments.benchmarks import _heads_torch

    capacity = options.users(COMPARED["mlp"])
    made = batches(options, capacity)
    bank, half = Bank("mlp", capacity, made[0]), Bank("mlp", capacity, made[0], "bfloat16")
    machine = _benchmark.Machine(options.smoke)
    start = _flat(bank, np.arange(capacity))
    form = _heads_torch.InPlace(start, D)
    tensors = [_heads_torch.tensors(batch.rows, batch.x, batch.targets.label) for batch in made]
    for batch, other in zip(made[:3], tensors, strict=False):
        bank(batch)
        form.step(*other)
    seen = np.unique(np.concatenate([batch.rows for batch in made[:3]]))
    theirs = form.bank.numpy()[seen]
    away = np.linalg.norm(_flat(bank, seen) - theirs) / np.linalg.norm(theirs - start[seen])
    del start
    contenders = {"ours": _benchmark.over(bank, zip(made)), "ours_bfloat16": _benchmark.over(half, zip(made))}
    for count in sorted({1, 2, _benchmark.CORES}):
        contenders[f"in_place_{count}"] = _benchmark.over(_heads_torch.with_threads(count, form.step), tensors)
    seconds = _benchmark.timed(contenders | {"copy": machine.copy}, options.rounds(ROUNDS["mlp"] // 2))
    found: dict[str, Any] = {"difference_in_place": float(away)}
    for kind in _benchmark.Seconds._fields:
        took = {name: getattr(of, kind) for name, of in seconds.items()}
        best = min(took[name] for name in contenders if name.startswith("in_place"))
        # Rows and inputs at the rate of a plain copy.
        took["copy"] = machine.copying(2 * USERS * bank.row_bytes() + made[0].x.nbytes, took)
        found[f"{kind}_ms"] = _benchmark.milliseconds(took)
        ending = "" if kind == "wall" else f"_{kind}"
        found[f"ratio_in_place{ending}"] = best / took["ours"]
        found[f"ratio_in_place_bfloat16{ending}"] = best / took["ours_bfloat16"]
    return found


def one_hot(options: Options) -> dict[str, Any]:
    """Against one-hot masks times stacked heads and a dense AdamW; batches of 64 examples."""
    from experiments.benchmarks import _heads_torch

    d = 64 if options.smoke else 768
    found: dict[str, Any] = {"step_ms": {}}
    for count in ONE_HOT:
        users = min(count, USERS)
        made = batches(options, count, users, -(-USERS // users), d)
        tensors = []
        for i, batch in enumerate(made):
            # 64 examples in all: the last slots of some users are padding.
            mask = (np.arange(batch.x.shape[1] * users) < USERS).reshape(-1, users).T
            made[i] = batch.replace(targets=batch.targets.replace(mask=jnp.asarray(mask)))
            user = np.repeat(np.asarray(batch.rows)[:, None], batch.x.shape[1], 1)
            tensors.append(_heads_torch.tensors(user[mask], batch.x[mask], batch.targets.label[mask]))
        bank, dense = Bank("mlp", count, made[0], d=d), _heads_torch.Dense(count, d)
        contenders = {
            "ours": _benchmark.over(bank, zip(made)),
            "one_hot": _benchmark.over(_heads_torch.with_threads(_benchmark.CORES, dense.step), tensors),
        }
        seconds = _benchmark.turns(contenders, options.rounds(2 if count > 100 else 4))
        found["step_ms"][str(count)] = _benchmark.milliseconds(seconds)
        found[f"ratio_one_hot_{count}"] = seconds["one_hot"] / seconds["ours"]
        del bank, dense, contenders
    return found


def ragged(options: Options) -> dict[str, Any]:
    """Users with 1 to 500 examples: padding by bucket against sorted rows and `jax.lax.ragged_dot`."""
    users, d = (8, 32) if options.smoke else (USERS, D)
    return _heads_ragged.measure(users, d, rounds=options.rounds(3))


def larger_than_memory(options: Options) -> dict[str, Any]:
    """`low_rank_mlp` heads in files of 31 GB, against a bank that is in memory."""
    inside = options.users(20_000)
    bank = Bank("low_rank_mlp", inside, batches(options, inside)[0])

    def made(users: int, seed: int) -> list[Batch]:
        return jax.device_get(batches(dataclasses.replace(options, seed=seed), users))

    steps = 4 if options.smoke else 32
    return _heads_shards.measure(bank, made, users=options.users(400_000), steps=steps, turns=options.rounds(4))


def _flat(bank: Bank, rows: np.ndarray) -> np.ndarray:
    """The heads of these rows of the bank, [U, P]."""
    leaves = jax.tree.leaves(bank.state.bank)
    return np.concatenate([np.asarray(leaf)[rows].reshape(len(rows), -1) for leaf in leaves], axis=1)


main = _benchmark.Benchmark(
    parts={
        "flatness": flatness,
        "sparse": sparse,
        "in_place": in_place,
        "one_hot": one_hot,
        "ragged": ragged,
        "shards": larger_than_memory,
    },
    figures=("flatness_", "ratio_", "floor_share"),
    least={
        "floor_share": 0.25,
        "ratio_sparse_adam": 1.5,
        "ratio_one_hot_10": 2,
        "ratio_one_hot_500": 10,
        "ratio_ragged": 1,
        "ratio_longest": 1,
    },
    most={
        "flatness_mlp": 1.10,
        "flatness_low_rank_mlp": 1.15,
        "flatness_linear": 1.25,
        "flatness_simplex": 1.25,
        "difference": 1e-2,
        "difference_in_place": 1e-4,
    },
    torch=("sparse", "in_place", "one_hot"),
)
