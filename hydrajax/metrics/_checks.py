"""What every metric asks of its arguments."""

from collections.abc import Sequence


def paired(predictions: Sequence[str], golds: Sequence[str]) -> None:
    """Raises ValueError unless there is at least one prediction and exactly one gold for each."""
    if len(predictions) != len(golds):
        raise ValueError(
            f"a metric got {len(predictions)} predictions and {len(golds)} golds, expected as many of each"
        )
    if not golds:
        raise ValueError("a metric got no predictions, expected at least one")
