import functools

import jax
import numpy as np
import pytest

from hydrajax.nn import heads, scorer
from hydrajax.training import checkpoints, loop, optimizers, step
from hydrajax.training import state as states
from hydrajax.types import DataError
from tests.training.conftest import D, X, assert_equal, make_examples

SIZES = (3, 7, 20, 12)
EPOCHS = 3
PLAN = loop.plan(make_examples(SIZES), len(SIZES), epochs=EPOCHS, users_per_batch=2, batch_examples=8)
ONE = scorer.Scorer(family=heads.get("mlp", dropout=0.3), dims=heads.Dims(features=D, extras=X))
TX = optimizers.adamw(0.05, 0.01)
STEP = step.make_train_step(ONE, TX, TX)


@functools.cache
def fresh():
    return states.init_state(ONE, TX, TX, num_users=len(SIZES), key=jax.random.key(0))


def run(folder=None, **kwargs):
    kwargs = {"run_id": "a", "save_every": 2} | kwargs
    return loop.run(STEP, fresh(), PLAN, checkpoint=folder, **kwargs)


def stop_at(step_number):
    def progress(done, total):
        if done == step_number:
            raise KeyboardInterrupt

    return progress


@pytest.fixture(scope="module")
def uninterrupted():
    return run()


@pytest.mark.parametrize("stops", [(1,), (5,), (4, 7)])
def test_a_resumed_run_ends_bit_identical(tmp_path, uninterrupted, stops):
    for number in stops:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, progress=stop_at(number))
    steps = []
    state, curve = run(tmp_path, progress=lambda done, total: steps.append(done))
    assert steps[0] == 2 * (stops[-1] // 2) + 1
    assert_equal(state, uninterrupted[0])
    assert curve == uninterrupted[1]


def test_a_finished_run_is_not_repeated(tmp_path, uninterrupted):
    run(tmp_path)
    state, curve = run(tmp_path, progress=stop_at(1))
    assert_equal(state, uninterrupted[0])
    assert curve == uninterrupted[1]


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, progress=stop_at(3))
    with pytest.raises(DataError, match="another run: name another folder"):
        run(tmp_path, run_id="b")


def test_the_callers_arrays_survive():
    state = fresh()
    loop.run(STEP, state, PLAN)
    assert np.isfinite(state.bank["w1"]).all()


def test_the_curve_is_the_mean_loss_of_every_epoch(uninterrupted):
    _, curve = uninterrupted
    assert len(curve) == EPOCHS
    assert curve[0] > curve[-1]
    jitted, state = jax.jit(STEP, donate_argnums=0), jax.tree.map(lambda leaf: leaf.copy(), fresh())
    feed = PLAN.iterator()
    sums = np.zeros((EPOCHS, 2))
    for epoch, batches_ in enumerate(PLAN.epochs):
        for _ in batches_:
            state, metrics = jitted(state, next(feed))
            sums[epoch] += float(metrics["loss"]), float(metrics["weight"])
    np.testing.assert_allclose(curve, sums[:, 0] / sums[:, 1], rtol=1e-6)
    assert (sums[:, 1] == sum(SIZES)).all()


def test_a_checkpoint_of_other_shapes_is_one_sentence(tmp_path):
    with checkpoints.opened(tmp_path) as kept:
        kept.save(1, {"w": np.zeros(3, np.float32)}, {})
    with checkpoints.opened(tmp_path) as kept:
        for other, says in (
            ({"v": jax.numpy.zeros(4)}, "checkpoint 1: lack v"),
            ({"w": jax.numpy.zeros(4)}, r"checkpoint 1: w is float32\[3\], expected float32\[4\]"),
            (
                {"w": jax.numpy.zeros(3, jax.numpy.uint16)},
                r"w is float32\[3\], expected uint16\[3\]: it is of another run",
            ),
        ):
            with pytest.raises(DataError, match=says):
                kept.load(other)
        np.testing.assert_array_equal(kept.load({"w": jax.numpy.ones(3)})["w"], 0)


def test_only_the_newest_two_are_kept_and_notes_come_back_exactly(tmp_path):
    note = {"sums": [[0.1 + 0.2, 1e-17]], "run_id": "x"}
    with checkpoints.opened(tmp_path) as kept:
        assert kept.note() is None
        for number in (1, 2, 3):
            kept.save(number, {"w": np.full(3, number, np.float32)}, note | {"done": number})
    with checkpoints.opened(tmp_path) as kept:
        assert kept.note() == note | {"done": 3}
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.isdigit()) == ["2", "3"]


def test_a_state_comes_back_whole_also_like_one_of_numpy(tmp_path):
    state = {"key": jax.random.key(3), "w": jax.numpy.ones(2)}
    with checkpoints.opened(tmp_path) as kept:
        kept.save(0, state, {})
        assert_equal(kept.load(state), state)
        np.testing.assert_array_equal(kept.load({**state, "w": np.zeros(2, np.float32)})["w"], 1)


def test_a_checkpoint_that_would_not_be_written_is_one_sentence(tmp_path):
    state = {"w": np.zeros(3, np.float32)}
    with checkpoints.opened(tmp_path / "run") as kept:
        kept.save(5, state, {})
        for number in (3, 5, 0):
            with pytest.raises(DataError, match=f"has a checkpoint of step 5, expected a later one than {number}"):
                kept.save(number, state, {})
        with pytest.raises(DataError, match="step is -1, expected a whole number, 0 or more"):
            kept.save(-1, state, {})
        with pytest.raises(DataError, match="the note of checkpoint 6 is no JSON .*set is not JSON"):
            kept.save(6, state, {"users": {1, 2}})
        kept.save(7, state, {"users": [1, 2]})
        assert kept.note() == {"users": [1, 2]}
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(DataError, match="checkpoints cannot be written there"), checkpoints.opened(folder):
            pass
