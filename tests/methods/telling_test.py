"""A warning of fits is told once a scorer, with its name."""

import logging

from hydrajax.methods import telling

LOG = logging.getLogger("hydrajax.training.choosing")


def test_the_first_warning_alone_is_told_with_the_scorer_s_name(caplog):
    with telling.once("adapter"):
        for loss in (1.2, 1.4):
            LOG.warning("loses %.1f", loss)
    with telling.once("reranker"):
        LOG.warning("loses %.1f", 0.3)
    with telling.silent():
        LOG.warning("loses %.1f", 0.5)
    LOG.warning("loses %.1f", 0.7)
    assert caplog.messages == ["adapter: loses 1.2", "reranker: loses 0.3", "loses 0.7"]
