"""A step refuses a state or a batch of another kind, when it is traced."""

import jax
import jax.numpy as jnp
import optax
import pytest

import hydrajax.training
from hydrajax.nn import heads, scorer
from hydrajax.training import optimizers, step
from hydrajax.types import DataError
from tests.training.conftest import make_batch
from tests.training.steps import BASE_TX, DIMS, HEAD_TX, build


@pytest.fixture
def plain():
    return build(dropout=0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head_tx": optax.sgd(0.1)}, "the state's bank_opt for this head_tx: have 1/count"),
        ({"head_tx": optimizers.adamw(0.1, 0.1, moments=jnp.bfloat16)}, "bank_opt .* 1/mu/b1 is float32.*uint16"),
        ({"family": "linear"}, "the state's bank: lack b: of another family or optimizer"),
        ({"family": "low_rank_mlp"}, "the state's bank: "),
        ({"width": 3}, r"the state's bank: b1 is float32\[6, 5\], expected float32\[6, 3\]"),
    ],
)
def test_a_state_of_another_kind_is_one_sentence(plain, change, message):
    _, state, _ = plain
    settings = {"width": change["width"]} if "width" in change else {}
    one = scorer.Scorer(family=heads.get(change.get("family", "mlp"), **settings), dims=DIMS)
    update = jax.jit(step.make_train_step(one, BASE_TX, change.get("head_tx", HEAD_TX)))
    with pytest.raises(DataError, match=message):
        update(state, make_batch([0]))


def test_other_shared_parameters_and_their_optimizer_are_one_sentence():
    one, state, _ = build("shared", dropout=0.0)
    with pytest.raises(DataError, match="the state's base_opt for this base_tx: have 1/count"):
        jax.jit(step.make_train_step(one, optax.sgd(0.1), HEAD_TX))(state, make_batch([0]))
    with pytest.raises(DataError, match="the state's shared: lack b1"):
        jax.jit(step.make_train_step(one, BASE_TX, HEAD_TX))(state.replace(shared={}), make_batch([0]))


def test_a_batch_of_another_width_is_one_sentence(plain):
    one, state, update = plain
    batch = make_batch([0])
    for call in (update, jax.jit(step.make_eval_step(one))):
        with pytest.raises(DataError, match=r"x of the batch is \[4, 6, 4\], expected \[U, E, 5\]"):
            call(state, batch.replace(x=batch.x[..., :-1]))
        with pytest.raises(DataError, match=r"extras of the batch is \[4, 6, 0\], expected \[U, E, 2\]"):
            call(state, batch.replace(extras=batch.extras[..., :0]))


@pytest.mark.slow
def test_families_that_encode_users_are_scored_elsewhere():
    one = scorer.Scorer(family=heads.get("facets"), dims=DIMS)
    with pytest.raises(DataError, match=r"Facets encodes users from profiles: score them with fit.predict"):
        step.make_eval_step(one)


@pytest.mark.slow
def test_the_functions_are_found_by_their_short_names():
    assert hydrajax.training.make_train_step is step.make_train_step
    assert {name: getattr(hydrajax.training, name).__name__ for name in hydrajax.training.PUBLIC}.keys() >= {
        "init_state",
        "make_eval_step",
    }
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hydrajax.training.nothing
