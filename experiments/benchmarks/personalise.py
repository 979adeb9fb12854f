"""Heads for many new users on cached features: seconds a user, against a loop over users, sweeps in one program, and
one linear head on everybody's pairs.

Source    random features of 384 numbers; nothing is learned from them but how long it takes. Encoding is timed on
          pairs of random words of random length through the default base, on some users, and scaled to all.
Command   python -m experiments.benchmarks personalise [--json] [--plot FILE.html]
Expected  at most .002 s a user for two epochs over 100 examples (`mlp`), on two idle cores; at least twice as fast as
          the loop; 64 settings in at most half the time of 64 warm fits for `linear` and `simplex`, and in no more
          for `mlp`; one compilation; the linear head in no more than scikit-learn's time, exact in both, and seven
          ridges in three times that of one.
Cost      about 5 minutes on 2 cores; nothing in money.
Smoke     python -m experiments.benchmarks personalise --parts fits sweeps pairs --users 8 --repeats 1
          --settings 4 --features 8 --pools 40                                           (seconds)
"""

import dataclasses
import functools
import random
import time
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import _benchmark
from hydrajax.nn import encode, heads
from hydrajax.nn import scorer as scorers
from hydrajax.training import examples as examples_
from hydrajax.training import head_fits, losses, optimizers, programs, rows, solver

Part = Literal["fits", "encoding", "sweeps", "pairs"]
LENGTHS = (20, 150)  # words of a pair of texts
VMAPPED = (2, 8, 16, 64)
BATCHES = (20, 25, 50, 100)
RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
SETTING = solver.Setting()
TX = optimizers.adamw(SETTING.learning_rate, SETTING.weight_decay)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(_benchmark.Drawn):
    """Personalisation of many users on cached features."""

    parts: tuple[Part, ...] = get_args(Part)
    """Which parts."""
    family: str = "mlp"
    """Of the heads that are fitted; the sweeps have their own."""
    users: int = 1000
    """New users."""
    sample: int = 256
    """Users on whom the loop and the choices that are not taken are timed."""
    examples: int = 100
    """Of each user."""
    features: int = 384
    """D."""
    epochs: int = 2
    """Passes over a user's examples."""
    batch_examples: int = 100
    """Examples in an update, of the fit that is reported."""
    settings: int = 64
    """Of the sweeps."""
    sweep_users: int = 64
    """Of the sweeps; `mlp` takes an eighth of them."""
    pools: int = 10_000
    """Of two candidates, of which one was preferred; a quarter as many of 15."""
    encoded_users: int = 4
    """Whose pairs are encoded."""
    repeats: int = 5
    """Timings of which the median is taken, interleaved."""


def make(users: int, options: Options) -> examples_.Examples:
    """Random features and labels."""
    rng = np.random.default_rng(0)
    n = users * options.examples
    label = rng.random(n) > 0.5
    return examples_.Examples(
        user=np.repeat(np.arange(users), options.examples),
        x=rng.normal(size=(n, options.features)),
        extras=np.zeros((n, 0)),
        label=label,
        score=label,
        pool=np.arange(n) // 4,
    )


@functools.cache
def start_of(name: str, features: int) -> tuple[heads.Family, Any, Any]:
    """(family, what its users share, where heads start)."""
    family, dims = heads.get(name), heads.Dims(features=features)
    made = jax.jit(lambda key: (family.init_shared(key, dims), family.init_user(key, dims)))(jax.random.key(0))
    return family, *jax.device_get(made)


def together(data: examples_.Examples, options: Options, *, users: int, batch: int, parallel: int | None) -> Any:
    """The fit of all users, `parallel` side by side."""
    family, shared, start = start_of(options.family, options.features)
    problem = solver.Problem(
        family=family,
        loss="cross_entropy",
        examples=data,
        num_users=users,
        keys=solver.checked_keys(None, users),
        shared=shared,
        anchor=start,
        epochs=(options.epochs,),
        batch_examples=batch,
    )
    return solver.solve(problem, [SETTING], parallel=parallel)


