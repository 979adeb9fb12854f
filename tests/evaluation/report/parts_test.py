import pytest

from hydrajax.evaluation.report import parts


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.25, "1.2 s"), (59.0, "59.0 s"), (61.0, "1 min 1 s"), (7260.0, "2 h 1 min")]
)
def test_durations_have_the_unit_that_they_deserve(seconds, text):
    assert parts.duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (0, "$0.00"), (12.345, "$12.35"), (0.00123, "$0.0012")])
def test_dollars_have_the_digits_that_they_deserve(value, text):
    assert parts.dollars(value) == text
