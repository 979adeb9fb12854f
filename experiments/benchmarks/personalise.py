"""Heads for many new users on cached features: seconds a user, against a loop over users, and sweeps in one program.

Source    random features of 384 numbers; nothing is learned from them but how long it takes. Encoding is timed on
          pairs of random words of random length through the default base, on some users, and scaled to all.
Command   python -m experiments.benchmarks personalise [--json] [--plot FILE.html]
Expected  at most .002 s a user for two epochs over 100 examples (`mlp`), on two idle cores; at least twice as fast as
          the loop; 64 settings in at most half the time of 64 warm fits for `linear` and `simplex`, and in no more
          for `mlp`; one compilation.
Cost      about 5 minutes on 2 cores; nothing in money.
Smoke     python -m experiments.benchmarks personalise --users 8 --repeats 1 --settings 4 --features 8
          --encoded-users 0                                                              (seconds)
"""

import dataclasses
import functools
import html
import json
import pathlib
import random
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import rich.console
import rich.table
import tyro

from hydrajax.evaluation.report import plots
from hydrajax.nn import encode, heads
from hydrajax.nn import scorer as scorers
from hydrajax.training import examples as examples_
from hydrajax.training import head_fits, losses, optimizers, programs, rows

WORDS = (20, 150)  # of a pair of texts
VMAPPED = (2, 8, 16, 64)
BATCHES = (20, 25, 50, 100)
SETTING = head_fits.Setting()
TX = optimizers.adamw(SETTING.learning_rate, SETTING.weight_decay)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Personalisation of many users on cached features."""

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
    encoded_users: int = 4
    """Whose pairs are encoded; 0 leaves encoding out."""
    repeats: int = 5
    """Timings of which the median is taken, interleaved."""
    plot: pathlib.Path | None = None
    """A page with seconds a user by batch size and layout."""
    json: bool = False
    """Print one JSON object as the last line."""


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


class Seconds(NamedTuple):
    """By the clock, and of all cores together: on a machine that others use as well the second is steadier."""

    wall: float
    cpu: float


def interleaved(ways: dict[Any, Callable[[], Any]], repeats: int) -> dict[Any, Seconds]:
    """Median seconds of each way, after one run of each that compiles."""
    seconds: dict[Any, list[Seconds]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, run in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            if repeat:
                seconds[name].append(Seconds(time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: Seconds(*(statistics.median(part) for part in zip(*values, strict=True)))
        for name, values in seconds.items()
    }


@functools.cache
def parts(name: str, features: int) -> tuple[heads.Family, Any, Any]:
    """(family, what its users share, where heads start)."""
    family, dims = heads.get(name), heads.Dims(features=features)
    made = jax.jit(lambda key: (family.init_shared(key, dims), family.init_user(key, dims)))(jax.random.key(0))
    return family, *jax.device_get(made)


def together(data: examples_.Examples, options: Options, *, users: int, batch: int, parallel: int | None) -> Any:
    """The fit of all users, `parallel` side by side."""
    family, shared, start = parts(options.family, options.features)
    problem = head_fits.Problem(
        family=family,
        loss="cross_entropy",
        examples=data,
        num_users=users,
        keys=head_fits.checked_keys(None, users),
        shared=shared,
        anchor=start,
        epochs=(options.epochs,),
        batch_examples=batch,
    )
    return head_fits.solve(problem, [SETTING], parallel=parallel)


def loop(data: examples_.Examples, options: Options, *, users: int, batch: int) -> list[Any]:
    """The same updates in a Python loop: one jitted call a mini-batch, with the head's buffers donated."""
    family, shared, start = parts(options.family, options.features)
    update = _update(family, options.examples)
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
def _update(family: heads.Family, examples: int) -> Any:
    @functools.partial(jax.jit, donate_argnums=(2, 3))
    def update(shared, start, head, opt, x, targets, key):
        def loss(head):
            return losses.cross_entropy(scorers.logits(family, shared, head, x, key=key), targets)

        grad, weight = jax.grad(loss, has_aux=True)(head)
        pull = jnp.float32(SETTING.prior_strength / examples)
        return optimizers.update_head(TX, start, head, opt, grad, weight, pull)

    return update


