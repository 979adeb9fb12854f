"""What tests of whole fits share: the training users, the new ones, and two configurations."""

import dataclasses
import functools

import jax

from hydrajax.training import fit
from hydrajax.training.config import FitConfig
from hydrajax.training.examples import Examples
from tests.training.conftest import make_examples, make_tokens

TRAIN = make_examples((12, 9, 16, 7, 10))
NEW_SIZES = (10, 0, 16, 6)
NEW = make_examples(NEW_SIZES, seed=9)
U = len(NEW_SIZES)
MLP = FitConfig(
    epochs=4,
    learning_rate=0.02,
    pooled_epochs=3,
    pooled_learning_rate=0.02,
    pooled_ridge=1.0,
    prior_strength=1.0,
    offset_strength=1.0,
    batch_examples=16,
    dropout=0.0,
    fit_bank=False,
)


LINEAR = dataclasses.replace(MLP, family="linear")
BASE = dataclasses.replace(LINEAR, train_base=True, epochs=2, base_learning_rate=0.05, batch_examples=8)


@functools.cache
def pretrained(config):
    """On the training users."""
    return fit.pretrain(config, TRAIN, 5)


def texts(sizes, seed):
    examples = make_examples(sizes, seed=seed)
    packed = make_tokens(sum(sizes), seed=seed)
    packed = jax.tree.map(lambda leaf: leaf[:, :16], packed)
    return Examples(**{**vars(examples), "x": packed})
