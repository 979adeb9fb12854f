import numpy as np
import pytest

from hydrajax.training.examples import Examples
from hydrajax.types import DataError
from tests.training.conftest import make_examples, make_tokens

GOOD = vars(make_examples((2, 3)))


def test_types_are_those_that_training_needs():
    other = {"user": np.array([0, 0, 1, 1, 1]), "label": np.array([True, False, True, True, False])}
    examples = Examples(**{**GOOD, **other})
    assert {name: array.dtype for name, array in vars(examples).items()} == {
        name: np.int32 if name in ("user", "pool") else np.float32 for name in GOOD
    }


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"label": np.zeros(4)}, r"label has shape \[4\], expected \[5\]"),
        ({"extras": np.zeros(5)}, r"extras has shape \[5\], expected \[5, X\]"),
        ({"x": np.zeros((4, 5))}, r"x has shape \[4, 5\], expected \[5, D\]"),
        ({"x": np.full((5, 2), np.nan)}, "x of row 0 is not a finite number"),
        ({"score": np.array([0, 1, 2, np.inf, 0])}, "score of row 3 is not a finite number"),
        ({"label": np.array([0, 1, 2, 0, 0])}, "label of row 2 is 2.0, expected a number from 0 to 1"),
        ({"user": np.array([0, -1, 0, 0, 0])}, "user of row 1 is -1, expected 0 or more"),
        ({"x": make_tokens(3)}, "x has 3 texts, expected 5"),
    ],
)
def test_faults_are_named(change, says):
    with pytest.raises(DataError, match=says):
        Examples(**{**GOOD, **change})


def test_a_user_beyond_the_last_is_named():
    with pytest.raises(DataError, match="user of row 2 is 1, expected less than 1 users"):
        Examples(**GOOD).check_users(1)
