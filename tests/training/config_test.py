import subprocess
import sys

import numpy as np
import pytest

from hydrajax.training import config, losses
from hydrajax.types import DataError


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({"batch_examples": 2.5}, "batch_examples is 2.5, expected a whole number"),
        ({"epochs": "3"}, "epochs is '3', expected a whole number"),
        ({"epochs": True}, "epochs is True"),
        ({"epochs": -1}, "epochs is -1, expected 0 or more"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast', expected a number"),
        ({"learning_rate": 1000}, "learning_rate is 1000, expected more than 0 and less than 1000"),
        ({"weight_decay": None}, "weight_decay is None, expected a number"),
        ({"prior_strength": float("inf")}, "prior_strength is inf, expected a finite number of 0 or more"),
        ({"seed": 1.5}, "seed is 1.5, expected a whole number"),
        ({"seed": 2**31}, "seed is 2147483648, expected a whole number, 0 or more"),
    ],
)
def test_settings_are_numbers(numbers, says):
    with pytest.raises(DataError, match=says):
        config.check_numbers(**numbers)


def test_numbers_of_numpy_are_numbers():
    config.check_numbers(epochs=np.int64(3), learning_rate=np.float32(0.1), seed=np.uint8(0))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"loss": "hinge"}, "loss is 'hinge', expected one of cross_entropy, pairwise"),
        ({"init": "zeros"}, "init is 'zeros', expected one of pooled, fresh"),
        ({"moments": "float16"}, "moments is 'float16', expected one of float32, bfloat16"),
        ({"family": "forest"}, "unknown head family 'forest', expected one of"),
        ({"family": "mlp:width=0"}, "width of Mlp is 0, expected 1 or more"),
        ({"pooled_ridge": -1.0}, "pooled_ridge is -1.0"),
        ({"users_per_batch": 0}, "users_per_batch is 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, says):
    changed = config.FitConfig()
    for name, value in change.items():
        object.__setattr__(changed, name, value)  # past the tests' own check of types
    with pytest.raises(DataError, match=says):
        config.check(changed)


def test_the_names_of_losses_are_those_there_are():
    assert set(config.LOSSES) == set(losses.LOSSES)


def test_a_configuration_imports_and_is_checked_without_numerical_libraries():
    program = (
        "import sys; import hydrajax.training.config as c; c.check(c.FitConfig());"
        "print(*({'jax', 'flax', 'optax', 'grain', 'orbax', 'sklearn', 'numpy'} & {*sys.modules}))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
