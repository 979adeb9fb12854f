import functools
import threading
import time

import jax
import numpy as np
import pytest

from hydrajax.nn import heads, scorer
from hydrajax.training import optimizers, out_of_core, step
from hydrajax.training import state as states
from hydrajax.types import DataError
from tests.training.conftest import D, X, assert_equal, edited, make_batch

pytestmark = pytest.mark.slow

C = 9
DIMS = heads.Dims(features=D, extras=X)
TX = optimizers.adamw(0.05, 0.1, clip=0.5)


@functools.cache
def build(family="linear", **settings):
    one = scorer.Scorer(family=heads.get(family, **settings), dims=DIMS)
    pure = step.make_train_step(one, TX, TX)
    return one, jax.jit(pure), jax.jit(pure, donate_argnums=0)


@functools.cache
def start(capacity=C, **settings):
    one, _, _ = build(**settings)
    return states.init_state(one, TX, TX, num_users=capacity, key=jax.random.key(0))


@functools.cache
def initial(**settings):
    """Every row has the initialisation that `start` gives it."""
    one, _, _ = build(**settings)
    return states.initial(one, TX, key=jax.random.key(0))


def empty(**settings):
    return out_of_core.in_memory(C, initial(**settings))


def copied(state):
    """The step may have the state's memory."""
    return jax.tree.map(lambda leaf: leaf.copy(), state)