def encoding(options: Options) -> float:
    """Seconds a user for the features of 100 pairs of texts of random length, nothing cached."""
    base = encode.load_base()
    rng = random.Random(0)
    words = "the harbour lay quiet while somebody in town counted letters that never came".split()  # noqa: SIM905

    def pairs(count: int) -> list[tuple[str, str]]:
        return [tuple(" ".join(rng.choices(words, k=rng.randint(*WORDS) // 2)) for _ in "ab") for _ in range(count)]

    encode.encode_pairs(base, pairs(options.examples))  # compiles the usual lengths
    wanted = pairs(options.encoded_users * options.examples)
    start = time.perf_counter()
    encode.encode_pairs(base, wanted)
    return (time.perf_counter() - start) / options.encoded_users


def sweeps(options: Options) -> dict[str, Any]:
    """Every family's settings in one program, over as many warm fits."""
    found: dict[str, Any] = {}
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
        family, shared, start = parts(name, options.features)
        common = {"num_users": users, "shared": shared, "start": start, "epochs": options.epochs}
        arrays = {field: getattr(data, field) for field in ("x", "user", "label")}

        def one_program(family=family, data=data, chosen=chosen, common=common):
            return head_fits.sweep_heads(family, data, chosen, **common)

        def warm_fits(family=family, arrays=arrays, chosen=chosen, common=common):
            for one in chosen:
                values = {key: value for key, value in vars(one).items() if key != "dropout"}
                head_fits.fit_heads(family, **arrays, **common, **values)

        before = _programs(family, options)
        start_time = time.perf_counter()
        one_program()
        first = time.perf_counter() - start_time
        compilations = _programs(family, options) - before
        seconds = interleaved({"one": one_program, "many": warm_fits}, max(1, options.repeats // 2))
        found[name] = {
            "users": users,
            "settings": len(chosen),
            "first_seconds": first,
            "seconds": seconds["one"].wall,
            "warm_fits_seconds": seconds["many"].wall,
            "ratio": seconds["one"].wall / seconds["many"].wall,
            "compilations": compilations,
        }
    return found


def _programs(family: heads.Family, options: Options) -> int:
    dims = heads.Dims(features=options.features)
    over = head_fits.layout(family, dims)
    if not isinstance(family, heads.Convex):
        return programs.gradient(family, dims, "cross_entropy", False, "float32", None, over)._cache_size()
    return sum(programs.exact(family, "cross_entropy", few, over)._cache_size() for few in (True, False))


def measure(options: Options) -> dict[str, Any]:
    """All figures; see the module."""
    sample = min(options.sample, options.users)
    data, everybody = make(sample, options), make(options.users, options)
    chosen = options.batch_examples
    ways: dict[Any, Callable[[], Any]] = {}
    for batch in sorted({*BATCHES, chosen}):
        fit = functools.partial(together, data, options, users=sample)
        ways["in turn", batch] = functools.partial(fit, batch=batch, parallel=None)
        ways["loop", batch] = functools.partial(loop, data, options, users=sample, batch=batch)
        if batch in (BATCHES[0], chosen):
            for users in VMAPPED:
                if users <= sample:
                    ways[f"{users} side by side", batch] = functools.partial(fit, batch=batch, parallel=users)
    timed = interleaved(ways, options.repeats)
    seconds = {name: value.wall / sample for name, value in timed.items()}
    whole = interleaved(
        {
            batch: functools.partial(
                together,
                everybody,
                options,
                users=options.users,
                batch=batch,
                parallel=rows.users_in_parallel(),
            )
            for batch in sorted({BATCHES[0], chosen})
        },
        max(1, options.repeats // 2),
    )
    found: dict[str, Any] = {
        "users": options.users,
        "examples": options.examples,
        "epochs": options.epochs,
        "batch_examples": chosen,
        "backend": jax.default_backend(),
        "seconds_per_user": whole[chosen].wall / options.users,
        "cpu_seconds_per_user": whole[chosen].cpu / options.users,
        f"seconds_per_user_batch_{BATCHES[0]}": whole[BATCHES[0]].wall / options.users,
        f"cpu_seconds_per_user_batch_{BATCHES[0]}": whole[BATCHES[0]].cpu / options.users,
        "ratio_loop": seconds["loop", chosen] / seconds["in turn", chosen],
        f"ratio_loop_batch_{BATCHES[0]}": seconds["loop", BATCHES[0]] / seconds["in turn", BATCHES[0]],
        "layouts": [
            {
                "layout": layout,
                "batch": batch,
                "seconds_per_user": value.wall / sample,
                "cpu_seconds_per_user": value.cpu / sample,
            }
            for (layout, batch), value in timed.items()
        ],
    }
    if options.encoded_users:
        cost = encoding(options)
        found["encoding_seconds_per_user"] = cost
        found["encoding_scaled_from_users"] = options.encoded_users
        found["seconds_per_user_with_encoding"] = found["seconds_per_user"] + cost
        found["ratio_loop_with_encoding"] = (seconds["loop", chosen] + cost) / (seconds["in turn", chosen] + cost)
    found["sweeps"] = sweeps(options)
    for name, values in found["sweeps"].items():
        found[f"sweep_{name}"] = values["ratio"]
        found[f"compilations_{name}"] = values["compilations"]
    return found


def show(found: dict[str, Any], console: rich.console.Console) -> None:
    """Two tables and a list."""
    table = rich.table.Table("users", "batch", "ms a user", "ms of all cores", title="layouts")
    for row in found["layouts"]:
        table.add_row(
            row["layout"],
            str(row["batch"]),
            *(f"{1e3 * row[key]:.2f}" for key in ("seconds_per_user", "cpu_seconds_per_user")),
        )
    console.print(table)
    table = rich.table.Table("family", "users", "settings", "one program, s", "warm fits, s", "ratio", title="sweeps")
    for name, row in found["sweeps"].items():
        numbers = (f"{row[key]:.2f}" for key in ("seconds", "warm_fits_seconds", "ratio"))
        table.add_row(name, str(row["users"]), str(row["settings"]), *numbers)
    console.print(table)
    for name, value in found.items():
        if isinstance(value, float):
            console.print(f"{name.replace('_', ' ')}: {value:.4g}")


def page(found: dict[str, Any]) -> str:
    """Milliseconds a user by batch size: heads in turn, and the loop."""
    series = {
        layout: [(row["batch"], 1e3 * row["seconds_per_user"]) for row in found["layouts"] if row["layout"] == layout]
        for layout in ("in turn", "loop")
    }
    label = f"ms a user, {found['epochs']} epochs over {found['examples']} examples, by examples in an update"
    style = "polyline{fill:none;stroke:#246}.c1{stroke:#a42}.grid{stroke:#ddd}text{font:12px sans-serif}"
    drawn = plots.lines(series, label)
    return f"<!doctype html><meta charset=utf-8><style>{style}</style><p>{html.escape(label)}</p>{drawn}"


def main(options: Options) -> None:
    """Measures and prints."""
    found = measure(options)
    show(found, rich.console.Console())
    if options.plot is not None:
        options.plot.write_text(page(found))
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main(tyro.cli(Options))
