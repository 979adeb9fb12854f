import doctest

import pytest

import hydrajax.nn
import hydrajax.training


@pytest.mark.slow
def test_the_examples_in_the_documentation_run():
    for module in (hydrajax.training, hydrajax.nn):
        result = doctest.testmod(module)
        assert result.attempted > 0
        assert result.failed == 0