def loop(data: examples_.Examples, options: Options, *, users: int, batch: int) -> list[Any]:
    """The same updates in a Python loop: one jitted call a mini-batch, with the head's buffers donated."""
    family, shared, start = start_of(options.family, options.features)
    update = _update(family, options.features, options.examples)
    rng = np.random.default_rng(0)
    found = []
    for user in range(users):
        own = np.arange(user * options.examples, (user + 1) * options.examples)
        head = jax.tree.map(jnp.array, start)
        opt = TX.init(head)
        key = jax.random.key(user)
        for _ in range(options.epochs):
            for part in np.array_split(rng.permutation(own), -(-len(own) // batch)):
                targets = losses.Targets(
                    label=data.label[part],
                    score=data.score[part],
                    pool=data.pool[part],
                    mask=np.ones(len(part), bool),
                )
                head, opt = update(shared, start, head, opt, data.x[part], targets, key)
                key = jax.random.fold_in(key, 0)
        found.append(jax.device_get(head))
    return found


@functools.cache
def _update(family: heads.Family, features: int, examples: int) -> Any:
    offset_prior = SETTING.offset_strength / SETTING.prior_strength
    units = heads.units(family, heads.Dims(features=features)).replace(offset_prior=offset_prior)
    tx = optimizers.adamw(SETTING.learning_rate / units.step, SETTING.weight_decay)

    @functools.partial(jax.jit, donate_argnums=(2, 3))
    def update(shared, start, head, opt, x, targets, key):
        def loss(head):
            return losses.cross_entropy(scorers.logits(family, shared, head, x, key=key), targets)

        grad, weight = jax.grad(loss, has_aux=True)(head)
        pull = jnp.float32(SETTING.prior_strength / examples)
        return optimizers.update_head(tx, start, head, opt, grad, weight, pull, units=units)

    return update


def encoding(options: Options) -> dict[str, Any]:
    """Seconds a user for the features of 100 pairs of texts of random length, nothing cached."""
    base = encode.load_base()
    rng = random.Random(0)

    def pairs(count: int) -> list[tuple[str, str]]:
        return [
            tuple(" ".join(rng.choices(_benchmark.WORDS, k=rng.randint(*LENGTHS) // 2)) for _ in "ab")
            for _ in range(count)
        ]

    encode.encode_pairs(base, pairs(options.examples))  # compiles the usual lengths
    wanted = pairs(options.encoded_users * options.examples)
    start = time.perf_counter()
    encode.encode_pairs(base, wanted)
    seconds = (time.perf_counter() - start) / options.encoded_users
    return {"encoding_seconds_per_user": seconds, "scaled_from_users": options.encoded_users}


def sweeps(options: Options) -> dict[str, Any]:
    """Every family's settings in one program, over as many warm fits."""
    found: dict[str, Any] = {"families": {}}
    side = max(1, round(options.settings**0.5))
    grid = head_fits.product(learning_rate=np.geomspace(1e-4, 1e-2, side), weight_decay=np.linspace(0.0, 0.3, side))
    settings = {
        "linear": head_fits.product(prior_strength=np.geomspace(0.3, 100.0, side * side)),
        "simplex": grid,
        "mlp": grid,
    }
    for name, chosen in settings.items():
        users = max(1, options.sweep_users // (8 if name == "mlp" else 1))
        data = make(users, options)
        family, shared, start = start_of(name, options.features)
        common = {"num_users": users, "shared": shared, "start": start, "epochs": options.epochs}
        arrays = {field: getattr(data, field) for field in ("x", "user", "label")}

        def one_program(family=family, data=data, chosen=chosen, common=common):
            return head_fits.sweep_heads(family, data, chosen, **common)

        def warm_fits(family=family, arrays=arrays, chosen=chosen, common=common):
            for one in chosen:
                values = {key: value for key, value in vars(one).items() if key not in ("dropout", "offset_strength")}
                head_fits.fit_heads(family, **arrays, **common, **values)

        before = _programs(family, options)
        start_time = time.perf_counter()
        one_program()
        first = time.perf_counter() - start_time
        found[f"compilations_{name}"] = _programs(family, options) - before
        seconds = _benchmark.timed({"one": one_program, "many": warm_fits}, max(1, options.repeats // 2), calls=1)
        found[f"sweep_{name}"] = seconds["one"].wall / seconds["many"].wall
        found["families"][name] = {
            "users": users,
            "settings": len(chosen),
            "first_seconds": first,
            "seconds": seconds["one"].wall,
            "warm_fits_seconds": seconds["many"].wall,
        }
    return found


def pairs(options: Options) -> dict[str, Any]:
    """The pooled linear head under the pairwise loss, over a logistic regression on differences of features."""
    from sklearn import linear_model  # which a machine with an accelerator may lack

    found: dict[str, Any] = {}
    for size, pools in ((2, options.pools), (15, options.pools // 4)):
        x, best = _preferred(pools, size, options.features)
        label = (np.arange(size) == best[:, None]).ravel()
        data = examples_.Examples(
            user=np.zeros(len(label), int),
            x=x,
            extras=np.zeros((len(label), 0)),
            label=label,
            score=label,
            pool=np.arange(len(label)) // size,
        )
        problem = solver.Problem(
            family=heads.get("linear"),
            loss="pairwise",
            examples=data,
            num_users=1,
            keys=solver.checked_keys(None, 1),
            epochs=(1,),
            batch_examples=rows.pooled_batch(len(label)),
        )
        others = np.arange(size) != best[:, None]
        candidates = x.reshape(pools, size, -1)
        differences = (candidates[np.arange(pools), best][:, None] - candidates)[others]
        # A logistic regression needs both classes: every other difference the other way round.
        sign = np.where(np.arange(len(differences)) % 2, 1.0, -1.0).astype(np.float32)
        # Units of D^-1/2 under a prior of strength 1.
        regression = linear_model.LogisticRegression(C=1 / options.features, fit_intercept=False, max_iter=1000)
        one, several = ([dataclasses.replace(SETTING, prior_strength=s) for s in part] for part in ((1.0,), RIDGES))
        seconds = _benchmark.timed(
            {
                "one": functools.partial(solver.solve, problem, one),
                "several": functools.partial(solver.solve, problem, several),
                "scikit-learn": functools.partial(regression.fit, differences * sign[:, None], sign > 0),
            },
            max(1, options.repeats // 2),
            calls=1,
        )
        found[f"pools_of_{size}"] = {
            "pairs": len(differences),
            "cpu_seconds": seconds["one"].cpu,
            "cpu_seconds_of_seven_ridges": seconds["several"].cpu,
            "cpu_seconds_of_scikit_learn": seconds["scikit-learn"].cpu,
        }
        found[f"ratio_pairs_{size}"] = seconds["scikit-learn"].cpu / seconds["one"].cpu
        own, theirs = solver.solve(problem, one)[0][1]["w"][0, 0], regression.coef_[0]
        found[f"difference_pairs_{size}"] = float(np.abs(own - theirs).max() / np.abs(theirs).max())
    return found


def _preferred(pools: int, size: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Features [pools size, D], some of which vary more than others, and whom a noisy taste prefers, [pools]."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(pools * size, features)) * np.arange(1, features + 1) ** -0.5
    x = (x / x.std()).astype(np.float32)
    taste = x @ rng.normal(size=features).astype(np.float32) * 1.5 * features**-0.5
    return x, (taste + rng.gumbel(size=len(x))).reshape(pools, size).argmax(axis=1)


def _programs(family: heads.Family, options: Options) -> int:
    dims = heads.Dims(features=options.features)
    over = solver.layout(family, dims)
    if not isinstance(family, heads.Convex):
        return programs.gradient(family, dims, "cross_entropy", False, "float32", 1.0, None, over, None)._cache_size()
    return sum(programs.exact(family, "cross_entropy", few, over, None, None)._cache_size() for few in (True, False))


def fits(options: Options) -> dict[str, Any]:
    """A user's time by layout and examples in an update, and that of everybody by the layout that is taken."""
    sample = min(options.sample, options.users)
    data, everybody = make(sample, options), make(options.users, options)
    chosen, first = options.batch_examples, BATCHES[0]
    ways: dict[tuple[str, int], Callable[[], Any]] = {}
    for batch in sorted({*BATCHES, chosen}):
        fit = functools.partial(together, data, options, users=sample, batch=batch)
        ways["in turn", batch] = functools.partial(fit, parallel=None)
        ways["loop", batch] = functools.partial(loop, data, options, users=sample, batch=batch)
        for users in VMAPPED if batch in (first, chosen) else ():
            if users <= sample:
                ways[f"{users} side by side", batch] = functools.partial(fit, parallel=users)
    times = _benchmark.timed(ways, options.repeats, calls=1)
    fit = functools.partial(together, everybody, options, users=options.users, parallel=rows.users_in_parallel())
    taken = {batch: functools.partial(fit, batch=batch) for batch in sorted({first, chosen})}
    whole = _benchmark.timed(taken, max(1, options.repeats // 2), calls=1)
    found: dict[str, Any] = {
        "users": options.users,
        "examples": options.examples,
        "epochs": options.epochs,
        "batch_examples": chosen,
        "backend": jax.default_backend(),
        "milliseconds": {
            f"{layout}, {batch} examples an update": {"wall": 1e3 * t.wall / sample, "cpu": 1e3 * t.cpu / sample}
            for (layout, batch), t in times.items()
        },
    }
    for batch, name in ((first, f"_batch_{first}"), (chosen, "")):
        found[f"seconds_per_user{name}"] = whole[batch].wall / options.users
        found[f"cpu_seconds_per_user{name}"] = whole[batch].cpu / options.users
        found[f"ratio_loop{name}"] = times["loop", batch].wall / times["in turn", batch].wall
    options.draw(
        f"ms a user, {options.epochs} epochs over {options.examples} examples, by examples in an update",
        {
            layout: [(batch, 1e3 * t.wall / sample) for (name, batch), t in times.items() if name == layout]
            for layout in ("in turn", "loop")
        },
    )
    return found


main = _benchmark.Benchmark(parts={"fits": fits, "encoding": encoding, "sweeps": sweeps, "pairs": pairs}, figures=("",))
