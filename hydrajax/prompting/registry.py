"""Prompt strategies by name: files of the folder `strategies`, or modules and files of one's own (see `plugins`)."""

from collections.abc import Iterable, Mapping, Sequence

from hydrajax import plugins
from hydrajax.data import tasks
from hydrajax.prompting import outside
from hydrajax.prompting.contract import PromptSettings, Strategy
from hydrajax.types import DataError, User

_KIND = plugins.Kind(what="prompt strategy", package="hydrajax.prompting.strategies", attribute="STRATEGY")
_own: dict[str, outside.Outside] = {}  # what was found outside of the folder, by the last part of its name


names = _KIND.names
summaries = _KIND.summaries


def get(name: str) -> Strategy:
    """The strategy of a name; one of one's own is known by the last part of its name from then on.

    Raises:
      DataError: there is none, or another strategy is called so.
    """
    if name in _own:
        return _own[name]
    strategy, last = _KIND.load(name), plugins.last_part(name)
    if isinstance(strategy, type) and issubclass(strategy, Strategy):
        raise DataError(f"prompt strategy {name!r}: STRATEGY is a class, expected STRATEGY = {strategy.__name__}()")
    if not isinstance(strategy, Strategy):
        raise DataError(f"prompt strategy {name!r}: STRATEGY is {strategy!r:.80}, expected a contract.Strategy")
    if name in names():
        return strategy
    if last in names() or (last in _own and _own[last].inner is not strategy):
        raise DataError(f"prompt strategy {name!r}: another one is called {last!r}, rename the file")
    if last not in _own:
        _own[last] = outside.Outside(strategy, name)
    return _own[last]


def apart(names: Iterable[str]) -> tuple[str, ...]:
    """Names that are given apart or joined by commas."""
    stripped = (name.strip() for joined in names for name in joined.split(","))
    return tuple(filter(None, stripped))


def permitted(chosen: Sequence[str], *, cross_user: bool) -> tuple[str, ...]:
    """What these strategies are called in results; those that look at other users' records are left out where that is
    switched off.

    Raises:
      DataError: some of them do not exist, or are none: a sentence for each of these.
    """
    wrong = []
    for name in dict.fromkeys(chosen):
        try:
            get(name)
        except DataError as error:
            wrong.append(str(error))
    if wrong:
        raise DataError("\n".join(wrong))
    return tuple(plugins.last_part(name) for name in chosen if not get(name).compares or cross_user)


def lacking(
    chosen: Sequence[str], task: tasks.Task, population: Mapping[str, User], settings: PromptSettings
) -> dict[str, str]:
    """What data lack that these strategies need, by what the strategies are called; without those that lack nothing."""
    said = {plugins.last_part(name): get(name).lacking(task, population, settings) for name in chosen}
    return {name: sentence for name, sentence in said.items() if sentence}


def left_out(chosen: Sequence[str], *, cross_user: bool) -> tuple[str, ...]:
    """The others of these strategies, by what they would be called, in alphabetical order."""
    return tuple(sorted({*permitted(chosen, cross_user=True)} - {*permitted(chosen, cross_user=cross_user)}))
