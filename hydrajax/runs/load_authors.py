"""The authors and their texts of an authorship run, from its configuration."""

import pathlib
from collections.abc import Callable

from hydrajax.data import authorship, texts_by_author
from hydrajax.prompting import registry
from hydrajax.runs.authorship_config import Authorship
from hydrajax.types import DataError


def load(config: Authorship, say: Callable[[str], None]) -> authorship.Authorship:
    """See `run.Loader`.

    Raises:
      DataError: an unknown strategy, or one that needs what the texts lack; faulty texts, or too few of them.
    """
    for name in registry.left_out(config.strategies, cross_user=config.cross_user):
        say(f"note: {name} looks at other authors' texts, which is switched off: it is left out")
    assert not isinstance(config.shown_words, str)
    data = authorship.draw(
        texts_by_author.read([pathlib.Path(path) for path in config.data]),
        authors=config.authors,
        shown=config.shown,
        validation=config.validation,
        test=config.test,
        shown_words=config.shown_words,
        least_unseen=authorship.LEAST_UNSEEN if config.judge == "classifier" else 0,
        seed=config.seed,
    )
    for sentence in data.notes:
        say(f"note: {sentence}")
    for name, sentence in registry.lacking(config.compared, authorship.TASK, data.users, config.prompts).items():
        raise DataError(f"{name} {sentence}: leave it out")
    return data
