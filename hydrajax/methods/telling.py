"""What fits warn of: told once a scorer, with its name. A scorer is fitted several times, by loss and by part of the
users, and a fit does not know what it is for."""

import contextlib
import logging
from collections.abc import Iterator

FITS = logging.getLogger("hydrajax.training.choosing")


@contextlib.contextmanager
def once(scorer: str) -> Iterator[None]:
    """Inside, the first warning of a fit is told as that of this scorer, the others are not."""
    with _filtered(scorer):
        yield


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Inside, fits warn of nothing: of a scorer that was fitted before, on all that there is."""
    with _filtered(None):
        yield


@contextlib.contextmanager
def _filtered(scorer: str | None) -> Iterator[None]:
    told = scorer is None

    def first(record: logging.LogRecord) -> bool:
        nonlocal told
        if record.levelno < logging.WARNING:
            return True
        if told:
            return False
        told = True
        record.msg = f"{scorer}: {record.msg}"
        return True

    FITS.addFilter(first)
    try:
        yield
    finally:
        FITS.removeFilter(first)