def random_batches(n, seed=0):
    """Batches of one to four users of nine: successive ones share users nearly always; some slots are empty."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        rows = rng.permutation(C)[: rng.integers(1, 5)]
        batch, order = make_batch(list(rows), seed=i, capacity=C), rng.permutation(4)
        found.append(batch.replace(rows=batch.rows[order]))
    return found


def in_memory(batches, **settings):
    state, update = start(**settings), build(**settings)[1]
    metrics = []
    for batch in batches:
        state, one = update(state, batch)
        metrics.append(one)
    return state, metrics


def run(store, batches, prefetch=True, **settings):
    first, metrics = copied(start(capacity=1, **settings)), []
    last = first
    for state, one in out_of_core.stream(build(**settings)[2], first, store, iter(batches), prefetch=prefetch):
        last = state
        metrics.append(jax.device_get(one))
    return last, metrics


class Slow:
    """A store that takes its time, which notes what it does and whether two threads ever do it at once."""

    def __init__(self, store, read=0.0, write=0.0):
        self._store, self._seconds, self._busy = store, {"read": read, "write": write}, threading.Lock()
        self.capacity, self.done = store.capacity, []

    def _do(self, name, *args):
        assert self._busy.acquire(blocking=False)
        try:
            time.sleep(self._seconds[name])
            self.done.append((name, threading.current_thread().name))
            return getattr(self._store, name)(*args)
        finally:
            self._busy.release()

    def read(self, rows):
        return self._do("read", rows)

    def write(self, rows, values):
        return self._do("write", rows, values)


@pytest.mark.parametrize("prefetch", [True, False])
@pytest.mark.parametrize(("where", "dropout"), [("memory", 0.0), ("files", 0.5)])
def test_a_random_run_is_bit_identical_to_the_bank_in_memory(tmp_path, where, dropout, prefetch):
    batches, settings = random_batches(25), {"family": "mlp", "dropout": dropout}
    fresh = initial(**settings)
    store = (
        out_of_core.in_memory(C, fresh)
        if where == "memory"
        else out_of_core.create(tmp_path, C, fresh, rows_per_file=4)
    )
    with store:
        state, metrics = run(store, batches, prefetch, **settings)
        expected, expected_metrics = in_memory(batches, **settings)
        assert_equal(store.read(np.arange(C)), (expected.bank, expected.bank_opt))
    assert_equal(metrics, jax.device_get(expected_metrics))
    assert int(state.step) == 25


@pytest.mark.parametrize("seconds", [{"write": 0.02}, {"read": 0.02}])
def test_users_of_successive_batches_are_never_stale_however_slow_the_store(seconds):
    batches = [
        make_batch(rows, seed=i, capacity=C) for i, rows in enumerate([[0, 1], [1, 0, 2], [2], [1], [0, 1, 2]] * 2)
    ]
    store = empty()
    slow = Slow(store, **seconds)
    run(slow, batches)
    expected, _ = in_memory(batches)
    assert_equal(store.read(np.arange(C)), (expected.bank, expected.bank_opt))
    # Read ahead by one batch, in the background.
    assert [name for name, _ in slow.done] == ["read", *["read", "write"] * 9, "write"]
    assert {thread for _, thread in slow.done} == {"rows_0"}


def test_shared_parameters_learn_too():
    """A family with both: the store holds the heads, the state what is shared."""

    class Both(type(heads.get("linear"))):
        def init_shared(self, key, dims):
            return {"w0": jax.random.normal(key, (dims.inputs,))}

        def score(self, shared, user, x, key=None):
            return x @ (shared["w0"] + user["w"]) + user["b"]

    one = scorer.Scorer(family=Both(), dims=DIMS)
    update = jax.jit(step.make_train_step(one, TX, TX))
    make = functools.partial(states.init_state, one, TX, TX, key=jax.random.key(0))
    state, batches = make(num_users=C), random_batches(8)
    for batch in batches:
        state, _ = update(state, batch)
    store = out_of_core.in_memory(C, states.initial(one, TX, key=jax.random.key(0)))
    *_, (last, _) = out_of_core.stream(update, make(num_users=1), store, batches)
    assert_equal(store.read(np.arange(C)), (state.bank, state.bank_opt))
    assert_equal((last.shared, last.base_opt), (state.shared, state.base_opt))


def test_what_was_computed_is_written_where_the_loop_ends_early():
    batches, store = random_batches(6), empty()
    steps = out_of_core.stream(build()[2], copied(start(capacity=1)), Slow(store, write=0.02), batches)
    for _ in range(3):
        next(steps)
    steps.close()
    expected, _ = in_memory(batches[:3])
    assert_equal(store.read(np.arange(C)), (expected.bank, expected.bank_opt))
    assert list(out_of_core.stream(build()[1], start(), store, [])) == []


@pytest.mark.parametrize("prefetch", [True, False])
def test_a_fault_of_the_store_or_of_a_batch_ends_the_loop(prefetch):
    class Broken(Slow):
        def write(self, rows, values):
            if len(self.done) > 4:
                raise DataError("row 3 cannot be written (No space left on device)")
            super().write(rows, values)

    store = empty()
    with pytest.raises(DataError, match="No space left"):
        run(Broken(store), random_batches(9), prefetch)
    good = random_batches(3)
    for rows, message in (([5, 5], "row 5 comes twice, expected once"), ([-1, 5], "has row -1")):
        bad = make_batch([0, 1], capacity=C)
        with pytest.raises(DataError, match=message):
            run(store, [*good, bad.replace(rows=edited(bad.rows, slice(2), rows))], prefetch)


def test_the_step_is_traced_once_for_batches_of_one_shape():
    one, traces = build()[0], []
    pure = step.make_train_step(one, TX, TX)

    def counted(state, batch):
        traces.append(batch.x.shape)
        return pure(state, batch)

    long = [make_batch([1, 4], size=12, seed=i, capacity=C) for i in range(3)]
    batches = [*random_batches(5), *long, *random_batches(5)]
    store = empty()
    for _ in out_of_core.stream(jax.jit(counted), start(), store, batches):
        pass
    # The state before the first step has another bank than the state between two steps, not another shape of rows.
    assert traces == [(4, 6, D), (4, 12, D)]


def test_a_store_is_not_closed_under_a_stream():
    batches, store = random_batches(3), empty()
    expected = in_memory(batches[:1])[0]
    steps = out_of_core.stream(build()[2], copied(start(capacity=1)), store, iter(batches))
    next(steps)
    with pytest.raises(DataError, match="a stream goes over the bank, leave its loop before you close it"):
        store.close()
    steps.close()
    assert_equal(store.read(np.arange(C)), (expected.bank, expected.bank_opt))
    store.close()
    with pytest.raises(DataError, match="the bank is closed"):
        next(out_of_core.stream(build()[2], copied(start(capacity=1)), store, iter(batches)))
